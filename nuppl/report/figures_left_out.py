"""Each datum against its prediction by all the others, and how much that prediction hangs on it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nuppl.report.canvas import BLUE, GREY, INK, LIGHT, ORANGE, Picture, figure, picture, tidy
from nuppl.report.labels import axis_name, literal, plain
from nuppl.report.leave_one_out import LIMIT, LeftOut

__all__ = ["left_out"]

Array = NDArray[np.float64]
MOST_TICKS = 16


def left_out(site: LeftOut) -> Picture:
    """The pull of each datum with its own information removed, and below it the Pareto k of the removal."""
    drawn = figure(10.5, 4.4)
    upper, lower = drawn.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [1.7, 1.0]})
    along = np.arange(len(site.k), dtype=np.float64)
    if len(site.pulls):
        _pulls(upper, along, site.pulls)
    else:
        upper.set_visible(False)
    lower.plot(along, site.k, "o", color=BLUE, ms=3)
    lower.axhline(LIMIT, color=ORANGE, lw=1.0, ls="--")
    lower.set_ylim(min(-0.2, float(site.k.min()) - 0.05), max(1.0, float(site.k.max()) + 0.05))
    lower.set_ylabel("Pareto k")
    _blocks(drawn.axes, site)
    tidy(lower)
    caption = (
        "Above, (datum − its prediction from all other data) / width of that prediction, with bands of ±1 and ±2; "
        f"below, the Pareto k of leaving it out, which should stay under the line at {LIMIT:g}."
    )
    return picture(drawn, f"Left out one by one: {plain(site.name)}", caption)


def _pulls(axes: Any, along: Array, pulls: Array) -> None:
    for reach in (2.0, 1.0):
        axes.axhspan(-reach, reach, color=LIGHT, alpha=0.55, lw=0)
    axes.axhline(0.0, color=GREY, lw=0.8)
    axes.plot(along, pulls, "o", color=INK, ms=3)
    reach = max(3.2, 1.1 * float(np.abs(pulls).max()))
    axes.set_ylim(-reach, reach)
    axes.set_ylabel("pull")
    tidy(axes)


def _blocks(cells: list[Any], site: LeftOut) -> None:
    """Ticks: the entries of the first axis, each with its stretch of data, or the numbers of the data."""
    data = site.observed
    cells[-1].set_xlim(-0.8, len(site.k) - 0.2)
    if data.ndim != 2 or data.size != len(site.k) or data.shape[0] > MOST_TICKS:
        cells[-1].set_xlabel("number of the datum")
        return
    first, second = (data.coords.get(dim) for dim in data.dims)
    length = data.shape[1]
    for axes in cells:
        for i in range(1, data.shape[0]):
            axes.axvline(i * length - 0.5, color=GREY, lw=0.6, alpha=0.6)
        axes.tick_params(axis="x", length=0)
    names = range(data.shape[0]) if first is None else first.values
    cells[-1].set_xticks(length * (np.arange(data.shape[0]) + 0.5) - 0.5, [literal(name) for name in names])
    inside = plain(str(data.dims[1])) if second is None else axis_name(second)
    cells[-1].set_xlabel(f"{plain(str(data.dims[0]))}; within each, {inside} rises to the right")
