"""Gaussian CLs: a point of the scan against a null hypothesis, without toys.

    T = 2 [min_a (-log L)(point, a) - min_a (-log L)(null, a)]

is nearly Gaussian under either hypothesis, with the mean T of the hypothesis' Asimov data, m_0 > 0 for the null and
m_1 < 0 for the point, and deviations 2 sqrt(|m|). CLs = [1 - Phi((T - m_1) / 2 sqrt(-m_1))] / [1 - Phi((T - m_0) / 2
sqrt(m_0))] (Qian, Tan, Ling, Nakajima and Zhang, Nucl. Instrum. Meth. A 827 (2016) 63, arXiv:1407.5052).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nuppl.errors import InputError
from nuppl.frequentist.asimov import Fixed, at_values
from nuppl.frequentist.cls import BANDS, Cls, crossing
from nuppl.frequentist.experiments import Experiments
from nuppl.frequentist.grid import Grid
from nuppl.frequentist.profile import Profile
from nuppl.language.precision import double_precision
from nuppl.language.program import Program

__all__ = ["against_null", "check_null", "two_hypotheses_cls", "two_hypotheses_critical"]

Numbers = float | Sequence[float] | None

_SAME = 1e-9
"""Of hypotheses that no data can tell apart: their least mean difference."""


def against_null(experiments: Experiments, null: Numbers = None) -> Tensor:
    """T with shape (n,).

    Arguments:
        null: values of the scanned parameters, one each.
    """
    held = experiments.at(_null(experiments.grid, null)).fixed
    return 2.0 * (experiments.fixed.value - held.value)


def check_null(program: Program, grid: Grid, null: Numbers = None) -> None:
    """Raise InputError for a null hypothesis that is not there, or outside the bounds of a parameter."""
    for name, x in zip(grid.names, _null(grid, null).tolist(), strict=True):
        site = program.latents[name]
        low, high = float(site.lower), float(site.upper)
        if site.kind == "parameter" and not low <= x <= high:
            raise InputError(f"statistic 'gaussian-cls', null: expected {name!r} within {low:g} to {high:g}, got {x:g}")


@double_precision()
def two_hypotheses_critical(profile: Profile, levels: Sequence[float], null: Numbers = None) -> Tensor:
    """With shape (L, G): quantiles of T at each point."""
    at, _ = _means(profile, _null(profile.grid, null))
    z = torch.special.ndtri(torch.tensor(levels, dtype=torch.float64))[:, None]
    found: Tensor = -at + 2.0 * z * at.sqrt()
    return found


@double_precision()
def two_hypotheses_cls(profile: Profile, levels: Sequence[float], null: Numbers = None) -> Cls:
    """CLs on the grid; where the grid has one axis, also where it ends."""
    middle, grid = _null(profile.grid, null), profile.grid
    at, without = _means(profile, middle)
    data = Fixed.of(profile)
    t = data.rise(grid.points) - data.rise(middle[None])
    bands = without - 2.0 * torch.tensor(BANDS, dtype=torch.float64)[:, None] * without.sqrt()
    values = _ratio(torch.cat([t[None], bands]), at, without)
    if len(grid.axes) > 1:
        return Cls(values[0], values[1:])
    limits = crossing(grid.axes[0].values, values, levels)
    return Cls(values[0], values[1:], limits[:, 0], limits[:, 1:])


def _ratio(t: Tensor, at: Tensor, without: Tensor) -> Tensor:
    above: Tensor = torch.special.log_ndtr(-(t + at) / (2.0 * at.sqrt()))
    below: Tensor = torch.special.log_ndtr(-(t - without) / (2.0 * without.sqrt()))
    return (above - below).exp().clamp(max=1.0)


def _means(profile: Profile, null: Tensor) -> tuple[Tensor, Tensor]:
    """-m_1 and m_0, each with shape (G,)."""
    points = profile.grid.points
    without = Fixed.expected(profile, at_values(profile, null[None], profile.likelihoods).point).rise(points)
    at = Fixed.expected(profile, profile.minima.point).rise(null.expand(len(points), -1))
    return at.clamp(min=_SAME), without.clamp(min=_SAME)


def _null(grid: Grid, null: Numbers) -> Tensor:
    names = ", ".join(grid.names)
    if null is None:
        raise InputError(f"statistic 'gaussian-cls': expected the null hypothesis as null=..., values of {names}")
    try:
        found = torch.as_tensor(null, dtype=torch.float64).reshape(-1)
    except (TypeError, ValueError):
        raise InputError(f"statistic 'gaussian-cls', null: expected numbers, got {null!r}") from None
    if len(found) != len(grid.axes):
        raise InputError(f"statistic 'gaussian-cls', null: expected one number for each of {names}, got {len(found)}")
    return found
