"""A scan: the profile over one parameter, or the regions of two, with critical values from toys and from Wilks."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import xarray as xr

from nuppl.report.canvas import BLUE, GREY, INK, ORANGE, Picture, figure, picture, tidy
from nuppl.report.labels import axis_label
from nuppl.results.scan_cls import statistic_of

__all__ = ["scan_picture"]

SHADES = ("#5f9fd3", "#a9cbe8", "#dbe8f4")
"""Of the regions, the smallest first."""
_ORIGINS = {"toys": "critical values from toys", "learned": "critical values learned from toys of all points"}
FAILED = 2
"""The status of a fit that failed."""


def scan_picture(scan: xr.Dataset) -> Picture | None:
    """The picture of a scan over one or two parameters; None for more."""
    names = json.loads(scan.attrs["parameters"])
    if len(names) == 1:
        return _curve(scan, names[0])
    return _map(scan, names[0], names[1]) if len(names) == 2 else None


def _curve(scan: xr.Dataset, name: str) -> Picture:
    drawn = figure(7.0, 4.4)
    axes = drawn.subplots()
    x, t = scan[name].values, scan["statistic"].values
    wilks, said = "wilks" in scan, _origin(scan) if "toys" in scan else "asymptotic"
    axes.plot(x, t, color=BLUE, lw=1.8, label="profile" if wilks else "data")
    critical = scan["wilks" if wilks else "critical"].values
    top = 1.6 * float(np.max(critical, where=np.isfinite(critical), initial=1.0))
    bottom = min(0.0, 1.1 * float(t.min()))
    for number, level in enumerate(scan["level"].values):
        text, end = f"{100 * level:.4g} %", float(scan["wilks"][number] if wilks else scan["critical"][number][-1])
        if wilks:
            axes.axhline(end, color=GREY, lw=0.9, ls="--", label="Wilks" if not number else None)
        if bottom <= end <= top:
            axes.annotate(text, (1.0, end), xycoords=("axes fraction", "data"), fontsize=8, va="bottom", ha="right")
        if "toys" in scan or not wilks:
            value, error = (scan[part][number].values for part in ("critical", "critical_error"))
            axes.fill_between(x, value - error, value + error, color=ORANGE, alpha=0.25, lw=0)
            axes.plot(x, value, color=ORANGE, lw=1.2, label=said if not number else None)
    _failures(axes, scan, x)
    axes.set(
        ylim=(bottom, top),
        xlim=(x.min(), x.max()),
        xlabel=axis_label(name, scan[name].attrs),
        ylabel=r"$-2\,\Delta\log L$" if wilks else statistic_of(scan),
    )
    if name in json.loads(scan.attrs["log"]):
        axes.set_xscale("log")
    axes.legend(frameon=False, fontsize=9)
    tidy(axes)
    what = "The profiled likelihood" if wilks else f"The statistic {statistic_of(scan)}"
    caption = f"{what}; a value is accepted at a level where the curve lies below the critical value."
    return picture(drawn, f"Scan of {name}", caption)


def _map(scan: xr.Dataset, across: str, up: str) -> Picture:
    drawn = figure(7.2, 5.4)
    axes = drawn.subplots()
    x, y = scan[across].values, scan[up].values
    order = (up, across)
    t = scan["statistic"].transpose(*order).values
    toys = "toys" in scan
    critical = scan["critical"].transpose("level", *order).values
    for number in reversed(range(len(scan["level"]))):
        inside = np.nan_to_num(t - critical[number], posinf=1e9)
        axes.contourf(x, y, inside, levels=[-1e9, 0.0], colors=[SHADES[min(number, len(SHADES) - 1)]])
        axes.contour(x, y, inside, levels=[0.0], colors=[BLUE], linewidths=1.3)
        if toys and "wilks" in scan:
            wilks = np.nan_to_num(t, posinf=1e9) - float(scan["wilks"][number])
            axes.contour(x, y, wilks, levels=[0.0], colors=[ORANGE], linewidths=0.9, linestyles="--")
    best = json.loads(scan.attrs["best"])
    axes.plot(best[across], best[up], "+", color=INK, ms=9)
    lost = scan["status"].transpose(*order).values == FAILED
    axes.plot(*(part[lost] for part in np.meshgrid(x, y)), "x", color=GREY, ms=4, ls="none")
    logs = json.loads(scan.attrs["log"])
    axes.set(xlabel=axis_label(across, scan[across].attrs), ylabel=axis_label(up, scan[up].attrs))
    axes.set(xscale="log" if across in logs else "linear", yscale="log" if up in logs else "linear")
    said = ", ".join(f"{100 * level:.4g}" for level in scan["level"].values)
    caption = f"Regions with {said} % confidence; + best fit, × failed fit" + (
        f". Blue: {_ORIGINS[_origin(scan)]}; dashed: what Wilks' theorem would give."
        if toys
        else ", by Wilks' theorem."
    )
    if "wilks" not in scan:
        caption = f"Regions with {said} % confidence by the statistic {statistic_of(scan)}; + best fit, × failed fit."
    return picture(drawn, f"Scan of {across} and {up}", caption)


def _origin(scan: xr.Dataset) -> str:
    """Where critical values come from: "toys", or "learned" from toys of all points."""
    return str(scan.attrs.get("critical", "toys"))


def _failures(axes: Any, scan: xr.Dataset, x: Any) -> None:
    lost = scan["status"].values == FAILED
    if lost.any():
        axes.plot(x[lost], np.zeros(lost.sum()), "x", color=GREY, label="failed fits")
