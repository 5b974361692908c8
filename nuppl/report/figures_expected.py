"""What a scan was expected to say: median and bands of the statistic over experiments, beside what was observed.

Where the q-quantile of the statistic meets the critical value lies the border that a share q of experiments does not
reach: the contour of the median, and between those of 16 and 84 % the band of one standard deviation.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from nuppl.report.canvas import BAND, BLUE, INK, LIGHT, ORANGE, Picture, figure, picture, tidy
from nuppl.report.expected import bands
from nuppl.report.labels import axis_label

__all__ = ["expected_picture"]


def expected_picture(scan: xr.Dataset, title: str = "Sensitivity", blind: bool = False) -> Picture | None:
    """The picture of a scan over one or two parameters with a sensitivity; None of others."""
    names = json.loads(scan.attrs["parameters"])
    if "asimov" not in scan or len(names) > 2:
        return None
    said = json.loads(scan.attrs["truth"])
    caption = f"Were the truth {said['words']}: the statistic on the data that are then expected" + (
        f", and its median with bands of one and two standard deviations over {said['toys']} experiments."
        if said["toys"]
        else "."
    )
    caption += " Critical values are those of the toys." if "toys" in scan else " Critical values are Wilks'."
    drawn = _curve(scan, names[0], blind) if len(names) == 1 else _maps(scan, names, blind)
    return picture(drawn, title, caption)


def _curve(scan: xr.Dataset, name: str, blind: bool) -> Any:
    drawn = figure(7.6, 4.2)
    axes, x = drawn.subplots(), scan[name].values
    if "experiments" in scan:
        low, less, middle, more, high = bands(scan)
        axes.fill_between(x, low, high, color=LIGHT, lw=0, label="95 % of experiments")
        axes.fill_between(x, less, more, color=BAND, lw=0, label="68 % of experiments")
        axes.plot(x, middle, color=BLUE, lw=1.4, label="median")
    axes.plot(x, scan["asimov"].values, color=BLUE, lw=1.4, ls="--", label="Asimov data")
    if not blind:
        axes.plot(x, scan["statistic"].values, color=INK, lw=1.8, label="observed")
    for number in range(len(scan["level"])):
        said = "critical values" if not number else None
        axes.plot(x, scan["critical"].values[number], color=ORANGE, lw=1.1, label=said)
    top = 2.2 * float(np.nanmax(scan["critical"].values))
    axes.set(ylim=(0.0, top), xlim=(x[0], x[-1]), ylabel=r"$-2\,\Delta\log L$")
    axes.set(xlabel=axis_label(name, scan[name].attrs), xscale="log" if _is_log(scan, name) else "linear")
    axes.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    tidy(axes)
    return drawn


def _maps(scan: xr.Dataset, names: Sequence[str], blind: bool) -> Any:
    across, up = names
    levels = scan["level"].values
    drawn = figure(1.0 + 3.5 * len(levels), 4.5)
    cells = drawn.subplots(1, len(levels), squeeze=False, sharex=True, sharey=True)[0]
    for number, axes in enumerate(cells):
        _map(axes, scan, names, number, blind)
        axes.set_title(f"{100 * levels[number]:.4g} %", fontsize=10)
        axes.set(xlabel=axis_label(across, scan[across].attrs), xscale="log" if _is_log(scan, across) else "linear")
        if not _is_log(scan, across):
            axes.xaxis.set_major_locator(MaxNLocator(4, prune="upper"))
        axes.set_yscale("log" if _is_log(scan, up) else "linear")
    cells[0].set_ylabel(axis_label(up, scan[up].attrs))
    handles = list(_legend(scan, blind))
    drawn.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False, fontsize=9)
    return drawn


def _map(axes: Any, scan: xr.Dataset, names: Sequence[str], number: int, blind: bool) -> None:
    across, up = names
    x, y, order = scan[across].values, scan[up].values, (up, across)
    critical = scan["critical"].isel(level=number).transpose(*order).values

    def above(values: xr.DataArray) -> Any:
        return np.clip(values.transpose(*order).values - critical, -1e6, 1e6)

    def line(field: Any, **style: Any) -> None:
        if field.min() < 0.0 < field.max():
            axes.contour(x, y, field, levels=[0.0], **style)

    if "experiments" in scan:
        fields = [above(scan["statistic"].copy(data=band)) for band in bands(scan)]
        for (low, high), colour in (((0, 4), LIGHT), ((1, 3), BAND)):
            # Inside a band some experiments exclude a point and some do not.
            between = np.minimum(fields[high], -fields[low])
            if between.max() > 0.0:
                axes.contourf(x, y, between, levels=[0.0, between.max() + 1.0], colors=[colour])
        line(fields[2], colors=[BLUE], linewidths=1.5)
    line(above(scan["asimov"]), colors=[BLUE], linewidths=1.3, linestyles="--")
    if not blind:
        line(above(scan["statistic"]), colors=[ORANGE], linewidths=1.6)


def _legend(scan: xr.Dataset, blind: bool) -> Iterator[Any]:
    if "experiments" in scan:
        yield Patch(color=LIGHT, label="95 % of experiments")
        yield Patch(color=BAND, label="68 %")
        yield Line2D([], [], color=BLUE, lw=1.5, label="median")
    yield Line2D([], [], color=BLUE, lw=1.3, ls="--", label="Asimov data")
    if not blind:
        yield Line2D([], [], color=ORANGE, lw=1.6, label="observed")


def _is_log(scan: xr.Dataset, name: str) -> bool:
    return name in json.loads(scan.attrs["log"])
