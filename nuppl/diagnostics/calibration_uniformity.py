r"""Whether ranks are uniform: simultaneous bands for their empirical distribution, with exact probabilities.

Of N ranks, each one of 0, ..., L, the number below a threshold t is binomial with probability z = t / (L + 1). With

    g(t) = 2 min(P(X <= x), P(X >= x)),   X ~ Binomial(N, z),

of the observed counts x the test statistic is the least g over all thresholds, and a band holds all counts with g above
one level (Sailynoja, Burkner, Vehtari, arXiv:2103.10522). The probability that uniform ranks stay inside a band is
computed, not simulated: counts in N cells are those of a Poisson process that is known to have N points, so that it is
a chain of convolutions (Moscovich, Nadler, arXiv:1507.07048).
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, poisson

__all__ = ["Band", "band", "counts", "thresholds", "uniformity"]

Array = NDArray[np.float64]
Whole = NDArray[np.int64]

MOST = 100
"""Thresholds at which ranks are counted: more would make bands wider."""
_TIE = 1.0 + 1e-9
_HALVINGS = 40
_NEGLIGIBLE = 1e-20


class Band(NamedTuple):
    """Where the empirical distribution of uniform ranks lies.

    Attributes:
        at: shares of the ranks, t / (L + 1), with shape (K,).
        lower, upper: of the share of data sets below, with shape (K,).
    """

    at: Array
    lower: Array
    upper: Array


def thresholds(draws: int) -> Whole:
    """The t at which ranks among so many draws are counted.

    >>> thresholds(4).tolist(), len(thresholds(999))
    ([1, 2, 3, 4], 99)
    """
    cells = min(draws + 1, MOST)
    return np.unique(np.round(np.arange(1, cells) * (draws + 1) / cells).astype(np.int64))


def counts(ranks: Whole, draws: int) -> Whole:
    """How many ranks with shape (N,) lie below each threshold, with shape (K,)."""
    return np.searchsorted(np.sort(ranks), thresholds(draws), side="left").astype(np.int64)


def uniformity(ranks: Whole, draws: int) -> float:
    """The p-value of ranks with shape (N,), each among so many draws and the truth: 0, ..., draws.

    >>> round(uniformity(np.arange(100), 99), 3)
    1.0
    >>> uniformity(np.arange(100) // 2, 99) < 1e-6
    True
    """
    n = len(ranks)
    table = _pointwise(n, draws)
    found = counts(ranks, draws)
    least = float(table[np.arange(len(found)), found].min())
    return min(1.0, max(0.0, 1.0 - _inside(n, draws, table > least * _TIE)))


@lru_cache(maxsize=64)
def band(n: int, draws: int, alpha: float) -> Band:
    """The band that uniform ranks of n data sets leave with a probability of at most alpha.

    >>> found = band(100, 9, 0.05)
    >>> found.at.tolist()[4], [round(float(end), 2) for end in (found.lower[4], found.upper[4])]
    (0.5, [0.37, 0.63])
    """
    table = _pointwise(n, draws)
    low, high = np.log(alpha) - np.log(8.0 * table.shape[0]), np.log(alpha)
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        outside = 1.0 - _inside(n, draws, table > np.exp(middle))
        low, high = (middle, high) if outside <= alpha else (low, middle)
    allowed = table > np.exp(low)
    lower, upper = allowed.argmax(1), n - allowed[:, ::-1].argmax(1)
    return Band(thresholds(draws) / (draws + 1.0), lower / n, upper / n)


@lru_cache(maxsize=64)
def _pointwise(n: int, draws: int) -> Array:
    """g of every count at every threshold, with shape (K, n + 1)."""
    z = (thresholds(draws) / (draws + 1.0))[:, None]
    x = np.arange(n + 1)[None]
    return np.asarray(np.minimum(1.0, 2.0 * np.minimum(binom.cdf(x, n, z), binom.sf(x - 1, n, z))))


def _inside(n: int, draws: int, allowed: NDArray[np.bool_]) -> float:
    """The probability that the counts of uniform ranks are allowed, with shape (K, n + 1), at all thresholds."""
    at = np.concatenate([[0], thresholds(draws), [draws + 1]])
    x = np.arange(n + 1)
    chance = np.zeros(n + 1)
    chance[0] = 1.0
    for step, may in zip(np.diff(at).tolist(), (*allowed, x == n), strict=True):
        chance = np.convolve(chance, _kernel(n, n * step / (draws + 1.0)))[: n + 1] * may
    return float(chance[n] / _kernel(n, float(n))[n])


@lru_cache(maxsize=256)
def _kernel(n: int, mean: float) -> Array:
    """Poisson probabilities of 0, ..., n, without a tail that is lost in rounding."""
    chance = poisson.pmf(np.arange(n + 1), mean)
    last = int(np.flatnonzero(chance > _NEGLIGIBLE * chance.max())[-1])
    return np.asarray(chance[: last + 1])
