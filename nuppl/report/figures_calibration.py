"""What calibration found: ranks, coverage and TARP as distributions beside their bands, and the two tests at the data.

Bands are those that uniform ranks leave, at any place, with the probability of that test's share of the false alarms
(Sailynoja, Burkner, Vehtari, arXiv:2103.10522).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nuppl.diagnostics.calibration_uniformity import band, counts
from nuppl.diagnostics.checks_calibration import LEVEL
from nuppl.report.canvas import BLUE, CYCLE, GREY, INK, LIGHT, ORANGE, Picture, figure, picture, tidy
from nuppl.report.labels import literal, plain, tex_label

__all__ = ["calibration"]

Array = NDArray[np.float64]

SHOWN = 7
"""Curves in one figure, the least uniform; of more than these none could be told apart."""
TEXTS = {"coverage": "expected coverage", "TARP": "TARP"}


def calibration(groups: Mapping[str, xr.Dataset]) -> list[Picture]:
    """Ranks and coverage of each kind of posterior, and the observed data; none without a group `calibration`."""
    if "calibration" not in groups:
        return []
    found = groups["calibration"]
    pictures = []
    for number, name in enumerate(map(str, found["method"].values)):
        one = found.isel(method=number)
        pictures += [_ranks(groups, one, name), _coverage(one, name)]
    return [*pictures, _at_the_data(found)]


def _ranks(groups: Mapping[str, xr.Dataset], found: xr.Dataset, method: str) -> Picture:
    drawn = figure(7.2, 3.9)
    axes = drawn.subplots()
    several = _of(found, "ranks")
    level = LEVEL / max(1, several.sizes["quantity"])
    at = _band(axes, found, int(found.attrs["draws"]), level, difference=True)
    order = np.argsort(several["p_value"].values, kind="stable")[:SHOWN]
    for colour, i in zip(CYCLE, order, strict=False):
        share = _share(several.isel(quantity=i), found)
        name = str(several["quantity"].values[i])
        axes.plot(at, share - at, color=colour, lw=1.3, label=_label(groups, name))
    axes.set_xlabel("rank of the truth / number of draws")
    axes.set_ylabel("share of data sets below − expected")
    axes.set_xlim(0.0, 1.0)
    axes.legend(frameon=False, fontsize=8, ncols=2)
    tidy(axes)
    more = f"; shown are the {SHOWN} least uniform of {several.sizes['quantity']}" if len(order) == SHOWN else ""
    caption = (
        f"Distribution of the ranks of the truth among {_of_draws(found)} of {int(found['datasets'])} simulated data "
        f"sets, less a uniform one{more}. A posterior that is right leaves the band with a probability of "
        f"{100 * LEVEL:g} % for all of them together. A posterior that is too narrow rises above zero on the left and "
        "falls below it on the right; too low, it stays below; too high, above."
    )
    return picture(drawn, f"Ranks of {plain(method)}", caption)


def _coverage(found: xr.Dataset, method: str) -> Picture:
    drawn = figure(8.4, 4.2)
    shown = [test for test in TEXTS if _of(found, test).sizes["quantity"]]
    for axes, test in zip(np.atleast_1d(drawn.subplots(1, len(shown), sharey=True)), shown, strict=True):
        one = _of(found, test).isel(quantity=0)
        at = _band(axes, found, int(one["among"]), LEVEL, difference=False)
        axes.plot([0.0, 1.0], [0.0, 1.0], color=GREY, lw=0.8, ls="--")
        axes.plot(at, _share(one, found), color=BLUE, lw=1.5)
        axes.set_xlabel(f"credibility, {TEXTS[test]}")
        axes.set_xlim(0.0, 1.0)
        axes.set_ylim(0.0, 1.0)
        axes.set_aspect("equal")
        tidy(axes)
    drawn.axes[0].set_ylabel("share of data sets with the truth inside")
    caption = (
        "How often regions of a credibility hold the truth: of highest density (left, where the density is known), and "
        "balls around points that do not know the truth (TARP). Below the diagonal posteriors are too narrow, above "
        f"it too wide. Each band is left by chance with a probability of {100 * LEVEL:g} %."
    )
    return picture(drawn, f"Coverage of {plain(method)}", caption)


def _at_the_data(found: xr.Dataset) -> Picture:
    methods = [str(name) for name in found["method"].values]
    drawn = figure(min(10.5, 3.9 * (1 + len(methods))), 3.2)
    cells = drawn.subplots(1, 1 + len(methods), squeeze=False)[0]
    for number, (axes, name) in enumerate(zip(cells, methods, strict=False)):
        one = found.isel(method=number)
        _histogram(axes, one["null"].values, float(one["statistic"]), float(one["local_p"]))
        axes.set_xlabel(f"local classifier, {plain(name)}")
    _histogram(cells[-1], found["neighbour"].values, float(found["observed"]), float(found["observed_p"]))
    cells[-1].set_xlabel("distance to the 10th neighbour")
    caption = (
        "Left, the statistic of the local classifier test at the observed data (line) among its permutations; right, "
        "the distance of the observed data (line) and of simulated ones to their 10th nearest simulation. A line far "
        "to the right of its histogram is a failure."
    )
    return picture(drawn, "Calibration at the observed data", caption)


def _histogram(axes: Any, values: Array, line: float, p_value: float) -> None:
    axes.hist(values, bins=40, color=LIGHT, ec=BLUE, lw=0.4, density=True)
    axes.axvline(line, color=ORANGE, lw=1.6)
    axes.set_yticks([])
    axes.set_title(f"p = {p_value:.2g}", fontsize=9, color=INK)
    tidy(axes)


def _band(axes: Any, found: xr.Dataset, draws: int, level: float, difference: bool) -> Array:
    """Draw the band; the places of its thresholds."""
    expected = band(int(found["datasets"]), draws, level)
    less = expected.at if difference else np.zeros_like(expected.at)
    axes.fill_between(expected.at, expected.lower - less, expected.upper - less, color=LIGHT, lw=0)
    if difference:
        axes.axhline(0.0, color=GREY, lw=0.8, ls="--")
    return expected.at


def _share(one: xr.Dataset, found: xr.Dataset) -> Array:
    """The share of data sets whose rank lies below each threshold."""
    ranks = one["rank"].values
    return np.asarray(counts(ranks[ranks >= 0], int(one["among"])) / int(found["datasets"]))


def _of(found: xr.Dataset, test: str) -> xr.Dataset:
    return found.isel(quantity=(found["test"].values == test) & found["p_value"].notnull().values)


def _of_draws(found: xr.Dataset) -> str:
    return f"{int(found.attrs['draws'])} draws of the posterior"


def _label(groups: Mapping[str, xr.Dataset], name: str) -> str:
    site, bracket, entry = name.partition("[")
    posterior = groups["posterior"]
    attrs = posterior[site].attrs if site in posterior else {}
    return tex_label(site, attrs) + literal(bracket + entry)
