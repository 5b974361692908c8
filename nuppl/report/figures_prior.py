"""What the data taught: the prior of each number of interest over its whole range, and the posterior within it.

The information gained is the relative entropy of the posterior density p to the prior density pi, in bits,

    D = int p(x) log2(p(x) / pi(x)) dx,

with p smoothed as in the other pictures. 1 bit is what halving a flat range gives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from nuppl.report.canvas import BLUE, LIGHT, ORANGE, Picture, figure, picture, tidy
from nuppl.report.density import density_1d
from nuppl.report.interest import Number, numbers

__all__ = ["information", "priors"]

Array = NDArray[np.float64]
GRID = 513
BINS = 40
COLUMNS = 3


def priors(groups: Mapping[str, xr.Dataset], interest: Sequence[str]) -> list[Picture]:
    """One panel for each number of interest whose prior the file knows."""
    found = [number for number in numbers(groups, interest) if number.prior.range() is not None]
    if not found:
        return []
    columns = min(len(found), COLUMNS)
    rows = -(-len(found) // columns)
    drawn = figure(5.2 if columns == 1 else 10.5, 0.4 + 3.0 * rows)
    cells = drawn.subplots(rows, columns, squeeze=False).ravel()
    for axes in cells[len(found) :]:
        axes.set_visible(False)
    for axes, number in zip(cells, found, strict=False):
        _panel(axes, number)
    handles, labels = cells[0].get_legend_handles_labels()
    drawn.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False)
    caption = (
        "Each number over the whole range of its prior, both densities scaled to the same height; above each panel "
        "the ratio of standard deviations and the information gained, in bits."
    )
    return [picture(drawn, "Prior and posterior", caption)]


def information(number: Number) -> float | None:
    """The relative entropy of posterior to prior, in bits; None where the prior's density is not known."""
    grid, density = density_1d(number.shown(number.values), _bounds(number))
    before = number.prior_density(grid)
    if before is None or not (before[density > 0.0] > 0.0).all():
        return None
    inside = density > 0.0
    terms = density[inside] * np.log2(density[inside] / before[inside])
    return float(terms.sum() * (grid[1] - grid[0]))


def _bounds(number: Number) -> tuple[float, float]:
    low, high = number.shown(np.maximum(number.bounds, 0.0 if number.is_log else -np.inf))
    return float(low), float(high)


def _panel(axes: Any, number: Number) -> None:
    # A posterior that fills the axis of the corner may be a spike here.
    low, high = number.shown(np.asarray(number.prior.range(), dtype=np.float64))
    draws = number.shown(number.values)
    low, high = min(low, draws.min()), max(high, draws.max())
    grid, density = density_1d(draws, _bounds(number))
    axes.fill_between(grid, density / density.max(), color=LIGHT, lw=0)
    axes.plot(grid, density / density.max(), color=BLUE, lw=1.4, label="posterior")
    axes.plot(*_prior(number, float(low), float(high)), color=ORANGE, lw=1.4, label="prior")
    margin = 0.06 * (high - low)
    axes.set_xlim(low - margin, high + margin)
    axes.set_ylim(0.0, 1.12)
    axes.set_yticks([])
    axes.set_xlabel(number.axis)
    # Labels of neighbouring panels must not touch.
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_title(_gain(number, draws), fontsize=9, loc="right")
    tidy(axes)
    axes.spines["left"].set_visible(False)


def _prior(number: Number, low: float, high: float) -> tuple[Array, Array]:
    """Places and heights of the prior, its highest at 1; a histogram of its draws where only those are known."""
    grid = np.linspace(low, high, GRID)
    # A grid of the file spans the posterior alone.
    density = number.prior_density(grid) if number.prior.is_known else None
    if density is None:
        heights, edges = np.histogram(number.shown(number.prior.draws), BINS, (low, high))
        return np.repeat(edges, 2)[1:-1], np.repeat(heights / max(heights.max(), 1), 2)
    # Vertical ends, so that a flat prior is seen to stop.
    ends = np.array([low, high])
    return np.concatenate([ends[:1], grid, ends[1:]]), np.concatenate([[0.0], density / density.max(), [0.0]])


def _gain(number: Number, draws: Array) -> str:
    before = number.shown(number.prior.draws)
    said = []
    if len(before) > 1 and before.std() > 0.0:
        said.append(f"sd ratio {draws.std() / before.std():.2g}")
    gained = information(number)
    return ", ".join([*said, f"{gained:.1f} bits"] if gained is not None else said)
