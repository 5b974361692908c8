"""R-hat and effective numbers of draws, for chains and for islands.

Chains: the rank-normalised statistics of Vehtari et al. (arXiv:1903.08008), from ArviZ. Islands: independent runs whose
draws come in no order, so that no autocorrelation can be seen; what can is how far the islands' means lie apart,

    effective draws = m var(x) / var(means of m islands).

That number is an estimate from m means: its relative error is sqrt(2 / (m - 1)), for 16 islands sqrt(2 / 15) = 37 %.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Convergence", "convergence", "island_size"]

Array = NDArray[np.float64]
TAILS = (0.05, 0.95)


class Convergence(NamedTuple):
    """What is known of the sampling of one number."""

    r_hat: float
    ess_bulk: float
    ess_tail: float


def convergence(values: Array, limit: float = math.inf, islands: bool = False) -> Convergence:
    """R-hat and effective draws of one number.

    Arguments:
        values: with shape (chain, draw).
        limit: what no effective number may exceed: resampling repeats draws, which no autocorrelation can see.
        islands: whether each chain is an island.
    """
    if np.ptp(values) == 0.0:
        # A number that never moved has no R-hat; the verdict must not take it for a converged one.
        return Convergence(math.nan, 0.0, 0.0)
    # Chains that are each stuck at a place of their own divide by zero: R-hat is then infinite, as it should be.
    with np.errstate(divide="ignore", invalid="ignore"):
        bulk, tail = _of_islands(values) if islands else _of_chains(values)
        return Convergence(_r_hat(values), min(bulk, limit), min(tail, limit))


def _r_hat(values: Array) -> float:
    import arviz

    # ArviZ wants two chains for R-hat; the halves of a single one are a fair test of drift.
    half = values.shape[1] // 2
    chains = values if len(values) > 1 else values[0, : 2 * half].reshape(2, half)
    return float(arviz.rhat(chains))


def _of_chains(values: Array) -> tuple[float, float]:
    import arviz

    return float(arviz.ess(values, method="bulk")), float(arviz.ess(values, method="tail"))


def _of_islands(values: Array) -> tuple[float, float]:
    tails = (island_size((values <= edge).astype(np.float64)) for edge in np.quantile(values, TAILS))
    return island_size(values), min(tails)


def island_size(values: Array) -> float:
    """Effective draws of the mean of islands with shape (island, draw), at most all; NaN of a single one.

    >>> round(island_size(np.array([[1.0, 3.0], [2.0, 4.0], [1.5, 3.5], [2.5, 2.5]])), 1)
    8.0
    """
    if len(values) < 2:
        return math.nan
    spread = float(values.mean(1).var(ddof=1))
    return min(len(values) * float(values.var()) / spread, float(values.size)) if spread > 0.0 else float(values.size)
