"""Importance sampling: a guide's draws weighted by the program, then resampled.

The posterior is exact in the limit of many proposals whatever the guide; effective size and Pareto k say whether the
limit is near (Vehtari et al., arXiv:1507.02646). Each chain is an independent batch of proposals.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from nuppl.inference.guides import GaussianGuide, Guide
from nuppl.inference.recorder import collect
from nuppl.inference.registry import resolved
from nuppl.inference.settings import Settings
from nuppl.inference.structured import structured_guide, tailed
from nuppl.inference.svi import svi_guide
from nuppl.inference.weights import evidence, log_weights
from nuppl.language.density import Whitened
from nuppl.language.precision import double_precision, seeded
from nuppl.language.program import Program
from nuppl.language.simulation import tile_seed
from nuppl.results.draws import Draws
from nuppl.typing import Progress, silent

__all__ = ["importance"]


def _prior_guide(whitened: Whitened, settings: Settings, progress: Progress) -> Guide:
    return GaussianGuide(torch.zeros(whitened.dim), torch.eye(whitened.dim))


_GUIDES: dict[str, Callable[[Whitened, Settings, Progress], Guide]] = {
    "laplace": structured_guide,
    "svi": lambda whitened, settings, progress: tailed(whitened, svi_guide(whitened, settings, progress)),
    "prior": _prior_guide,
}
"""Guides by name."""

_RESAMPLE = 1 << 20
"""The stream of random numbers for resampling, apart from the proposals' streams."""


@double_precision()
def importance(program: Program, settings: Settings, progress: Progress = silent) -> Draws:
    """Weighted draws of a guide, resampled to equal weights.

    Raises:
        InputError: a guide that does not overlap with the posterior.
    """
    settings = resolved("importance", settings)
    whitened = Whitened(program)
    guide = _GUIDES[settings.guide](whitened, settings, progress)
    kept, weights = [], []
    for chain in range(settings.chains):
        u, log_q = guide.sample(settings.proposals, settings.seed, chain)
        log_w = log_weights(whitened, u, log_q, progress)
        picked = resample(log_w, settings.draws, tile_seed(settings.seed, _RESAMPLE, chain))
        kept.append((u[picked], (log_w + log_q)[picked], log_w[picked]))
        weights.append(log_w)
    u, density, log_w = (torch.stack(part) for part in zip(*kept, strict=True))
    attrs: dict[str, float | int | str] = {
        **evidence(torch.stack(weights)),
        "guide": settings.guide,
        "modes_missed": guide.missed,
    }
    return collect(whitened, settings, u, {"lp": density, "log_weight": log_w}, attrs, "importance")


def resample(log_weight: Tensor, n: int, seed: int) -> Tensor:
    """Indices of n draws in proportion to their weights, by systematic resampling (Carpenter et al. 1999), shuffled.

    >>> resample(torch.tensor([0.0, -1e9, 0.0]), 4, seed=1).unique().tolist()
    [0, 2]
    """
    probabilities = (log_weight - log_weight.logsumexp(0)).exp()
    with seeded(seed):
        positions = (torch.arange(n, dtype=torch.float64) + torch.rand(1, dtype=torch.float64)) / n
        order = torch.randperm(n)
    cumulative = probabilities.double().cumsum(0)
    indices = torch.searchsorted(cumulative / cumulative[-1], positions).clamp(max=len(log_weight) - 1)
    return indices[order]
