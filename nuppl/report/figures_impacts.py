"""Which measurement moves each parameter of interest, and by how much: components of its error, the largest first.

Beside them, what the data did to the pulls: value and width of a scalar pull, the range of a vector's values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.ticker import MaxNLocator

from nuppl.report.canvas import BAND, BLUE, GREY, INK, LIGHT, Picture, figure, picture, tidy
from nuppl.report.labels import axis_label, literal, plain, tex_label
from nuppl.results.numbers import format_measurement, format_number

__all__ = ["impacts"]

SHOWN = 20
"""Rows; smaller components are added up in one more."""
NEGLIGIBLE = 1e-3
"""Of the error: groups that move the answer by less are left out."""


def impacts(groups: Mapping[str, xr.Dataset]) -> list[Picture]:
    """One picture for each parameter of interest; none where the result has no group `impacts`."""
    if "impacts" not in groups:
        return []
    split = groups["impacts"]
    return [_picture(groups, split.isel(interest=i)) for i in range(split.sizes["interest"])]


def _picture(groups: Mapping[str, xr.Dataset], split: xr.Dataset) -> Picture:
    rows, rest = _ranked(split)
    scalars = bool((rows["lowest"].notnull() & (rows["kind"] == "pull")).any())
    length = rows.sizes["group"] + bool(rest)
    drawn = figure(10.5 if scalars else 7.5, 1.4 + 0.3 * length)
    axes = drawn.subplots(1, 2 if scalars else 1, squeeze=False, sharey=True, width_ratios=[2.2, 1.0][: 1 + scalars])[0]
    _bars(axes[0], groups, split, rows, rest)
    if scalars:
        _pulls(axes[1], rows)
    axes[0].set_ylim(length - 0.4, -0.6)
    name = str(split["interest"].item())
    drawn.legend(*axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=2, frameon=False, fontsize=9)
    return picture(drawn, f"Impacts on {plain(name)}", _caption(split, scalars))


def _ranked(split: xr.Dataset) -> tuple[xr.Dataset, float]:
    """Groups in order of their components, at most SHOWN, and the others' components in quadrature."""
    component = np.nan_to_num(split["component"].values)
    order = np.argsort(-component, kind="stable")
    order = order[component[order] > NEGLIGIBLE * float(split["error"])]
    shown, others = order[:SHOWN], order[SHOWN:]
    return split.isel(group=shown), float(np.sqrt(np.square(component[others]).sum()))


def _bars(axes: Any, groups: Mapping[str, xr.Dataset], split: xr.Dataset, rows: xr.Dataset, rest: float) -> None:
    scale, power = _power(float(split["error"]))
    listed = zip(rows["group"].values, rows["kind"].values, rows["size"].values, strict=True)
    names = [_row_name(groups, str(name), str(kind), int(size)) for name, kind, size in listed]
    component, conventional = (rows[name].values / scale for name in ("component", "conventional"))
    is_data = rows["kind"].values == "data"
    places = np.arange(len(names))
    # A bar without data still takes its place in the legend.
    axes.barh(places[is_data], component[is_data], color=GREY, height=0.62, label="component from the data")
    axes.barh(places[~is_data], component[~is_data], color=BLUE, height=0.62, label="component of a group")
    known = np.isfinite(conventional)
    axes.barh(
        places[known],
        conventional[known],
        fill=False,
        ec=INK,
        lw=0.9,
        height=0.82,
        label="gain if the group were known",
    )
    axes.axvline(float(split["error"]) / scale, color=INK, lw=1.0, ls="--", label="error, all in quadrature")
    if rest:
        axes.barh([len(names)], [rest / scale], color=BAND, height=0.62)
        names.append("all others")
    axes.set_yticks(np.arange(len(names)), names, fontsize=9)
    axes.tick_params(axis="y", length=0)
    site = str(split["interest"].item())
    attrs = {**_attrs(groups, site), "unit": str(split["unit"].item())}
    axes.set_xlabel("component of the error of " + axis_label(site, attrs, power))
    tidy(axes)


def _row_name(groups: Mapping[str, xr.Dataset], name: str, kind: str, size: int) -> str:
    label = tex_label(name, _attrs(groups, name))
    words = plain(name) if label == plain(name) else f"{plain(name)}  {label}"
    return ("prior of " if kind == "parameter" else "") + words + (f" ({size})" if size > 1 else "")


def _attrs(groups: Mapping[str, xr.Dataset], name: str) -> Mapping[str, Any]:
    for group in ("posterior", "observed_data"):
        if name in groups.get(group, xr.Dataset()):
            return groups[group][name].attrs
    return {}


def _power(error: float) -> tuple[float, str]:
    """The power of ten to take out of small and large errors, and how an axis says so."""
    exponent = int(np.floor(np.log10(error)))
    if -2 <= exponent <= 3:
        return 1.0, ""
    return 10.0**exponent, f"$10^{{{exponent}}}$"


def _pulls(axes: Any, rows: xr.Dataset) -> None:
    places = np.arange(rows.sizes["group"])
    axes.axvspan(-1.0, 1.0, color=LIGHT, lw=0)
    axes.axvline(0.0, color=GREY, lw=0.8)
    vector = rows["lowest"].notnull().values & rows["pull"].isnull().values
    axes.hlines(places[vector], rows["lowest"].values[vector], rows["highest"].values[vector], color=GREY, lw=3.0)
    axes.errorbar(rows["pull"].values, places, xerr=rows["width"].values, fmt="o", ms=4, color=BLUE, lw=1.6)
    ends = [rows["lowest"], rows["highest"], rows["pull"] - rows["width"], rows["pull"] + rows["width"]]
    reach = max(1.6, 1.08 * float(np.nanmax(np.abs(np.stack(ends)))))
    axes.set_xlim(-reach, reach)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set_xlabel("(pull − centre) / width")
    axes.tick_params(axis="y", length=0)
    tidy(axes)


def _caption(split: xr.Dataset, scalars: bool) -> str:
    data, error = float(split["statistical"]), float(split["error"])
    systematic = float(np.sqrt(max(error**2 - data**2, 0.0)))
    shown = format_measurement(float(split["value"]), error)
    said = [
        f"{literal(split['interest'].item())} = {shown}: {format_number(data, 2)} from fluctuations of the data and "
        f"{format_number(systematic, 2)} from all else, in quadrature.",
        "Bars: how far the answer moves when a group's own measurement moves by its width.",
        "Outlines: the part of the error, in quadrature, that would go if the group were known exactly; these do not "
        "add up.",
    ]
    if scalars:
        said.append("Right: pulls after the data, the band ±1 before them; grey, the range of a vector's values.")
    return " ".join(said)
