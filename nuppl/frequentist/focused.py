"""Statistics of the likelihood over the whole grid: focused, posterior density, WALDO.

    focused     T(theta) = -2 log [L(theta) / sum_g f_g L(theta_g)]                    (arXiv:2507.17831)
    posterior   T(theta) = -2 log p(theta | data), of the same form with the prior for f
    waldo       T(theta) = (E[theta | data] - theta)^T V[theta | data]^-1 (...)         (arXiv:2205.15680, eq. 4)

L is the likelihood with nuisances fitted; sums run over the grid by the trapezoidal rule, in the logarithm of axes that
are spaced in it. A coarse grid makes another statistic, not a wrong one: toys calibrate whatever was computed.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nuppl.errors import InputError, unknown
from nuppl.frequentist.experiments import Experiments
from nuppl.frequentist.grid import Grid
from nuppl.frequentist.profile import Profile
from nuppl.language.program import Program

__all__ = ["SHAPES", "check_focus", "focused", "log_focus", "posterior", "waldo"]

SHAPES = ("gaussian", "box")
"""Of a focus."""

Numbers = float | Sequence[float] | None


def focused(experiments: Experiments, center: Numbers = None, width: Numbers = None, shape: str = "gaussian") -> Tensor:
    """T with shape (n,): powerful near the focus, valid everywhere, longer intervals away from it.

    Arguments:
        center: of the focus f, one number per scanned parameter in its own unit; its nominal value by default.
        width: deviation of a Gaussian, or half the width of a box, one or one per parameter; relative where an axis is
            spaced in the logarithm.
        shape: one of `SHAPES`.
    """
    profile = experiments.profile
    weights = log_focus(profile.likelihoods.natural.program, profile.grid, center, width, shape)
    return 2.0 * (experiments.fixed.value + (experiments.log_likelihood + weights).logsumexp(1))


def posterior(experiments: Experiments) -> Tensor:
    """T with shape (n,): regions hold the values of highest posterior density, with the critical value of each."""
    grid, prior = experiments.grid, _log_prior(experiments.profile)
    evidence = (experiments.log_likelihood + prior + grid.log_volumes).logsumexp(1)
    return 2.0 * (experiments.fixed.value + evidence - prior[grid.nearest(experiments.tested)])


def waldo(experiments: Experiments) -> Tensor:
    """T with shape (n,): the distance to the posterior mean in units of the posterior covariance."""
    grid, x = experiments.grid, experiments.grid.coordinates
    weights = (experiments.log_likelihood + _log_prior(experiments.profile) + grid.log_volumes).softmax(1)
    mean = weights @ x
    second = torch.einsum("ng,gi,gj->nij", weights, x, x)
    covariance = second - mean[:, :, None] * mean[:, None, :] + _cells(grid).diag()
    away = mean - grid.to_coordinates(experiments.tested)
    distance: Tensor = (away * torch.linalg.solve(covariance, away)).sum(1)
    return distance


def log_focus(program: Program, grid: Grid, center: Numbers, width: Numbers, shape: str) -> Tensor:
    """log f times the volume of each cell, normalised over the grid, with shape (G,)."""
    middle, half = _focus(program, grid, center, width)
    away = (grid.coordinates - grid.to_coordinates(middle[None])) / half
    inside = torch.where((away.abs() <= 1.0).all(1), 0.0, -torch.inf)
    weights = grid.log_volumes + (-0.5 * away.square().sum(1) if shape == "gaussian" else inside)
    return weights - weights.logsumexp(0)


def check_focus(
    program: Program, grid: Grid, center: Numbers = None, width: Numbers = None, shape: str = "gaussian"
) -> None:
    """Raise InputError for a focus that the grid cannot hold."""
    if shape not in SHAPES:
        raise unknown("shape of a focus", str(shape), SHAPES)
    middle, half = _focus(program, grid, center, width)
    if not bool((half > 0.0).all()):
        raise InputError(f"statistic 'focused': expected a width above 0, got {_said(half)}")
    for axis, x in zip(grid.axes, middle, strict=True):
        if not axis.values[0] <= x <= axis.values[-1]:
            raise InputError(
                f"statistic 'focused': expected a center within the grid of {axis.name!r}, {axis.values[0]:g} to "
                f"{axis.values[-1]:g}, got {x:g}; say center=... or scan where the focus is"
            )
    if not bool(log_focus(program, grid, center, width, shape).isfinite().any()):
        raise InputError(
            f"statistic 'focused': no point of the grid lies in a box of half width {_said(half)}; widen it"
        )


def _focus(program: Program, grid: Grid, center: Numbers, width: Numbers) -> tuple[Tensor, Tensor]:
    nominal = [float(program.latents[name].nominal) for name in grid.names]
    if width is None:
        raise InputError("statistic 'focused': expected width=..., got none; as in focused,center=1,width=0.5")
    return _numbers("center", nominal if center is None else center, grid), _numbers("width", width, grid)


def _numbers(name: str, given: float | Sequence[float], grid: Grid) -> Tensor:
    try:
        found = torch.as_tensor(given, dtype=torch.float64).reshape(-1)
    except (TypeError, ValueError):
        raise InputError(f"statistic 'focused', {name}: expected a number, got {given!r}") from None
    if len(found) == 1:
        found = found.expand(len(grid.axes))
    if len(found) != len(grid.axes) or not bool(found.isfinite().all()):
        raise InputError(
            f"statistic 'focused', {name}: expected one finite number for each of {', '.join(grid.names)}, "
            f"got {_said(found)}"
        )
    return found


def _said(numbers: Tensor) -> str:
    return "/".join(f"{x:g}" for x in numbers.tolist())


def _log_prior(profile: Profile) -> Tensor:
    """The prior density in the coordinates of the grid with shape (G,), up to a constant."""
    natural, grid = profile.likelihoods.natural, profile.grid
    points = profile.best.point.repeat(grid.size, 1)
    points[:, profile.columns] = profile.minima.point[:, profile.columns]
    prior = torch.cat([natural.terms(part).prior for part in points.split(1024)])
    # The density in the logarithm is that in the value times the value.
    return prior + sum(grid.coordinates[:, i] for i, axis in enumerate(grid.axes) if axis.log)


def _cells(grid: Grid) -> Tensor:
    """The variance within a cell of the grid with shape (K,): no posterior is narrower than one."""
    coordinates = [axis.values.log() if axis.log else axis.values for axis in grid.axes]
    return torch.stack([x.diff().mean() ** 2 / 12.0 for x in coordinates])
