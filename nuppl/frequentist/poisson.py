"""The exact Feldman-Cousins interval of one count n over a known background b, without toys.

    R(n | mu) = P(n | mu + b) / P(n | max(n, b)),   accepted at level c where the n' with R(n') > R(n) have P below c

(Feldman and Cousins, Phys. Rev. D 57 (1998) 3873, section IV). The upper end of a low count is not monotone in b; the
authors take the largest over all b' >= b, here the convention "monotone"; "plain" is the construction as it stands.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nuppl.errors import InputError, unknown
from nuppl.frequentist.critical import check_levels

__all__ = ["CONVENTIONS", "poisson_interval"]

CONVENTIONS = ("plain", "monotone")
"""What an upper end is."""

_STEP, _BACKGROUNDS = 0.005, 801
"""Of mu as the authors took it, and how many backgrounds b' from b to b + 4 are looked at."""


def poisson_interval(count: int, background: float, level: float, convention: str = "plain") -> tuple[float, float]:
    """Lower and upper end of the signal, to half a step of 0.005.

    Arguments:
        count: n, zero or more.
        background: b, zero or more.
        level: of confidence.
        convention: one of `CONVENTIONS`.

    Raises:
        InputError: a number out of its range, or an unknown convention.

    >>> poisson_interval(4, 3.0, 0.9)
    (0.0, 5.595)
    """
    check_levels([level])
    if count < 0 or background < 0:
        raise InputError(f"Poisson interval: expected count and background of 0 or more, got {count} and {background}")
    if convention not in CONVENTIONS:
        raise unknown("convention", convention, CONVENTIONS)
    lower, upper = _ends(count, background, level)
    if convention == "monotone":
        upper = _largest(count, background, level, upper)
    return lower, upper


def _largest(count: int, background: float, level: float, upper: float) -> float:
    """The largest upper end over all b' >= b: nothing beyond it is accepted at any."""
    more = background + torch.linspace(0.0, 4.0, _BACKGROUNDS, dtype=torch.float64)[:, None]
    while True:
        beyond = upper + _STEP * torch.arange(1.0, 41.0, dtype=torch.float64)
        accepted = _accepted(count, beyond, more, level).any(0)
        if not bool(accepted.any()):
            return round(upper, 3)
        upper = float(beyond[accepted][-1])


def _ends(count: int, background: float, level: float) -> tuple[float, float]:
    most = 3.0 * max(count, 1) ** 0.5 * (1.0 - level) ** -0.25 + count + 4.0
    signal = torch.arange(0.0, most, _STEP, dtype=torch.float64)
    accepted = signal[_accepted(count, signal, torch.tensor([background], dtype=torch.float64), level)]
    return round(float(accepted[0]), 3), round(float(accepted[-1]), 3)


def _accepted(count: int, signal: Tensor, background: Tensor, level: float) -> Tensor:
    """Whether the count is accepted, boolean with the shape (*) to which signal and background broadcast."""
    rate, background = (signal + background)[..., None], background[..., None]
    top = float(rate.max())
    n = torch.arange(int(top + 12.0 * top**0.5) + 20, dtype=torch.float64)
    log_p = n.xlogy(rate) - rate - (n + 1.0).lgamma()
    best = n.maximum(background)
    rank = log_p - (n.xlogy(best) - best - (n + 1.0).lgamma())
    before = torch.where(rank > rank[..., count, None] + 1e-12, log_p.exp(), 0.0).sum(-1)
    return before < level
