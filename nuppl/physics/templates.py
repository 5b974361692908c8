r"""Templates in the mass splitting: fold spectrum, cross section and response once, then only interpolate.

In vacuum P = 1 - sum_p w_p sin^2(1.2669... dm2_p L/E). What sin^2 becomes after folding is a smooth and even function
V(dm2) per bin. Two representations:

- `even_chebyshev`: V(x) = sum_m c_m T_2m(x / limit). For splittings up to a few periods; one matrix product.
- `HermiteTable`: cubic Hermite interpolation on a grid refined until V between its points is known to a tolerance;
  continuous with its first derivative. For splittings over many orders of magnitude.

Both are differentiable, and NaN where the splitting leaves the template: never an extrapolation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["HermiteTable", "chebyshev_coefficients", "chebyshev_nodes", "even_chebyshev", "refined_table"]


def chebyshev_nodes(limit: float, count: int) -> Tensor:
    """Splittings in (0, limit) at which a function determines `count` even coefficients, with shape (count,)."""
    angle = math.pi * (torch.arange(count, dtype=torch.float64) + 0.5) / count
    nodes: Tensor = limit * (0.5 * (1.0 + angle.cos())).sqrt()
    return nodes


def chebyshev_coefficients(values: Tensor) -> Tensor:
    """Even Chebyshev coefficients with shape (count, *) from the values at `chebyshev_nodes` with shape (count, *)."""
    count = len(values)
    angle = math.pi * (torch.arange(count, dtype=torch.float64) + 0.5) / count
    transform = (2.0 / count) * (torch.arange(count, dtype=torch.float64)[:, None] * angle).cos()
    transform[0] *= 0.5
    coefficients: Tensor = torch.tensordot(transform, values, dims=1)
    return coefficients


def even_chebyshev(splitting: Tensor, limit: float, count: int) -> Tensor:
    """T_0, T_2, ..., T_{2 count - 2} at splitting / limit with shape (*, count); NaN beyond the limit.

    >>> basis = even_chebyshev(torch.tensor([0.0, -1.0, 2.0]), 1.0, 3)
    >>> basis.tolist()
    [[1.0, -1.0, 1.0], [1.0, 1.0, 1.0], [nan, nan, nan]]
    """
    argument = 2.0 * (splitting / limit) ** 2 - 1.0
    argument = torch.where(argument <= 1.0, argument, torch.nan)
    values = [torch.ones_like(argument) + 0.0 * argument, argument]
    for _ in range(count - 2):
        values.append(2.0 * argument * values[-1] - values[-2])
    return torch.stack(values[:count], dim=-1)


@dataclass(frozen=True, eq=False)
class HermiteTable:
    """Values and slopes of a function on an ascending grid that starts at zero.

    Attributes:
        grid: with shape (g,).
        values: with shape (g, *out).
        slopes: derivatives with shape (g, *out).
    """

    grid: Tensor
    values: Tensor
    slopes: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """The function at |x| with shape (*x, *out); NaN beyond the grid."""
        x = x.abs()
        inside = x <= self.grid[-1]
        x = torch.where(inside, x, 0.0)
        left = (torch.searchsorted(self.grid, x.detach(), right=True) - 1).clamp(0, len(self.grid) - 2)
        step = self.grid[left + 1] - self.grid[left]
        t = torch.where(inside, (x - self.grid[left]) / step, torch.nan)
        weights = _hermite(t, step)
        extra = (...,) + (None,) * (self.values.ndim - 1)
        total = weights[0][extra] * self.values[left] + weights[1][extra] * self.values[left + 1]
        return total + weights[2][extra] * self.slopes[left] + weights[3][extra] * self.slopes[left + 1]


def _hermite(t: Tensor, step: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rest = 1.0 - t
    return (
        (1.0 + 2.0 * t) * rest**2,
        (1.0 + 2.0 * rest) * t**2,
        step * t * rest**2,
        -step * rest * t**2,
    )


def refined_table(
    function: Callable[[Tensor], tuple[Tensor, Tensor]], grid: Tensor, tolerance: float, rounds: int = 12
) -> HermiteTable:
    """Halve the intervals of `grid` until the table reproduces the function in their middles.

    Arguments:
        function: points with shape (g,) to values and slopes, each with shape (g, *out).
        grid: first guess, ascending from zero; fine enough to see every oscillation.
        tolerance: absolute error in any output. Halving an interval divides the error of a smooth function by 16;
            an interval is open until half of that brings it below the tolerance.
        rounds: most times an interval is halved.
    """
    values, slopes = function(grid)
    open_ = torch.ones(len(grid) - 1, dtype=torch.bool)
    for _ in range(rounds):
        index = open_.nonzero()[:, 0]
        if not len(index):
            break
        middle = 0.5 * (grid[index] + grid[index + 1])
        new_values, new_slopes = function(middle)
        error = _error(HermiteTable(grid, values, slopes), middle, index, (new_values, new_slopes))
        grid, order = torch.cat([grid, middle]).sort()
        values, slopes = torch.cat([values, new_values])[order], torch.cat([slopes, new_slopes])[order]
        open_ = _halves_still_open(index, error > 8.0 * tolerance, len(order) - len(index) - 1)
    return HermiteTable(grid, values, slopes)


def _error(table: HermiteTable, middle: Tensor, index: Tensor, exact: tuple[Tensor, Tensor]) -> Tensor:
    """Greatest error per interval, from the value in its middle and, for what is odd about it, from the slope there."""
    step = table.grid[index + 1] - table.grid[index]
    extra = (slice(None),) + (None,) * (table.values.ndim - 1)
    rise = (table.values[index + 1] - table.values[index]) / step[extra]
    slope = 1.5 * rise - 0.25 * (table.slopes[index] + table.slopes[index + 1])
    odd = (slope - exact[1]).abs() * step[extra] / 8.0
    return torch.maximum((table(middle) - exact[0]).abs(), odd).flatten(1).amax(-1)


def _halves_still_open(index: Tensor, missed: Tensor, intervals: int) -> Tensor:
    """Which intervals of the new grid lie in an old interval that missed the tolerance."""
    halved = torch.zeros(intervals, dtype=torch.bool)
    halved[index] = True
    failed = torch.zeros(intervals, dtype=torch.bool)
    failed[index] = missed
    return failed.repeat_interleave(torch.where(halved, 2, 1))
