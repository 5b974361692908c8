"""The coverage of `models/counting.py` summed over all outcomes: counts n, and centres a of the pull by quadrature.

    coverage(s) = sum_n Integral da N(a; a', 1) Poisson(n | s + b(a')) [t(n, a; s) <= critical value],

a' the true pull, b(a) = 3 + 0.5 a. Fits are closed: at fixed s, with m = s + 3 + 0.5 a and w = 0.25, the fitted rate is

    lambda = [m - w + sqrt((m - w)^2 + 4 w n)] / 2.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["coverage", "own_coverage"]

_BACKGROUND, _ERROR, _TOP = 3.0, 0.5, 30.0
_COUNTS = torch.arange(70, dtype=torch.float64)[:, None]
_STEPS = torch.linspace(-5.5, 5.5, 441, dtype=torch.float64)
_TRUTHS = torch.linspace(-4.0, 4.0, 17, dtype=torch.float64)
"""Shifts at which the construction with each experiment's own pull has critical values."""


def _profiled(signal: Tensor, center: Tensor) -> tuple[Tensor, Tensor]:
    """Minus log likelihood at a signal, and the fitted pull, both with shape (n, a)."""
    w, middle = _ERROR**2, signal + _BACKGROUND + _ERROR * center
    rate = 0.5 * (middle - w + ((middle - w).square() + 4.0 * w * _COUNTS).sqrt()).clamp(min=1e-12)
    pull = (rate - signal - _BACKGROUND) / _ERROR
    return rate - torch.xlogy(_COUNTS, rate) + 0.5 * (pull - center).square(), pull


def statistic(signal: Tensor, center: Tensor) -> tuple[Tensor, Tensor]:
    """t and the fitted pull with shape (n, a), for centres with shape (a,)."""
    fixed, pull = _profiled(signal, center)
    best = _COUNTS - _BACKGROUND - _ERROR * center
    inside = _COUNTS - torch.xlogy(_COUNTS, _COUNTS) + 0.0 * center
    ends = [_profiled(torch.tensor(end, dtype=torch.float64), center)[0] for end in (0.0, _TOP)]
    free = torch.where(best < 0.0, ends[0], torch.where(best > _TOP, ends[1], inside))
    return 2.0 * (fixed - free).clamp(min=0.0), pull


def _weights(signal: Tensor, pull: Tensor) -> Tensor:
    """Probabilities of outcomes with shape (n, a), centres at `pull` + steps."""
    rate = signal + (_BACKGROUND + _ERROR * pull).clamp(min=0.0)
    counts = (torch.xlogy(_COUNTS, rate) - rate - (_COUNTS + 1.0).lgamma()).exp()
    normal = (-0.5 * _STEPS.square()).exp()
    return counts * normal / normal.sum()


def coverage(signals: Tensor, critical: Tensor, pull: float) -> Tensor:
    """With shape (L, G), of critical values with shape (L, G) at signals with shape (G,), for one true pull."""
    shift, found = torch.tensor(pull, dtype=torch.float64), []
    for number, signal in enumerate(signals):
        t, weight = statistic(signal, shift + _STEPS)[0], _weights(signal, shift)
        found.append(torch.stack([weight[t <= c].sum() for c in critical[:, number]]))
    return torch.stack(found, 1)


def own_coverage(signals: Tensor, levels: tuple[float, ...], pull: float) -> Tensor:
    """The same where each experiment has the exact critical values at its own fitted pull."""
    shift, found = torch.tensor(pull, dtype=torch.float64), []
    for signal in signals:
        exact = torch.stack([_quantiles(signal, truth, levels) for truth in _TRUTHS], 1)
        t, own = statistic(signal, shift + _STEPS)
        weight = _weights(signal, shift)
        place = ((own.clamp(-4.0, 4.0) + 4.0) / (_TRUTHS[1] - _TRUTHS[0])).clamp(max=len(_TRUTHS) - 1.001)
        low = place.floor().long()
        share = place - low
        limits = [row[low] * (1.0 - share) + row[low + 1] * share for row in exact]
        found.append(torch.stack([weight[t <= limit].sum() for limit in limits]))
    return torch.stack(found, 1)


def _quantiles(signal: Tensor, truth: Tensor, levels: tuple[float, ...]) -> Tensor:
    t = statistic(signal, truth + _STEPS)[0].reshape(-1)
    order = t.argsort()
    below = _weights(signal, truth).reshape(-1)[order].cumsum(0)
    return t[order][torch.searchsorted(below, torch.tensor(levels)).clamp(max=len(t) - 1)]
