"""Smooth densities of draws for pictures, and the contours that enclose a share of the probability.

A fine histogram is convolved with a Gaussian of Silverman's width (Density Estimation, 1986, eq. 3.28 and 4.14). At a
bound of the parameter the convolution is reflected, so that no probability appears to leak out.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.signal import fftconvolve

__all__ = ["Bounds", "contour_levels", "density_1d", "density_2d"]

Array = NDArray[np.float64]
Bounds = tuple[float, float]
MARGIN = 4.0
"""How far the grid reaches beyond the draws, in widths of the Gaussian."""


def density_1d(values: Array, bounds: Bounds, points: int = 256) -> tuple[Array, Array]:
    """The density of draws with shape (n,): (grid, density), each with shape (points,)."""
    width = _width(values, 1.06 * len(values) ** -0.2)
    edges = _edges(values, width, bounds, points)
    histogram, _ = np.histogram(values, edges, density=True)
    return _middle(edges), gaussian_filter(histogram, width / (edges[1] - edges[0]), mode="reflect")


def density_2d(x: Array, y: Array, bounds: tuple[Bounds, Bounds], points: int = 160) -> tuple[Array, Array, Array]:
    """The density of pairs with shape (n,): (grid of x, grid of y, density with shape (points of y, points of x))."""
    widths = [_width(values, len(x) ** (-1.0 / 6.0)) for values in (x, y)]
    edges = [_edges(v, w, b, points) for v, w, b in zip((x, y), widths, bounds, strict=True)]
    histogram, _, _ = np.histogram2d(x, y, edges, density=True)
    steps = [width / (edge[1] - edge[0]) for width, edge in zip(widths, edges, strict=True)]
    smooth = _convolved(histogram, steps, _correlation(x, y))
    return _middle(edges[0]), _middle(edges[1]), smooth.T


def _correlation(x: Array, y: Array) -> float:
    if x.std() == 0.0 or y.std() == 0.0:
        return 0.0
    # The kernel must stay wider than a point where two parameters are nearly one.
    return float(np.clip(np.corrcoef(x, y)[0, 1], -0.995, 0.995))


def _convolved(histogram: Array, steps: list[float], correlation: float) -> Array:
    """Convolution with a Gaussian that shares the draws' correlation: an upright one would fatten a thin ellipse."""
    reach = [max(1, round(MARGIN * step)) for step in steps]
    u, v = np.meshgrid(*(np.arange(-r, r + 1) / max(s, 0.3) for r, s in zip(reach, steps, strict=True)), indexing="ij")
    kernel = np.exp(-0.5 * (u * u - 2.0 * correlation * u * v + v * v) / (1.0 - correlation**2))
    padded = np.pad(histogram, [(r, r) for r in reach], mode="symmetric")
    smooth: Array = np.maximum(fftconvolve(padded, kernel / kernel.sum(), mode="valid"), 0.0)
    return smooth


def contour_levels(density: Array, masses: tuple[float, ...]) -> list[float]:
    """The heights above which the given shares of the probability lie.

    >>> contour_levels(np.array([[1.0, 2.0], [3.0, 4.0]]), (0.4, 0.7))
    [4.0, 3.0]
    """
    heights = np.sort(density.ravel())[::-1]
    inside = np.cumsum(heights) / heights.sum()
    last = len(heights) - 1
    return [float(heights[min(int(np.searchsorted(inside, mass - 1e-12)), last)]) for mass in masses]


def _width(values: Array, factor: float) -> float:
    quartiles = np.quantile(values, (0.25, 0.75))
    spread = min(float(values.std()), float(quartiles[1] - quartiles[0]) / 1.349)
    # A number that never moved still needs a width to be drawn.
    return factor * spread if spread > 0.0 else 1e-3 * max(abs(float(values[0])), 1e-12)


def _edges(values: Array, width: float, bounds: Bounds, points: int) -> Array:
    low = max(float(values.min()) - MARGIN * width, bounds[0])
    high = min(float(values.max()) + MARGIN * width, bounds[1])
    return np.linspace(low, high, points + 1) if high > low else np.linspace(low - width, low + width, points + 1)


def _middle(edges: Array) -> Array:
    return 0.5 * (edges[1:] + edges[:-1])
