"""CLs: the p-value of what is tested over that of a null hypothesis.

    CLs = P(t >= t_obs | tested) / P(t >= t_obs | null)

(Read, J. Phys. G 28 (2002) 2693). A value is excluded at a level c where CLs < 1 - c.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["BANDS", "Cls", "cls_of_toys", "crossing"]

BANDS = (-2, -1, 0, 1, 2)
"""Deviations of what is expected without signal: -2 excludes most."""

_STEPS, _CLOSE = 60, 1e-7
"""Of the search for a limit at most, and how near the logarithm of CLs must come."""


class Cls(NamedTuple):
    """CLs over a grid of G points."""

    observed: Tensor
    """With shape (G,)."""
    expected: Tensor
    """Quantiles without signal with shape (5, G)."""
    limit: Tensor | None = None
    """Upper limits with shape (L,), NaN where the grid has none; of scans over one parameter."""
    expected_limit: Tensor | None = None
    """With shape (L, 5)."""


def cls_of_toys(tested: Tensor, null: Tensor, statistic: Tensor) -> tuple[Tensor, Tensor]:
    """CLs of what was observed, with shape (G,), and its quantiles without signal with shape (5, G).

    Arguments:
        tested: of toys thrown at each point with shape (G, n), NaN where none was thrown.
        null: of toys thrown without signal with shape (G, m), tested at each point.
        statistic: observed, with shape (G,).
    """
    rows = []
    levels = torch.special.ndtr(torch.tensor(BANDS, dtype=torch.float64))
    for at, without, seen in zip(tested, null, statistic, strict=True):
        at = at[~at.isnan()].sort().values
        without = without.sort().values
        asked = torch.cat([seen[None], without])
        values = (_above(at, asked) / _above(without, asked)).clamp(max=1.0)
        rows.append(torch.cat([values[:1], values[1:].quantile(levels)]))
    found = torch.stack(rows, 1)
    return found[0], found[1:]


def _above(ordered: Tensor, values: Tensor) -> Tensor:
    """The share of toys at or above, the data among them: never zero."""
    below = torch.searchsorted(ordered, (values - 1e-9).contiguous())
    return (len(ordered) - below + 1.0) / (len(ordered) + 1.0)


def crossing(
    values: Tensor, cls: Tensor, levels: Sequence[float], function: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """Where curves of CLs fall below one minus each level, with shape (L, R); NaN where they do not on the grid.

    Arguments:
        values: of the parameter with shape (G,).
        cls: R curves with shape (R, G).
        levels: L of them.
        function: n values to all curves with shape (R, n), to close in between two points of the grid; without it the
            logarithm is interpolated.
    """
    found = torch.full((len(levels), len(cls)), math.nan)
    for i, level in enumerate(levels):
        above = cls > 1.0 - level
        last = torch.where(above, torch.arange(len(values)), -1).amax(1)
        rows = ((last >= 0) & (last < len(values) - 1)).nonzero()[:, 0]
        if len(rows):
            if function is None:
                found[i, rows] = _interpolated(values, cls[rows], last[rows], 1.0 - level)
            else:
                low, high = values[last[rows]], values[last[rows] + 1]
                found[i, rows] = _closed_in(low, high, rows, 1.0 - level, function)
    return found


def _closed_in(low: Tensor, high: Tensor, rows: Tensor, target: float, function: Callable[[Tensor], Tensor]) -> Tensor:
    """Regula falsi in the logarithm, with the end that stays pulled in (Dowell and Jarratt, BIT 11 (1971) 168)."""
    lanes = torch.arange(len(rows))

    def above(x: Tensor) -> Tensor:
        return function(x)[rows, lanes].clamp(min=1e-300).log() - math.log(target)

    first, second = above(low), above(high)
    for _ in range(_STEPS):
        middle = (low * second - high * first) / (second - first)
        found = above(middle)
        if bool((found.abs() < _CLOSE).all()):
            break
        up = found > 0.0
        first, second = torch.where(up, found, 0.5 * first), torch.where(up, 0.5 * second, found)
        low, high = torch.where(up, middle, low), torch.where(up, high, middle)
    return middle


def _interpolated(values: Tensor, cls: Tensor, last: Tensor, target: float) -> Tensor:
    lanes = torch.arange(len(cls))
    first, second = (cls[lanes, at].clamp(min=1e-12).log() for at in (last, last + 1))
    share = (first - math.log(target)) / (first - second)
    return values[last] + share * (values[last + 1] - values[last])
