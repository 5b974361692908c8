"""Credible and confidence regions on one grid, and the intervals of each parameter.

A region is where f <= 0: f = t - critical value of a scan, f = height of the level - density of a posterior. Credible
regions are those of highest density per unit of the axis, which is the logarithm where the axis is logarithmic.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RegularGridInterpolator
from scipy.ndimage import label
from scipy.stats import chi2

from nuppl.report.compared import Compared, Confidence, Posterior
from nuppl.report.density import contour_levels, density_1d, density_2d
from nuppl.report.interest import Number
from nuppl.results.intervals import intervals

__all__ = ["Interval", "Plane", "Region", "interval_rows", "plane", "regions"]

Array = NDArray[np.float64]
POINTS = {1: 600, 2: 160}
"""Along each axis of the common grid, of so many parameters."""


@dataclass(frozen=True, eq=False)
class Plane:
    """The common grid of one or two parameters.

    Attributes:
        axes: ascending values of each parameter.
        log: whether they are spaced in the logarithm.
    """

    axes: tuple[Array, ...]
    log: tuple[bool, ...]

    def flat(self, axis: int, values: Array) -> Array:
        """Values in the coordinate in which an axis is even."""
        return np.asarray(np.log(values) if self.log[axis] else values, dtype=float)

    def mesh(self) -> Array:
        """Even coordinates of all points with shape (*, K)."""
        flat = (self.flat(i, axis) for i, axis in enumerate(self.axes))
        return np.stack(np.meshgrid(*flat, indexing="ij"), -1)


@dataclass(frozen=True, eq=False)
class Region:
    """Where a result accepts.

    Attributes:
        source: the name of the result.
        kind: "credible", "Wilks", "toys" or "learned".
        level: of probability or confidence.
        field: f on the common grid.
    """

    source: str
    kind: str
    level: float
    field: Array

    @property
    def inside(self) -> NDArray[np.bool_]:
        """The points of the region."""
        return np.asarray(self.field <= 0.0)

    @property
    def islands(self) -> int:
        """Parts that do not hang together."""
        return int(label(self.inside)[1])

    @property
    def words(self) -> str:
        """`runs/scan, toys`."""
        return f"{self.source}, {self.kind}"


@dataclass(frozen=True)
class Interval:
    """Intervals of one parameter at one level, from one result in one way."""

    parameter: str
    level: float
    source: str
    method: str
    found: tuple[tuple[float, float], ...]


def plane(compared: Compared) -> Plane | None:
    """The common grid: that of the scans where they overlap, or where the draws are; None of more than two."""
    count = POINTS.get(len(compared.parameters))
    if count is None:
        return None
    log = tuple(compared.is_log(name) for name in compared.parameters)
    axes = []
    for place, name in enumerate(compared.parameters):
        low, high = _range(compared, place, name)
        axes.append(np.geomspace(low, high, count) if log[place] else np.linspace(low, high, count))
    return Plane(tuple(axes), log)


def _range(compared: Compared, place: int, name: str) -> tuple[float, float]:
    if compared.scans:
        ends = [(scan.axes[place][0], scan.axes[place][-1]) for scan in compared.scans]
        return float(max(low for low, _ in ends)), float(min(high for _, high in ends))
    draws = np.concatenate([run.numbers[name].values for run in compared.posteriors])
    low, high = np.quantile(draws, (0.0005, 0.9995))
    return float(low), float(high)


def regions(compared: Compared, common: Plane) -> Iterator[Region]:
    """All regions on the common grid."""
    for run in compared.posteriors:
        density, heights = _density(run, compared, common)
        for level, height in zip(compared.levels, heights, strict=True):
            yield Region(run.name, "credible", level, height - density)
    for scan in compared.scans:
        for kind in scan.kinds():
            for level in compared.levels:
                field = on_plane(scan, scan.statistic - scan.critical(kind, level), common)
                yield Region(scan.name, kind, level, field)


def on_plane(scan: Confidence, values: Array, common: Plane) -> Array:
    """Values on the grid of a scan, between its points by linear interpolation."""
    flat = tuple(common.flat(i, axis) for i, axis in enumerate(scan.axes))
    found = RegularGridInterpolator(flat, np.clip(values, -1e6, 1e6), bounds_error=False, fill_value=None)
    return np.asarray(found(common.mesh()), dtype=float)


def _density(run: Posterior, compared: Compared, common: Plane) -> tuple[Array, list[float]]:
    """The density of a run on the common grid, and the heights of the levels."""
    flat = [_flat(run.numbers[name], common.log[i]) for i, name in enumerate(compared.parameters)]
    if len(flat) == 1:
        ((values, bounds),) = flat
        grid, density = density_1d(values, bounds, 1024)
        grids: tuple[Array, ...] = (grid,)
    else:
        (x, x_bounds), (y, y_bounds) = flat
        across, up, upright = density_2d(x, y, (x_bounds, y_bounds), 240)
        grids, density = (across, up), upright.T
    found = RegularGridInterpolator(grids, density, bounds_error=False, fill_value=None)
    mesh = common.mesh()
    # Half a cell beyond the last point the density still is what it is there; further out there are no draws.
    held = np.stack([np.clip(mesh[..., i], grid[0], grid[-1]) for i, grid in enumerate(grids)], -1)
    steps = np.array([grid[1] - grid[0] for grid in grids])
    near = (np.abs(mesh - held) <= 0.51 * steps).all(-1)
    return np.where(near, np.asarray(found(held)), 0.0), contour_levels(density, compared.levels)


def _flat(number: Number, log: bool) -> tuple[Array, tuple[float, float]]:
    """Draws and bounds in the coordinate of the axis."""
    low, high = number.bounds
    if not log:
        return number.values, (low, high)
    with np.errstate(divide="ignore"):
        return np.log(number.values), (float(np.log(max(low, 0.0))), float(np.log(high)))


def interval_rows(compared: Compared) -> Iterator[Interval]:
    """All intervals, by parameter, result, method and level."""
    for place, name in enumerate(compared.parameters):
        for run in compared.posteriors:
            yield from _credible(run, name, compared)
        for scan in compared.scans:
            yield from _confidence(scan, place, name, compared)


def _credible(run: Posterior, name: str, compared: Compared) -> Iterator[Interval]:
    log, number = compared.is_log(name), run.numbers[name]
    values, bounds = _flat(number, log)
    grid, density = density_1d(values, bounds, 2048)
    step = grid[1] - grid[0]
    for level, height in zip(compared.levels, contour_levels(density, compared.levels), strict=True):
        ends = np.array(intervals(grid, -density, np.full_like(density, -height)))
        for end, bound in zip((0, -1), bounds, strict=True):
            if len(ends) and abs(ends[end, end] - bound) <= step:
                ends[end, end] = bound  # the grid's last point lies half a step inside
        yield Interval(name, level, run.name, "highest density", _pairs(np.exp(ends) if log else ends))
    for level in compared.levels:
        quantiles = np.quantile(number.values, (0.5 - 0.5 * level, 0.5 + 0.5 * level))
        yield Interval(name, level, run.name, "equal tails", _pairs(quantiles[None]))


def _confidence(scan: Confidence, place: int, name: str, compared: Compared) -> Iterator[Interval]:
    others = tuple(axis for axis in range(len(compared.parameters)) if axis != place)
    for kind in scan.kinds():
        for level in compared.levels:
            if kind == "Wilks":
                method, above = kind, scan.statistic.min(axis=others) - float(chi2.ppf(level, 1))
                at_best = -float(chi2.ppf(level, 1))
            else:
                # Of several parameters: where any value of the others is accepted.
                method = f"{kind}, projected" if others else kind
                critical = scan.critical(kind, level)
                above = (scan.statistic - critical).min(axis=others)
                at_best = -float(critical.flat[scan.statistic.argmin()])
            x, field = scan.axes[place], above
            if "Wilks" in scan.kinds():
                x, field = _with_best(x, field, scan.best[name], at_best)
            yield Interval(name, level, scan.name, method, _pairs(intervals(x, field, np.zeros(len(x)))))


def _with_best(x: Array, field: Array, best: float, at_best: float) -> tuple[Array, Array]:
    """With the best fit among the points, where t is zero: it may lie between two that are both excluded."""
    if not x[0] < best < x[-1] or best in x:
        return x, field
    place = int(np.searchsorted(x, best))
    return np.insert(x, place, best), np.insert(field, place, at_best)


def _pairs(found: Any) -> tuple[tuple[float, float], ...]:
    return tuple((float(low), float(high)) for low, high in found)
