"""Credible and confidence regions on the same axes: curves of one parameter, contours of two."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from nuppl.report.canvas import BLUE, GREY, INK, LIGHT, ORANGE, Picture, figure, picture, tidy
from nuppl.report.compared import Compared, Confidence
from nuppl.report.compared_regions import Interval, Plane, Region
from nuppl.report.density import density_1d
from nuppl.report.labels import axis_label, literal

__all__ = ["contours", "curves", "interval_picture"]

RUNS = (BLUE, "#2f8f5b", "#4aa3a3", "#5b6675")
SCANS = (ORANGE, "#8e5bb5", "#b8860b", "#a3485f")
LINES: Mapping[str, Any] = {
    "credible": "-",
    "Wilks": (0, (4, 2)),
    "toys": "-",
    "learned": (0, (1, 1.2)),
    "asymptotic": "-.",
}
"""Of each kind of region; credible ones are filled besides."""
WIDTHS: Mapping[str, float] = {"credible": 1.0, "Wilks": 1.1, "toys": 2.0, "learned": 1.6, "asymptotic": 1.1}
FAILED = 2


def colours(compared: Compared) -> dict[str, str]:
    """One colour for each result."""
    found = {run.name: RUNS[i % len(RUNS)] for i, run in enumerate(compared.posteriors)}
    return found | {scan.name: SCANS[i % len(SCANS)] for i, scan in enumerate(compared.scans)}


def contours(compared: Compared, common: Plane, found: Sequence[Region]) -> Picture:
    """Regions of two parameters, a panel for each level."""
    count, shade = len(compared.levels), colours(compared)
    drawn = figure(1.0 + 3.5 * count, 4.5)
    cells = drawn.subplots(1, count, squeeze=False, sharex=True, sharey=True)[0]
    for axes, level in zip(cells, compared.levels, strict=True):
        for region in found:
            if region.level == level:
                _contour(axes, common, region, shade[region.source])
        for scan in compared.scans:
            _best(axes, scan, compared.parameters)
        axes.set_title(f"{100 * level:.4g} %", fontsize=10)
        _axes_of_two(axes, compared, common)
    cells[0].set_ylabel(axis_label(compared.parameters[1], compared.attrs(compared.parameters[1])))
    handles = list(_legend(compared, shade))
    drawn.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), 4), frameon=False, fontsize=9)
    across, up = compared.parameters
    caption = (
        "Filled: the smallest regions with that probability per unit of these axes. Lines: confidence regions, by toys "
        "(thick) and as Wilks' theorem has them (dashed). + best fit, × failed fit."
    )
    return picture(drawn, f"Regions of {across} and {up}", caption)


def _contour(axes: Any, common: Plane, region: Region, colour: str) -> None:
    x, y = common.axes
    field = region.field.T
    if not field.min() < 0.0 < field.max():
        return
    if region.kind == "credible":
        axes.contourf(x, y, field, levels=[field.min() - 1.0, 0.0], colors=[colour], alpha=0.25)
    style, width = LINES[region.kind], WIDTHS[region.kind]
    axes.contour(x, y, field, levels=[0.0], colors=[colour], linewidths=width, linestyles=[style])


def _best(axes: Any, scan: Confidence, names: Sequence[str]) -> None:
    axes.plot(*(scan.best[name] for name in names), "+", color=INK, ms=9)
    lost = np.asarray(scan.scan["status"].values) == FAILED
    mesh = np.meshgrid(*scan.axes, indexing="ij")
    axes.plot(*(part[lost] for part in mesh), "x", color=GREY, ms=4, ls="none")


def _axes_of_two(axes: Any, compared: Compared, common: Plane) -> None:
    for axis, (name, values, log) in enumerate(zip(compared.parameters, common.axes, common.log, strict=True)):
        which = "xy"[axis]
        axes.set(**{f"{which}scale": "log" if log else "linear", f"{which}lim": (values[0], values[-1])})
        if not axis:
            axes.set_xlabel(axis_label(name, compared.attrs(name)))
            if not log:
                axes.xaxis.set_major_locator(MaxNLocator(4, prune="upper"))
    axes.grid(color=GREY, alpha=0.15)


def _legend(compared: Compared, shade: Mapping[str, str]) -> Iterator[Any]:
    for run in compared.posteriors:
        colour = shade[run.name]
        yield Patch(facecolor=colour, edgecolor=colour, alpha=0.4, label=f"{literal(run.name)}, credible")
    for scan in compared.scans:
        for kind in scan.kinds()[::-1]:
            style: dict[str, Any] = {"ls": LINES[kind], "lw": WIDTHS[kind], "color": shade[scan.name]}
            yield Line2D([], [], label=f"{literal(scan.name)}, {kind}", **style)


def curves(compared: Compared, common: Plane) -> Picture:
    """One parameter: densities above, statistics with their critical values below."""
    (name,), (log,), shade = compared.parameters, common.log, colours(compared)
    both = bool(compared.posteriors) + bool(compared.scans)
    drawn = figure(7.6, 1.0 + 2.9 * both)
    cells = list(drawn.subplots(both, 1, squeeze=False, sharex=True)[:, 0])
    if compared.posteriors:
        _densities(cells[0], compared, common, shade)
    if compared.scans:
        _statistics(cells[-1], compared, shade)
    for axes in cells:
        axes.set_xlim(common.axes[0][0], common.axes[0][-1])
        axes.set_xscale("log" if log else "linear")
        axes.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1.0, 1.0))
        tidy(axes)
    cells[-1].set_xlabel(axis_label(name, compared.attrs(name)))
    caption = (
        "Above: posterior densities per unit of the axis, and the prior. Below: the profiled likelihood; a value is "
        "accepted where it lies below the critical value, by toys (thick) or by Wilks' theorem (dashed), for "
        + ", ".join(f"{100 * level:.4g}" for level in compared.levels)
        + " %."
    )
    return picture(drawn, f"Posterior and profile of {name}", caption)


def _densities(axes: Any, compared: Compared, common: Plane, shade: Mapping[str, str]) -> None:
    (name,), x = compared.parameters, common.axes[0]
    for run in compared.posteriors:
        number = run.numbers[name]
        low, high = number.bounds
        ends = (np.log(max(low, 1e-300)), np.log(high)) if common.log[0] else (low, high)
        grid, density = density_1d(common.flat(0, number.values), (float(ends[0]), float(ends[1])), 512)
        place = np.exp(grid) if common.log[0] else grid
        axes.fill_between(place, density, color=shade[run.name], alpha=0.2, lw=0)
        axes.plot(place, density, color=shade[run.name], lw=1.6, label=literal(run.name))
    number = compared.posteriors[0].numbers[name]
    prior = number.prior.density(x)
    if prior is not None:
        axes.plot(x, prior * (x if common.log[0] else 1.0), color=GREY, lw=1.2, ls="--", label="prior")
    axes.set_ylim(0.0)
    axes.set_ylabel("density" + (f" per unit of ln {name}" if common.log[0] else ""))


def _statistics(axes: Any, compared: Compared, shade: Mapping[str, str]) -> None:
    top = 1.5 * max(scan.top() for scan in compared.scans)
    for scan in compared.scans:
        x, colour = scan.axes[0], shade[scan.name]
        axes.plot(
            x, scan.statistic, color=INK if len(compared.scans) == 1 else colour, lw=1.8, label=literal(scan.name)
        )
        for kind in scan.kinds():
            for number, level in enumerate(compared.levels):
                said = f"critical, {kind}" if not number and scan is compared.scans[0] else None
                style: Any = {"ls": LINES[kind], "lw": 0.8 * WIDTHS[kind], "color": colour}
                axes.plot(x, scan.critical(kind, level), label=said, **style)
                if kind == "toys":
                    value, error = scan.critical(kind, level), scan.scan["critical_error"].values[scan.level(level)]
                    axes.fill_between(x, value - error, value + error, color=colour, alpha=0.25, lw=0)
        lost = np.asarray(scan.scan["status"].values) == FAILED
        axes.plot(x[lost], np.zeros(lost.sum()), "x", color=GREY)
    likelihood = all("Wilks" in scan.kinds() for scan in compared.scans)
    axes.set(ylim=(0.0, top), ylabel=r"$-2\,\Delta\log L$" if likelihood else "test statistic")


def interval_picture(compared: Compared, rows: Sequence[Interval]) -> list[Picture]:
    """The intervals of each parameter, one line for each result and method, thicker where the level is lower."""
    shade, found = colours(compared), []
    for name in compared.parameters:
        mine = [row for row in rows if row.parameter == name]
        ways = list(dict.fromkeys((row.source, row.method) for row in mine))
        drawn = figure(7.6, 1.0 + 0.42 * len(ways))
        axes = drawn.subplots()
        for row in mine:
            place, number = ways.index((row.source, row.method)), compared.levels.index(row.level)
            width = 9.0 / (1 + number) if len(compared.levels) > 1 else 6.0
            for low, high in row.found:
                axes.plot([low, high], [place, place], color=shade[row.source], lw=width, solid_capstyle="butt")
        axes.set_yticks(range(len(ways)), [literal(f"{source}: {method}") for source, method in ways], fontsize=9)
        axes.set(ylim=(len(ways) - 0.4, -0.6), xscale="log" if compared.is_log(name) else "linear")
        axes.set_xlabel(axis_label(name, compared.attrs(name)))
        axes.grid(axis="x", color=LIGHT)
        axes.set_axisbelow(True)
        tidy(axes)
        levels = ", ".join(f"{100 * level:.4g}" for level in compared.levels)
        caption = f"At {levels} %, the thicker the lower. The numbers are in the table."
        found.append(picture(drawn, f"Intervals of {name}", caption))
    return found
