"""What the data did to each pull: its posterior mean and width, in units of the width that it came with.

A width below 1 means that the data constrain it further; a mean far from 0 means that they disagree with its own
measurement.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nuppl.report.canvas import BAND, BLUE, GREY, INK, LIGHT, Picture, figure, picture, tidy
from nuppl.report.labels import axis_name, coordinates, literal, plain, tex_label
from nuppl.results.arrays import entries

__all__ = ["pulls"]

Array = NDArray[np.float64]
LISTED = 60
"""A site with more entries is drawn as a band over its coordinate."""
PER_COLUMN, COLUMNS = 24, 2
"""A page of fifty labels: matplotlib remembers no more than that many, and reading LaTeX is what takes the time."""


@dataclass(frozen=True)
class Pulls:
    """One site, whitened: flat entries with shape (K,)."""

    name: str
    label: str
    entries: list[str]
    mean: Array
    sd: Array
    draws: xr.DataArray


def pulls(groups: Mapping[str, xr.Dataset]) -> list[Picture]:
    """The listed pulls, 24 a column, then one figure for each long vector."""
    sites = list(_sites(groups))
    listed = [row for site in sites if len(site.entries) <= LISTED for row in _rows(site)]
    pages = [listed[i : i + PER_COLUMN * COLUMNS] for i in range(0, len(listed), PER_COLUMN * COLUMNS)]
    titles = ["Pulls"] if len(pages) == 1 else [f"Pulls, {i + 1} of {len(pages)}" for i in range(len(pages))]
    drawn = [_list(page, title) for page, title in zip(pages, titles, strict=False)]
    return drawn + [_band(site) for site in sites if len(site.entries) > LISTED]


def _sites(groups: Mapping[str, xr.Dataset]) -> Iterator[Pulls]:
    constants = groups.get("constant_data", xr.Dataset())
    for key, draws in groups["posterior"].data_vars.items():
        name = str(key)
        if draws.attrs.get("kind") != "pull" or f"{name}_sigma" not in constants:
            continue
        center, sigma = (np.ravel(constants[f"{name}_{part}"].values) for part in ("center", "sigma"))
        mean, sd = np.array([(values.mean(), values.std()) for _, values in entries(draws)]).T
        names = [", ".join(coordinates(draws, entry)) for entry in np.ndindex(draws.shape[2:])]
        yield Pulls(name, tex_label(name, draws.attrs), names, (mean - center) / sigma, sd / sigma, draws)


Row = tuple[str, float, float]


def _rows(site: Pulls) -> Iterator[Row]:
    for entry, mean, sd in zip(site.entries, site.mean, site.sd, strict=True):
        yield (f"{site.label}  {literal(entry)}" if entry else site.label), float(mean), float(sd)


def _list(rows: list[Row], title: str) -> Picture:
    columns = 1 if len(rows) <= 24 else COLUMNS
    length = -(-len(rows) // columns)
    drawn = figure(6.8 if columns == 1 else 10.5, 1.0 + 0.22 * length)
    axes = drawn.subplots(1, columns, squeeze=False, sharex=True)[0]
    for i, cell in enumerate(axes):
        _column(cell, rows[i * length : (i + 1) * length], length)
    caption = "Posterior mean and standard deviation of each pull; the band is its constraint before the data, ±1."
    return picture(drawn, title, caption)


def _column(axes: Any, rows: list[Row], length: int) -> None:
    heights = np.arange(len(rows))
    means, widths = (np.array([row[i] for row in rows]) for i in (1, 2))
    axes.axvspan(-1.0, 1.0, color=LIGHT, lw=0)
    axes.axvline(0.0, color=GREY, lw=0.8)
    axes.errorbar(means, heights, xerr=widths, fmt="o", ms=4, color=BLUE, ecolor=BLUE, lw=1.6)
    axes.set_yticks(heights, [row[0] for row in rows], fontsize=9)
    axes.set_ylim(length - 0.4, -0.6)
    reach = max(1.6, float(np.abs(np.concatenate([means - widths, means + widths])).max(initial=0.0)) * 1.08)
    low, high = axes.get_xlim() if axes.get_autoscalex_on() is False else (-reach, reach)
    axes.set_xlim(min(low, -reach), max(high, reach))
    axes.set_xlabel("(pull − centre) / width before the data")
    axes.tick_params(axis="y", length=0)
    tidy(axes)


def _band(site: Pulls) -> Picture:
    drawn = figure(10.5, 3.4)
    axes = drawn.subplots()
    along, label = _abscissa(site)
    axes.axhspan(-1.0, 1.0, color=LIGHT, lw=0, label="before the data, ±1")
    axes.fill_between(
        along, site.mean - site.sd, site.mean + site.sd, color=BAND, lw=0, step="mid", label="posterior, ±1"
    )
    axes.plot(along, site.mean, color=BLUE, lw=1.0, drawstyle="steps-mid", label="posterior mean")
    axes.axhline(0.0, color=GREY, lw=0.8)
    axes.set_xlim(along[0], along[-1])
    axes.set_xlabel(label)
    axes.set_ylabel("(pull − centre) / width")
    axes.tick_params(colors=INK)
    tidy(axes)
    drawn.legend(loc="outside upper right", ncols=3, frameon=False, fontsize=10)
    caption = f"{len(site.entries)} pulls: mean and width after the data against their constraint."
    return picture(drawn, f"Pulls: {plain(site.name)}", caption)


def _abscissa(site: Pulls) -> tuple[Array, str]:
    dims = [str(dim) for dim in site.draws.dims[2:]]
    if len(dims) == 1 and np.issubdtype(site.draws.coords[dims[0]].dtype, np.number):
        along = np.asarray(site.draws.coords[dims[0]].values, dtype=np.float64)
        if (np.diff(along) > 0).all():
            return along, axis_name(site.draws.coords[dims[0]])
    return np.arange(len(site.entries), dtype=np.float64), f"entry ({', '.join(plain(dim) for dim in dims)})"
