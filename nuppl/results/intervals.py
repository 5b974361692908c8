"""Where a scan over one parameter accepts: the intervals in which the statistic lies below its critical value."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["intervals"]


def intervals(values: ArrayLike, statistic: ArrayLike, critical: ArrayLike) -> list[tuple[float, float]]:
    """The accepted intervals, ends by linear interpolation between points; an end of the grid where one is open.

    Arguments:
        values: ascending, with shape (k,).
        statistic, critical: with shape (k,).

    >>> intervals([0.0, 1.0, 2.0, 3.0], [3.0, 1.0, 0.0, 2.0], [1.5, 1.5, 1.5, 1.5])
    [(0.75, 2.75)]
    """
    x = np.asarray(values, dtype=float)
    above = np.nan_to_num(np.asarray(statistic, dtype=float) - np.asarray(critical, dtype=float), posinf=1e9)
    return list(_runs(x, above))


def _runs(x: NDArray[np.float64], above: NDArray[np.float64]) -> Iterator[tuple[float, float]]:
    start: float | None = None
    for i, inside in enumerate(above <= 0.0):
        if inside and start is None:
            start = float(x[0]) if i == 0 else _crossing(x, above, i - 1)
        elif not inside and start is not None:
            yield start, _crossing(x, above, i - 1)
            start = None
    if start is not None:
        yield start, float(x[-1])


def _crossing(x: NDArray[np.float64], above: NDArray[np.float64], i: int) -> float:
    """Where the difference is zero between the points i and i + 1."""
    share = above[i] / (above[i] - above[i + 1])
    return float(x[i] + share * (x[i + 1] - x[i]))
