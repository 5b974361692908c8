"""Binned data against the posterior prediction, and both against the model's reference expectation.

A data site is drawn if its last axis has numbers as coordinates. With a second axis (detectors) there is one panel per
entry, and before it one per group of entries that the model file declared (`panels`), their spectra added.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.stats import chi2

from nuppl.report.canvas import BAND, BLUE, GREY, INK, LIGHT, Picture, figure, picture, tidy
from nuppl.report.labels import axis_name, literal, plain

__all__ = ["spectra"]

Array = NDArray[np.float64]
QUANTILES = (0.025, 0.15866, 0.5, 0.84134, 0.975)
PRECISE = 0.5
"""Ratios with larger errors than this do not set the range of the axis."""
MOST = 16
"""Panels in one figure."""


@dataclass(frozen=True)
class Panel:
    """One spectrum with shape (E,) each, and the quantiles of its replicas with shape (5, E)."""

    title: str
    centers: Array
    data: Array
    errors: Array
    """Lower and upper error of the data with shape (2, E)."""
    prediction: Array
    reference: Array


@dataclass(frozen=True)
class Spectrum:
    """What the file holds of one data site with shape (E,) or (D, E); replicas with shape (n, ..., E)."""

    name: str
    observed: xr.DataArray
    replicas: Array
    reference: Array
    deviation: Array
    against: str
    """What the ratio is to, in words."""

    def panel(self, title: str, members: list[int] | None) -> Panel:
        """One panel: the sum of some entries of the first axis, or the only spectrum there is."""
        rows: Any = slice(None) if members is None else members

        def add(array: Array, axis: int = 0) -> Array:
            return array if members is None else np.take(array, rows, axis=axis).sum(axis)

        data = add(np.asarray(self.observed.values, dtype=np.float64))
        variance = add(self.deviation**2)
        errors = (
            _poisson_errors(data)
            if self.observed.attrs.get("distribution") == "Poisson"
            else np.sqrt(np.stack([variance, variance]))
        )
        centers = np.asarray(self.observed.coords[self.observed.dims[-1]].values, dtype=np.float64)
        prediction = np.quantile(add(self.replicas, 1), QUANTILES, axis=0)
        return Panel(title, centers, data, errors, prediction, add(self.reference))


def spectra(
    groups: Mapping[str, xr.Dataset], panels: Mapping[str, Sequence[str]], reference: Mapping[str, float]
) -> list[Picture]:
    """All figures of all binned data sites.

    Arguments:
        groups: of a posterior.
        panels: groups of entries whose spectra are added.
        reference: the point that the reference expectation belongs to, for the caption.
    """
    point = ", ".join(f"{name} = {value:g}" for name, value in reference.items())
    return [drawn for spectrum in _spectra(groups, point) for drawn in _pictures(spectrum, panels)]


def _spectra(groups: Mapping[str, xr.Dataset], point: str) -> Iterator[Spectrum]:
    constants, replicas = groups["constant_data"], groups.get("posterior_predictive", xr.Dataset())
    for key, observed in groups["observed_data"].data_vars.items():
        name = str(key)
        if not (_is_binned(observed) and name in replicas and f"{name}_expected" in constants):
            continue
        values = np.asarray(replicas[name].transpose("chain", "draw", ...).values, dtype=np.float64)
        has_reference = f"{name}_reference" in constants
        yield Spectrum(
            name,
            observed,
            values.reshape(-1, *values.shape[2:]),
            np.asarray(constants[f"{name}_reference" if has_reference else f"{name}_expected"].values),
            np.asarray(constants[f"{name}_deviation"].values),
            f"the reference, the expectation at {point}" if has_reference else "the reference, the posterior mean",
        )


def _is_binned(observed: xr.DataArray) -> bool:
    if observed.ndim not in (1, 2) or observed.dims[-1] not in observed.coords or observed.sizes[observed.dims[-1]] < 2:
        return False
    return bool(np.issubdtype(observed.coords[observed.dims[-1]].dtype, np.number))


def _pictures(spectrum: Spectrum, groups: Mapping[str, Sequence[str]]) -> Iterator[Picture]:
    name, observed = spectrum.name, spectrum.observed
    if observed.ndim == 1:
        yield _draw(spectrum, [spectrum.panel("", None)], plain(name))
        return
    entries = [str(entry) for entry in observed.coords[observed.dims[0]].values]
    chosen = {title: [entries.index(m) for m in members if m in entries] for title, members in groups.items()}
    summed = [spectrum.panel(plain(title), members) for title, members in chosen.items() if members]
    if summed:
        yield _draw(spectrum, summed, f"{plain(name)}: {', '.join(panel.title for panel in summed)}")
    single = [spectrum.panel(entry, [i]) for i, entry in enumerate(entries)]
    for start in range(0, len(single), MOST):
        yield _draw(spectrum, single[start : start + MOST], f"{plain(name)}, by {plain(str(observed.dims[0]))}")


def _draw(spectrum: Spectrum, panels: list[Panel], title: str) -> Picture:
    columns = min(len(panels), 2 if len(panels) < 3 else 3 if len(panels) in (3, 5, 6, 9) else 4)
    rows = math.ceil(len(panels) / columns)
    width, height = (6.5, 4.8) if len(panels) == 1 else (10.5, 0.3 + rows * (4.8 if columns == 2 else 3.4))
    drawn = figure(width, height)
    grid = drawn.add_gridspec(2 * rows, columns, height_ratios=[2.2, 1.0] * rows)
    for i, panel in enumerate(panels):
        row, column = divmod(i, columns)
        upper = drawn.add_subplot(grid[2 * row, column])
        lower = drawn.add_subplot(grid[2 * row + 1, column], sharex=upper)
        _upper(upper, panel)
        _lower(lower, panel)
        if column == 0:
            unit = str(spectrum.observed.attrs.get("unit", "")) or "events"
            upper.set_ylabel(f"{unit} per bin")
            lower.set_ylabel("ratio")
        if i + columns >= len(panels):
            lower.set_xlabel(axis_name(spectrum.observed.coords[spectrum.observed.dims[-1]]))
    handles, labels = drawn.axes[0].get_legend_handles_labels()
    drawn.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False, fontsize=10)
    caption = (
        f"Data with their errors, the posterior prediction with its 68 and 95 % bands, and below both divided by "
        f"{spectrum.against}."
    )
    return picture(drawn, title[:1].upper() + title[1:], caption)


def _upper(axes: Any, panel: Panel) -> None:
    edges = _edges(panel.centers)
    _bands(axes, edges, panel.prediction, labels=("95 % of replicas", "68 % of replicas"))
    axes.stairs(panel.reference, edges, color=GREY, lw=1.0, ls="--", label="reference")
    _points(axes, panel.centers, panel.data, panel.errors, label="data")
    tops = (panel.data + panel.errors[1], panel.reference, panel.prediction[-1])
    axes.set_ylim(0.0, 1.08 * max(float(top.max()) for top in tops))
    axes.set_xlim(edges[0], edges[-1])
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-3, 5), useMathText=True)
    axes.tick_params(labelbottom=False)
    axes.set_title(literal(panel.title), fontsize=11, loc="right")
    tidy(axes)


def _lower(axes: Any, panel: Panel) -> None:
    scale = np.where(panel.reference > 0.0, panel.reference, np.nan)
    prediction, data, errors = panel.prediction / scale, panel.data / scale, panel.errors / scale
    _bands(axes, _edges(panel.centers), prediction)
    axes.axhline(1.0, color=GREY, lw=1.0, ls="--")
    _points(axes, panel.centers, data, errors)
    # Bins with a handful of events must not squeeze all others flat.
    precise = np.isfinite(data) & (errors.max(0) < PRECISE)
    low, high = 0.0, 4.0
    if precise.any():
        low = min(1.0, np.quantile(np.minimum(data - errors[0], prediction[0])[precise], 0.05))
        high = max(1.0, np.quantile(np.maximum(data + errors[1], prediction[-1])[precise], 0.95))
    axes.set_ylim(low - 0.15 * (high - low), high + 0.15 * (high - low))
    tidy(axes)


def _bands(axes: Any, edges: Array, quantiles: Array, labels: tuple[str, str] = ("", "")) -> None:
    for (low, high), colour, label in zip(((0, 4), (1, 3)), (LIGHT, BAND), labels, strict=True):
        lower, upper = (np.append(quantiles[i], quantiles[i][-1]) for i in (low, high))
        axes.fill_between(edges, lower, upper, step="post", color=colour, lw=0, label=label or None)
    axes.stairs(quantiles[2], edges, color=BLUE, lw=1.0, baseline=None)


def _points(axes: Any, x: Array, y: Array, errors: Array, label: str = "") -> None:
    axes.errorbar(x, y, yerr=np.nan_to_num(errors), fmt="o", ms=2.6, lw=0.9, color=INK, label=label or None)


def _edges(centers: Array) -> Array:
    middle = 0.5 * (centers[1:] + centers[:-1])
    return np.concatenate([[2 * centers[0] - middle[0]], middle, [2 * centers[-1] - middle[-1]]])


def _poisson_errors(counts: Array) -> Array:
    """Central 68.27 % intervals of a Poisson mean (Garwood 1936), as errors with shape (2, *)."""
    tail = 0.15865525393145707
    lower = np.where(counts > 0, 0.5 * chi2.ppf(tail, 2 * np.maximum(counts, 1e-9)), 0.0)
    upper = 0.5 * chi2.isf(tail, 2 * counts + 2)
    return np.stack([counts - lower, upper - counts])
