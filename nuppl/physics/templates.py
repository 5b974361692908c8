r"""Templates in the mass splitting: fold spectrum, cross section and response once, then only interpolate.

In vacuum P = 1 - sum_p w_p sin^2(1.2669... dm2_p L/E). What sin^2 becomes after folding is a smooth and even function
V(dm2) per bin. Two representations:

- `even_chebyshev`: V(x) = sum_m c_m T_2m(x / limit). For splittings up to a few periods; one matrix product.
- `SplineTable`: a cubic spline on a grid whose distances grow with the splitting, continuous with two derivatives. For
  splittings over many orders of magnitude.

Both are differentiable, and NaN where the splitting leaves the template: never an extrapolation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["Spacing", "SplineTable", "chebyshev_coefficients", "chebyshev_nodes", "even_chebyshev", "spline_tables"]

_POLE = 3.0**0.5 - 2.0
_BEYOND = 14  # grid points beyond either end of a table
_POINTS = 64  # tabulated at a time


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


@dataclass(frozen=True)
class Spacing:
    """Distances between grid points, from `fine` around zero to `coarse` far out; they are even in the coordinate

        s(x) = x / coarse + (1 / fine - 1 / coarse) turn asinh(x / turn),

    in which distances are one. Beyond `turn` they grow in proportion to x until `coarse` limits them.
    """

    fine: float
    coarse: float
    turn: float

    def coordinate(self, x: Tensor) -> Tensor:
        """s(x), odd and increasing."""
        return x / self.coarse + self._excess() * torch.asinh(x / self.turn)

    def points(self, first: int, last: int) -> Tensor:
        """x at the integers s from `first` to `last`, with shape (last - first + 1,)."""
        goal = torch.arange(first, last + 1, dtype=torch.float64)
        x = goal * self.fine  # Newton comes from below, as the slope falls with |x|
        for _ in range(100):
            slope = 1.0 / self.coarse + self._excess() / (self.turn**2 + x**2).sqrt()
            x = x + (goal - self.coordinate(x)) / slope
        return x

    def _excess(self) -> float:
        return (1.0 / self.fine - 1.0 / self.coarse) * self.turn


@dataclass(frozen=True, eq=False)
class SplineTable:
    """A function as a cubic spline through its values at the points of a `Spacing`, continuous with two derivatives.

    Sums over several points are taken where the rows lie (`embedding_bag`), in single precision: good to 1e-7 of the
    greatest value. Derivatives of any order exist.

    Attributes:
        spacing: the grid.
        greatest: end of the table, which begins at zero.
        coefficients: of the B-splines in s with shape (rows, outputs), from s = -1 on.
    """

    spacing: Spacing
    greatest: float
    coefficients: Tensor

    def __call__(self, x: Tensor, weights: Tensor) -> Tensor:
        """sum_p w_p f(x_p) with shape (*, outputs), for x and w with shape (*, P); NaN beyond the table."""
        inside = (x >= 0.0) & (x <= self.greatest)
        place = self.spacing.coordinate(torch.where(inside, x, 0.0))
        left = place.detach().floor()
        share = torch.where(inside, place - left, torch.nan)
        index = left.long()[..., None] + torch.arange(4)
        spread = weights[..., None] * torch.stack(_cubic(share), dim=-1)
        total: Tensor = _WeightedSum.apply(  # type: ignore[no-untyped-call]
            spread.flatten(-2), index.flatten(-2).expand(spread.flatten(-2).shape), self.coefficients
        )
        return total


def spline_tables(
    function: Callable[[Tensor], tuple[Tensor, ...]], spacing: Spacing, greatest: float
) -> tuple[SplineTable, ...]:
    """Tabulate functions on one grid from zero to `greatest`.

    `function` takes points with shape (k,) to values, each with shape (k, outputs). It is also called a little beyond
    either end, so that the splines do not depend on what they are there.
    """
    last = int(spacing.coordinate(torch.tensor(greatest, dtype=torch.float64))) + 2
    points = spacing.points(-1 - _BEYOND, last + _BEYOND).split(_POINTS)
    columns = zip(*([part.float() for part in function(some)] for some in points), strict=True)
    return tuple(SplineTable(spacing, greatest, _to_coefficients(torch.cat(column))) for column in columns)


def _cubic(t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The four cubic B-splines that reach into an interval."""
    rest = 1.0 - t
    return rest**3 / 6.0, 2.0 / 3.0 - t**2 * (1.0 - 0.5 * t), 2.0 / 3.0 - rest**2 * (1.0 - 0.5 * rest), t**3 / 6.0


def _to_coefficients(values: Tensor) -> Tensor:
    """From values of a spline to its coefficients along the first axis, without `_BEYOND` rows at either end.

    Two recursions (M. Unser, A. Aldroubi and M. Eden, IEEE Trans. Signal Process. 41, 821 (1993)), in place; what is
    wrong at their ends falls to 1e-8 over the rows left out.
    """
    for i in range(1, len(values)):
        values[i].add_(values[i - 1], alpha=_POLE)
    values[-1].mul_(-_POLE)
    for i in range(len(values) - 2, -1, -1):
        values[i].sub_(values[i + 1]).mul_(-_POLE)
    return values.mul_(6.0)[_BEYOND:-_BEYOND]


class _WeightedSum(torch.autograd.Function):
    """sum_k w_k row_k with shape (*, outputs), from weights and indices of rows with shape (*, k)."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, index: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(index, rows)
        total = _bag(weights, index, rows)
        return total.to(weights.dtype).reshape(*weights.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        index, rows = ctx.saved_tensors
        return _Products.apply(gradient, index, rows), None, None  # type: ignore[no-untyped-call]


class _Products(torch.autograd.Function):
    """Scalar products of a vector with shape (*, outputs) with rows, with shape (*, k)."""

    @staticmethod
    def forward(ctx: Any, vector: Tensor, index: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(index, rows)
        with torch.enable_grad():
            weights = torch.zeros(index.shape, dtype=rows.dtype, requires_grad=True)
            total = _bag(weights, index, rows)
        (products,) = torch.autograd.grad(total, weights, vector.to(rows.dtype).reshape(total.shape))
        return products.to(vector.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        index, rows = ctx.saved_tensors
        return _WeightedSum.apply(gradient, index, rows), None, None  # type: ignore[no-untyped-call]


def _bag(weights: Tensor, index: Tensor, rows: Tensor) -> Tensor:
    width = index.shape[-1]
    return torch.nn.functional.embedding_bag(
        index.reshape(-1, width), rows, per_sample_weights=weights.reshape(-1, width).to(rows.dtype), mode="sum"
    )
