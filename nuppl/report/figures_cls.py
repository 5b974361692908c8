"""CLs of a scan: the curve or the exclusion contour, with what is expected under the null hypothesis."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import xarray as xr

from nuppl.report.canvas import BAND, BLUE, GREY, INK, LIGHT, Picture, figure, picture, tidy
from nuppl.report.labels import axis_label

__all__ = ["cls_picture"]

_LEAST = 1e-4
"""The smallest CLs that is drawn."""


def cls_picture(scan: xr.Dataset) -> Picture | None:
    """The picture of a scan with CLs over one or two parameters; None of others."""
    names = json.loads(scan.attrs["parameters"])
    if "cls" not in scan or len(names) > 2:
        return None
    if len(names) == 1:
        drawn, what = _curve(scan, names[0]), "excluded where the curve lies below the line of a level"
    else:
        drawn, what = _map(scan, names[0], names[1]), "excluded at the largest level on the far side of the contour"
    caption = f"Values are {what}; bands: one and two deviations of what is expected under the null hypothesis."
    return picture(drawn, "CLs", caption)


def _curve(scan: xr.Dataset, name: str) -> Any:
    drawn = figure(7.0, 4.4)
    axes, x = drawn.subplots(), scan[name].values
    least, less, middle, more, most = np.clip(scan["cls_expected"].values, _LEAST / 10, None)
    axes.fill_between(x, least, most, color=LIGHT, lw=0, label="expected, 95 %")
    axes.fill_between(x, less, more, color=BAND, lw=0, label="expected, 68 %")
    axes.plot(x, middle, color=BLUE, lw=1.2, ls="--", label="expected, median")
    axes.plot(x, np.clip(scan["cls"].values, _LEAST / 10, None), color=INK, lw=1.8, label="observed")
    for level in scan["level"].values:
        axes.axhline(1.0 - level, color=GREY, lw=0.9)
        place = (1.0, 1.0 - level)
        axes.annotate(
            f"{100 * level:.4g} %", place, xycoords=("axes fraction", "data"), fontsize=8, va="bottom", ha="right"
        )
    axes.set(yscale="log", ylim=(_LEAST, 1.5), xlim=(x.min(), x.max()), ylabel="CLs")
    axes.set(xlabel=axis_label(name, scan[name].attrs), xscale="log" if _is_log(scan, name) else "linear")
    axes.legend(frameon=False, fontsize=9)
    tidy(axes)
    return drawn


def _map(scan: xr.Dataset, across: str, up: str) -> Any:
    drawn = figure(7.2, 5.4)
    axes, order = drawn.subplots(), (up, across)
    x, y, level = scan[across].values, scan[up].values, 1.0 - float(scan["level"].max())
    expected = scan["cls_expected"].transpose("band", *order).values
    for low, high, color in ((0, 4, LIGHT), (1, 3, BAND)):
        # Between two contours one of the curves has passed the level, the other not.
        between = ((expected[low] < level) & (expected[high] >= level)).astype(float)
        axes.contourf(x, y, between, levels=[0.5, 1.5], colors=[color])
    axes.contour(x, y, expected[2], levels=[level], colors=[BLUE], linewidths=1.2, linestyles="--")
    axes.contour(x, y, scan["cls"].transpose(*order).values, levels=[level], colors=[INK], linewidths=1.8)
    axes.set(xlabel=axis_label(across, scan[across].attrs), ylabel=axis_label(up, scan[up].attrs))
    axes.set(xscale="log" if _is_log(scan, across) else "linear", yscale="log" if _is_log(scan, up) else "linear")
    return drawn


def _is_log(scan: xr.Dataset, name: str) -> bool:
    return name in json.loads(scan.attrs["log"])
