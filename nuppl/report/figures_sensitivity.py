"""How mean and interval move under other priors of the interest, one panel for each number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nuppl.report.canvas import BLUE, GREY, INK, LIGHT, Picture, figure, picture, tidy
from nuppl.report.interest import Number
from nuppl.report.sensitivity import Reweighted

__all__ = ["prior_shifts"]


def prior_shifts(found: Sequence[tuple[Number, list[Reweighted]]]) -> list[Picture]:
    """68 % intervals and medians under each prior; empty where no prior but that of the run can be shown."""
    shown = [(number, [r for r in rows if r.mean is not None]) for number, rows in found]
    shown = [(number, rows) for number, rows in shown if len(rows) > 1]
    if not shown:
        return []
    heights = [len(rows) + 1.2 for _, rows in shown]
    drawn = figure(7.6, 0.32 * sum(heights) + 0.5 * len(shown))
    cells = drawn.subplots(len(shown), 1, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    for axes, (number, rows) in zip(cells, shown, strict=True):
        _panel(axes, number, rows)
    caption = "Median (bar), mean (dot) and 68 % interval under other priors; the band is the interval of the run."
    return [picture(drawn, "Sensitivity to the prior", caption)]


def _panel(axes: Any, number: Number, rows: list[Reweighted]) -> None:
    numbers = np.array([[row.lower, row.median, row.upper, row.mean] for row in rows], dtype=np.float64)
    lower, median, upper, mean = number.shown(numbers).T
    heights = np.arange(len(rows))
    axes.axvspan(lower[0], upper[0], color=LIGHT, lw=0)
    axes.axvline(median[0], color=GREY, lw=0.8)
    axes.hlines(heights, lower, upper, color=BLUE, lw=1.8)
    axes.plot(median, heights, "|", color=BLUE, ms=10, mew=1.8)
    axes.plot(mean, heights, "o", color=INK, ms=3.6)
    axes.set_yticks(heights, [row.name for row in rows], fontsize=9)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    margin = 0.25 * (upper.max() - lower.min())
    # An interval never leaves the bounds; the axis need not either.
    least, most = number.shown(np.asarray(number.bounds)) if not number.is_log else (-np.inf, np.inf)
    axes.set_xlim(max(lower.min() - margin, least), min(upper.max() + margin, most))
    axes.set_xlabel(number.axis.replace("\n", ", "))
    axes.tick_params(axis="y", length=0)
    tidy(axes)
