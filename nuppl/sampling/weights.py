"""Importance weights of a guide's draws against the exact density, and what follows from them.

log w = log p(u, data) - log q(u),   evidence Z = mean w,   effective draws = (sum w)^2 / sum w^2.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from nuppl.errors import InputError
from nuppl.language.density import Whitened
from nuppl.language.precision import seeded
from nuppl.language.simulation import tile_seed
from nuppl.results.checkpoints import Checkpoints
from nuppl.results.draws import effective_size, pareto_k
from nuppl.sampling.guides import Guide
from nuppl.sampling.recorder import Recorder
from nuppl.sampling.settings import Settings
from nuppl.typing import Progress, silent

__all__ = ["by_weight", "everything", "evidence", "log_weights", "resample", "weighted_draws"]


def log_weights(whitened: Whitened, u: Tensor, log_q: Tensor, progress: Progress = silent) -> Tensor:
    """log p - log q with shape (n,), for draws with shape (n, D)."""
    parts, done = [], 0
    with torch.no_grad():
        for part in u.split(whitened.chunk):
            parts.append(whitened.log_prob(part))
            done += len(part)
            progress(done, len(u), "weights")
    return torch.cat(parts) - log_q


def evidence(weights: Tensor) -> dict[str, float]:
    """What a set of log weights with shape (chain, n) says: evidence, effective draws, efficiency, Pareto k.

    Raises:
        InputError: every weight is zero.
    """
    flat = weights.reshape(-1)
    _check_overlap(flat)
    n, effective = len(flat), effective_size(flat)
    return {
        "log_evidence": float(flat.logsumexp(0)) - math.log(n),
        "log_evidence_error": math.sqrt(max(1.0 / effective - 1.0 / n, 0.0)),
        "effective_draws": effective,
        "efficiency": effective / n,
        "pareto_k": pareto_k(flat),
        "proposals": n,
    }


def _check_overlap(log_weight: Tensor) -> None:
    if not bool((log_weight > -torch.inf).any()):
        raise InputError("the posterior density is zero at every proposal: the guide and the model do not overlap")


Keep = Callable[[Tensor, int], Tensor]
"""Which proposals of a batch become draws: from their log weights with shape (n,) and the number of the batch to
indices with shape (draws,)."""


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


def by_weight(settings: Settings, stream: int) -> Keep:
    """As many draws of a batch as a chain has, resampled to equal weights with a stream of random numbers."""

    def keep(log_weight: Tensor, batch: int) -> Tensor:
        return resample(log_weight, settings.draws, tile_seed(settings.seed, stream, batch))

    return keep


def everything(log_weight: Tensor, batch: int) -> Tensor:
    """All proposals as they are, for a guide whose weights serve as a certificate."""
    return torch.arange(len(log_weight))


def weighted_draws(
    whitened: Whitened, guide: Guide, proposals: int, keep: Keep, settings: Settings, progress: Progress
) -> tuple[Recorder, dict[str, float | int | str]]:
    """A guide's draws, a batch of proposals per chain, and what their weights say.

    Raises:
        InputError: every weight of a batch is zero.
    """
    store = Checkpoints(settings.scratch)
    kept = store.load("batches") or {"weights": []}
    recorder = Recorder(whitened, settings.chains, settings.draws, settings, kept.get("recorder"))
    weights: list[Tensor] = kept["weights"]

    def shown(done: int, _: int, what: str) -> None:
        progress(len(weights) * proposals + done, settings.chains * proposals, what)

    for chain in range(len(weights), settings.chains):
        u, log_q = guide.sample(proposals, settings.seed, chain)
        log_w = log_weights(whitened, u, log_q, shown)
        _check_overlap(log_w)
        picked = keep(log_w, chain)
        stats = {"lp": log_w + log_q, "log_weight": log_w}
        recorder.append(u[picked][None], {name: value[picked][None] for name, value in stats.items()}, chain)
        weights.append(log_w)
        if store.due() or len(weights) == settings.chains:
            store.save("batches", {"weights": weights, "recorder": recorder.state()})
    return recorder, dict(evidence(torch.stack(weights)))
