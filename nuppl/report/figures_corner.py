"""The parameters of interest, alone and in pairs: 68, 90 and 95 % contours, and the prior beside each posterior."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from nuppl.report.canvas import BLUE, GREY, INK, ORANGE, Picture, figure, picture, tidy
from nuppl.report.density import contour_levels, density_1d, density_2d
from nuppl.report.interest import Number, numbers

__all__ = ["corner"]

MASSES = (0.95, 0.90, 0.68)
SHADES = ("#dbe8f4", "#a9cbe8", "#5f9fd3")
GRID = 257


@dataclass(frozen=True)
class Column:
    """One parameter of the corner, in units of a power of ten."""

    values: NDArray[np.float64]
    bounds: tuple[float, float]
    label: str
    prior: tuple[NDArray[np.float64], NDArray[np.float64]] | None


def corner(groups: Mapping[str, xr.Dataset], interest: Sequence[str]) -> Picture | None:
    """The corner plot of the first eight numbers of interest, or None where there is none."""
    columns = [_column(number) for number in numbers(groups, interest)]
    if not columns:
        return None
    n = len(columns)
    size = (6.0, 4.0) if n == 1 else (1.2 + 2.4 * n, 0.9 + 2.3 * n)
    drawn = figure(*size)
    axes = drawn.subplots(n, n, squeeze=False)
    for i in range(n):
        for j in range(n):
            if j > i:
                axes[i, j].set_visible(False)
            elif i == j:
                _marginal(axes[i, i], columns[i])
            else:
                _pair(axes[i, j], columns[j], columns[i])
    _decorate(axes, columns)
    caption = (
        "Posterior with its median and 68 % interval"
        + ("; contours of the smallest regions with 68, 90 and 95 % of the probability" if n > 1 else "")
        + ". The orange line is the prior, on the same scale."
    )
    return picture(drawn, "Parameters of interest", caption)


def _column(number: Number) -> Column:
    low, high = number.shown(np.maximum(number.bounds, 0.0 if number.is_log else -np.inf))
    column = Column(number.shown(number.values), (float(low), float(high)), number.axis, None)
    grid = np.linspace(*_range(column), GRID)
    density = number.prior_density(grid)
    return column if density is None else replace(column, prior=(grid, density))


def _marginal(axes: Any, column: Column) -> None:
    grid, density = density_1d(column.values, column.bounds)
    median, lower, upper = np.quantile(column.values, (0.5, 0.15866, 0.84134))
    axes.plot(grid, density, color=BLUE, lw=1.6)
    inside = (grid >= lower) & (grid <= upper)
    axes.fill_between(grid[inside], density[inside], color=SHADES[1], lw=0)
    axes.axvline(median, color=INK, lw=0.9, ls="--")
    if column.prior is not None:
        axes.plot(*column.prior, color=ORANGE, lw=1.4)
    axes.set_xlim(*_range(column))
    axes.set_ylim(0.0, 1.12 * density.max())
    axes.set_yticks([])
    tidy(axes)
    axes.spines["left"].set_visible(False)


def _range(column: Column) -> tuple[float, float]:
    low, high = np.quantile(column.values, (0.0005, 0.9995))
    margin = 0.12 * (high - low) or 1e-3 * max(abs(low), 1e-12)
    return max(low - margin, column.bounds[0]), min(high + margin, column.bounds[1])


def _pair(axes: Any, across: Column, up: Column) -> None:
    x, y, density = density_2d(across.values, up.values, (across.bounds, up.bounds))
    levels = contour_levels(density, MASSES)
    # Equal levels, as a single spike gives, cannot be contoured.
    if all(a < b for a, b in zip(levels, [*levels[1:], float(density.max())], strict=True)):
        axes.contourf(x, y, density, levels=[*levels, float(density.max())], colors=SHADES)
        axes.contour(x, y, density, levels=levels, colors=[BLUE], linewidths=0.8)
    axes.plot(np.median(across.values), np.median(up.values), "+", color=INK, ms=8)
    axes.set_xlim(*_range(across))
    axes.set_ylim(*_range(up))


def _decorate(axes: Any, columns: list[Column]) -> None:
    n = len(columns)
    for i in range(n):
        for j in range(i + 1):
            cell = axes[i, j]
            cell.xaxis.set_major_locator(MaxNLocator(5, prune="both") if n > 1 else MaxNLocator(7))
            cell.tick_params(colors=INK, labelsize=9)
            if i == n - 1:
                cell.set_xlabel(columns[j].label)
            else:
                cell.set_xticklabels([])
            if i == j:
                continue
            cell.yaxis.set_major_locator(MaxNLocator(5, prune="both"))
            cell.grid(color=GREY, alpha=0.15)
            if j == 0:
                cell.set_ylabel(columns[i].label)
            else:
                cell.set_yticklabels([])
