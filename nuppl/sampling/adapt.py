"""A Gaussian moved onto a density by its own importance weights, round by round.

Population Monte Carlo (Cappe, Guillin, Marin and Robert, J. Comput. Graph. Stat. 13 (2004) 907): draws of a Student
proposal are weighted, and mean and covariance of the weighted draws make the next proposal. Weights are truncated at
sqrt(n) times their mean (Ionides, J. Comput. Graph. Stat. 17 (2008) 295), so that one draw cannot take all.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

from nuppl.results.draws import effective_size
from nuppl.sampling.guides import GaussianGuide, TailedGuide
from nuppl.sampling.metric import from_particles

__all__ = ["adapt", "weighted_moments"]

_ROUNDS, _DRAWS, _ENOUGH = 6, 1024, 0.5
"""Rounds end when this share of the draws is effective."""


def adapt(density: Callable[[Tensor], Tensor], guide: GaussianGuide, seed: int, stream: int) -> GaussianGuide:
    """The Gaussian with the moments of a density, as far as a few rounds bring it there.

    Arguments:
        density: points (n, d) to log density (n,), unnormalised.
        guide: the first guess.
        seed, stream: of the random numbers; every round takes a stream.
    """
    for round_ in range(_ROUNDS):
        x, log_q = TailedGuide.everywhere(guide).sample(_DRAWS, seed, stream + round_)
        log_w = density(x) - log_q
        if not bool(log_w.isfinite().any()):
            return guide
        share = effective_size(log_w) / _DRAWS
        guide = GaussianGuide(*weighted_moments(x, log_w), guide.missed)
        if share > _ENOUGH:
            break
    return guide


def weighted_moments(x: Tensor, log_weight: Tensor) -> tuple[Tensor, Tensor]:
    """The mean with shape (d,) and a factor of the covariance with shape (d, d) of draws with truncated weights.

    Arguments:
        x: with shape (n, d).
        log_weight: with shape (n,).
    """
    log_weight = log_weight.clamp(max=float(log_weight.logsumexp(0)) - 0.5 * math.log(len(x)))
    return (log_weight - log_weight.logsumexp(0)).exp() @ x, from_particles(x, log_weight).factor
