"""Critical values and p-values from the test statistics of toys, with their Monte-Carlo errors.

The critical value at level c is the c-quantile of t over toys. Its error is half the distance between the order
statistics whose ranks lie one binomial deviation sqrt(n c (1 - c)) below and above.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from scipy.stats import chi2
from torch import Tensor

from nuppl.errors import InputError

__all__ = ["LEVELS", "Critical", "check_levels", "critical", "p_value", "wilks"]

LEVELS = (0.6827, 0.90, 0.95)
"""Confidence levels unless others are asked for."""


class Critical(NamedTuple):
    """Critical values with shape (L, *) and their errors."""

    value: Tensor
    error: Tensor


def check_levels(levels: Sequence[float]) -> tuple[float, ...]:
    """The levels in ascending order.

    Raises:
        InputError: none, or one that is not between 0 and 1.
    """
    for level in levels:
        if not 0.0 < level < 1.0:
            raise InputError(f"confidence level: expected a number between 0 and 1, got {level:g}")
    if not levels:
        raise InputError("confidence levels: expected at least one, got none")
    return tuple(sorted(set(levels)))


def critical(statistic: Tensor, levels: Sequence[float]) -> Critical:
    """Of toys with shape (*, n): NaN entries are toys that were not thrown; a failed fit counts as it ended.

    >>> critical(torch.arange(1.0, 101.0), [0.9]).value
    tensor([90.])
    """
    ordered = torch.where(statistic.isnan(), torch.inf, statistic).sort(dim=-1).values
    count = (~statistic.isnan()).sum(-1)
    found = []
    for level in levels:
        spread = (count * level * (1.0 - level)).sqrt()
        rank = count * level
        low, middle, high = (_ranked(ordered, count, at) for at in (rank - spread, rank, rank + spread))
        found.append((middle, 0.5 * (high - low)))
    value, error = zip(*found, strict=True)
    return Critical(torch.stack(value), torch.stack(error))


def _ranked(ordered: Tensor, count: Tensor, rank: Tensor) -> Tensor:
    """The order statistic of a rank that counts from one."""
    index = torch.minimum(rank.round().long().clamp(min=1), count.clamp(min=1)) - 1
    return ordered.gather(-1, index[..., None])[..., 0]


def p_value(statistic: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
    """The share of toys with shape (*, n) at or above what was observed, with shape (*), and its error.

    Never zero: the data themselves count as one toy (Davison and Hinkley, Bootstrap Methods, 4.2.3).
    """
    thrown = ~statistic.isnan()
    n = thrown.sum(-1)
    above = ((statistic >= observed[..., None] - 1e-9) & thrown).sum(-1)
    p = (above + 1.0) / (n + 1.0)
    return p, (p * (1.0 - p) / n.clamp(min=1)).sqrt()


def wilks(levels: Sequence[float], parameters: int) -> Tensor:
    """The critical values that Wilks' theorem promises, with shape (L,).

    >>> [round(x, 2) for x in wilks([0.6827, 0.9], 2).tolist()]
    [2.3, 4.61]
    """
    return torch.tensor([float(chi2.ppf(level, parameters)) for level in levels])
