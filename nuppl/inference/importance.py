"""Importance sampling: a guide's draws weighted by the program, then resampled.

The posterior is exact in the limit of many proposals whatever the guide; effective size and Pareto k say whether the
limit is near (Vehtari et al., arXiv:1507.02646). Each chain is an independent batch of proposals.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from nuppl.inference.registry import resolved
from nuppl.inference.svi import svi_guide
from nuppl.language.density import Whitened
from nuppl.language.precision import double_precision
from nuppl.language.program import Program
from nuppl.results.draws import Draws
from nuppl.sampling.guides import GaussianGuide, Guide
from nuppl.sampling.settings import Settings
from nuppl.sampling.structured import structured_guide, tailed, tempered_guide
from nuppl.sampling.weights import by_weight, weighted_draws
from nuppl.typing import Progress, silent

__all__ = ["importance"]


def _prior_guide(whitened: Whitened, settings: Settings, progress: Progress) -> Guide:
    return GaussianGuide(torch.zeros(whitened.dim), torch.eye(whitened.dim))


_GUIDES: dict[str, Callable[[Whitened, Settings, Progress], Guide]] = {
    "laplace": structured_guide,
    "svi": lambda whitened, settings, progress: tailed(whitened, svi_guide(whitened, settings, progress)),
    "prior": _prior_guide,
    "tempered": tempered_guide,
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
    keep = by_weight(settings, _RESAMPLE)
    recorder, said = weighted_draws(whitened, guide, settings.proposals, keep, settings, progress)
    return recorder.finish({**said, "guide": settings.guide, "modes_missed": guide.missed}, "importance")
