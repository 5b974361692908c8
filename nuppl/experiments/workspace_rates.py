"""The expected counts of a workspace, for all lanes of a batch at once.

In each cell (a bin of a sample in a channel) the rate is (nominal + sum of shifts) x product of factors; a bin adds up
its samples. With alpha between -1 and 1 interpolated by polynomials that join smoothly up to the second derivative,

    factor(alpha) = hi^alpha above 1, lo^-alpha below -1, 1 + a_1 alpha + ... + a_6 alpha^6 between   (pyhf's code4)
    shift(alpha)  = alpha (up + down)/2 + w(alpha) (up - down)/2                                      (pyhf's code4p)

where w = |alpha| outside and (15 alpha^2 - 10 alpha^4 + 3 alpha^6)/8 inside: all shifts together are two matrix
products. Source: the interpolation codes of HistFactory, CERN-OPEN-2012-016, as pyhf 0.7.6 numbers them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from nuppl.experiments.workspace_files import Channel
from nuppl.experiments.workspace_modifiers import Effect, Factor, Scaling, Shift

__all__ = ["Rates", "joining_polynomial", "shift_weight"]

LOWEST = 1e-10
"""Rates are cut here: extreme shifts make some negative, which no Poisson distribution has."""

_POWERS = torch.arange(7, dtype=torch.float64)


class Rates:
    """Expected counts as a function of the parameters.

    Arguments:
        channels: in the order of the cells.
        effects: each with the columns of its parameter's entries.
        size: the number P of parameters.
    """

    def __init__(self, channels: Sequence[Channel], effects: Iterable[tuple[Effect, Sequence[int]]], size: int) -> None:
        rows = [sample.nominal for channel in channels for sample in channel.samples]
        self.shapes = [(len(channel.samples), len(channel.observed)) for channel in channels]
        self.nominal = _tensor([count for row in rows for count in row])
        self.row = torch.tensor([number for number, row in enumerate(rows) for _ in row])
        known = list(effects)
        self._set_scalings([(e, c) for e, c in known if isinstance(e, Scaling)], size)
        self._set_factors([(e, c[0]) for e, c in known if isinstance(e, Factor)], len(rows), size)
        self._set_shifts([(e, c[0]) for e, c in known if isinstance(e, Shift)])

    def _set_scalings(self, scalings: Sequence[tuple[Scaling, Sequence[int]]], size: int) -> None:
        of_cell: list[list[int]] = [[] for _ in self.nominal]
        for scaling, columns in scalings:
            for cell, entry in zip(scaling.cells, scaling.entries, strict=True):
                of_cell[cell].append(columns[entry])
        self.scaling = torch.tensor(_rectangle(of_cell, size))

    def _set_factors(self, factors: Sequence[tuple[Factor, int]], rows: int, size: int) -> None:
        of_row: list[list[tuple[float, float, float]]] = [[] for _ in range(rows)]
        for factor, column in factors:
            of_row[factor.row].append((column, factor.lo, factor.hi))
        table = _tensor(_rectangle(of_row, (size, 1.0, 1.0))).reshape(-1, rows, 3)
        self.alpha = table[..., 0].long()
        self.log_lo, self.log_hi = table[..., 1].log(), table[..., 2].log()
        self.polynomial = joining_polynomial(table[..., 1], table[..., 2])

    def _set_shifts(self, shifts: Sequence[tuple[Shift, int]]) -> None:
        self.shifting = sorted({column for _, column in shifts})
        self.odd, self.even = torch.zeros(2, len(self.shifting), len(self.nominal), dtype=torch.float64)
        for shift, column in shifts:
            place, cells = self.shifting.index(column), slice(shift.cells.start, shift.cells.stop)
            up, down = _tensor(shift.up), _tensor(shift.down)
            self.odd[place, cells] += 0.5 * (up + down)
            self.even[place, cells] += 0.5 * (up - down)

    def __call__(self, parameters: Tensor) -> list[Tensor]:
        """The expected counts of each channel with shape (*, bins).

        Arguments:
            parameters: with shape (*, P + 1); the last is 1.
        """
        cells = self.nominal + self._shift(parameters)
        cells = cells * self._factor(parameters)[..., self.row] * parameters[..., self.scaling].prod(-2)
        blocks = cells.split([samples * bins for samples, bins in self.shapes], dim=-1)
        sums = [
            block.reshape(*block.shape[:-1], *shape).sum(-2) for block, shape in zip(blocks, self.shapes, strict=True)
        ]
        return [total.clamp(min=LOWEST) for total in sums]

    def _shift(self, parameters: Tensor) -> Tensor:
        alpha = parameters[..., self.shifting]
        shift: Tensor = alpha @ self.odd + shift_weight(alpha) @ self.even
        return shift

    def _factor(self, parameters: Tensor) -> Tensor:
        """The product of all normsys of each row, with shape (*, rows)."""
        alpha = parameters[..., self.alpha]
        # Each branch is evaluated where it is harmless, so that the gradient of the other is never NaN.
        inner, outer = alpha.clamp(-1.0, 1.0), torch.where(alpha > 0.0, self.log_hi, self.log_lo) * alpha.abs()
        between = self.polynomial[6]
        for coefficient in self.polynomial[:6].flip(0):
            between = between * inner + coefficient
        return torch.where(alpha.abs() > 1.0, outer.exp(), between).prod(-2)


def shift_weight(alpha: Tensor) -> Tensor:
    """w(alpha), even and twice differentiable, with the shape of alpha.

    >>> shift_weight(torch.tensor([-2.0, -1.0, 0.0, 1.0])).tolist()
    [2.0, 1.0, 0.0, 1.0]
    """
    square = alpha.clamp(-1.0, 1.0).square()
    return torch.where(alpha.abs() > 1.0, alpha.abs(), square * (15.0 - 10.0 * square + 3.0 * square.square()) / 8.0)


def joining_polynomial(lo: Tensor, hi: Tensor) -> Tensor:
    """Coefficients of 1, alpha, ..., alpha^6 that join lo^-alpha at -1 and hi^alpha at 1, with shape (7, *).

    Value, slope and second derivative agree on both sides, for even and odd powers separately.

    >>> coefficients = joining_polynomial(torch.tensor(0.9), torch.tensor(1.2))
    >>> round(float(coefficients.sum()), 6), float(coefficients[0])
    (1.2, 1.0)
    """
    lo, hi = lo.to(torch.float64), hi.to(torch.float64)
    above = torch.stack([hi - 1.0, hi * hi.log(), hi * hi.log().square()])
    below = torch.stack([lo - 1.0, -lo * lo.log(), lo * lo.log().square()])
    sign = torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64).reshape(3, *[1] * lo.dim())
    coefficients = torch.zeros(7, *lo.shape, dtype=torch.float64)
    coefficients[0] = 1.0
    for first, parity in ((1, -1.0), (2, 1.0)):
        powers = _POWERS[first::2]
        # Value, slope and second derivative at 1 of each power.
        system = torch.stack([torch.ones(3, dtype=torch.float64), powers, powers * (powers - 1.0)])
        target = 0.5 * (above + parity * sign * below)
        coefficients[first::2] = torch.linalg.solve(system, target.reshape(3, -1)).reshape(target.shape)
    return coefficients


def _rectangle(lists: Sequence[Sequence[Any]], filler: Any) -> list[list[Any]]:
    """Lists of different lengths as the columns of a table with at least one row."""
    depth = max(1, *map(len, lists)) if lists else 1
    return [[each[level] if level < len(each) else filler for each in lists] for level in range(depth)]


def _tensor(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)
