"""The distance of 1-D marginals, and what chance alone makes of it.

    TV(p, q) = 1/2 sum_b |p_b - q_b|

over bins between quantiles of a reference; what lies outside counts in the end bins. Two samples of n and m independent
draws of one distribution differ too, on average by

    1/2 sum_b sqrt(2 p_b (1 - p_b) (1/n + 1/m) / pi),

the mean of |x| of a normal x in each bin.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["by_chance", "edges", "shares", "total_variation"]

BINS = 20
OUTSIDE = 0.001  # of the reference, at either end

Floats = NDArray[np.float64]


def edges(reference: Floats, logarithmic: bool = False) -> Floats:
    """Bin edges with shape (21,) for draws with shape (n,); logarithmic ones for positive values over decades."""
    low, high = np.quantile(reference, [OUTSIDE, 1.0 - OUTSIDE])
    return np.geomspace(low, high, BINS + 1) if logarithmic else np.linspace(low, high, BINS + 1)


def shares(draws: Floats, at: Floats) -> Floats:
    """Share of the draws in each bin, with shape (20,); they sum to one."""
    counts = np.bincount(np.searchsorted(at[1:-1], draws, side="right"), minlength=len(at) - 1)
    return counts / len(draws)


def total_variation(one: Floats, other: Floats) -> float:
    """Of two histograms with shape (bins,) that each sum to one."""
    return float(0.5 * np.abs(one - other).sum())


def by_chance(share: Floats, first: float, second: float) -> float:
    """The mean total variation of two perfect samples of these sizes, from the true share of each bin."""
    variance = share * (1.0 - share) * (1.0 / first + 1.0 / second)
    return float(0.5 * math.sqrt(2.0 / math.pi) * np.sqrt(variance).sum())
