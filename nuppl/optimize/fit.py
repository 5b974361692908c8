"""The best fit of a program: starts, minimum, Hessian and MINOS errors, goodness of fit."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from nuppl.errors import InputError
from nuppl.language.density import Natural
from nuppl.language.precision import double_precision
from nuppl.language.program import Program
from nuppl.optimize.deviance import deviance
from nuppl.optimize.minuit import migrad
from nuppl.optimize.newton import Minimum, minimize
from nuppl.optimize.objective import Objective, natural_objective
from nuppl.optimize.profile import crossing
from nuppl.optimize.screen import candidates
from nuppl.typing import Progress, silent

__all__ = ["MINIMIZERS", "Estimate", "Fit", "fit"]

Minimizer = Callable[[Objective, Tensor], Minimum]

MINIMIZERS: dict[str, Minimizer] = {"newton": minimize, "iminuit": migrad}
"""How to descend from one start."""

_EQUAL = 1e-3
"""Minima closer than this in minus log L count as one."""


@dataclass(frozen=True)
class Estimate:
    """One fitted number.

    Attributes:
        value: at the minimum.
        error: from the Hessian; NaN at a bound.
        lower, upper: ends of the MINOS interval (68.3 %), NaN where MINOS was not asked for or did not converge.
        unit: its unit.
        at_bound: whether it is held at a bound of its support.
    """

    value: float
    error: float
    lower: float
    upper: float
    unit: str
    at_bound: bool


@dataclass(frozen=True)
class Fit:
    """The result of a fit.

    Attributes:
        parameters: {name: estimate} for the interest, then all other latents entry by entry.
        values: the best-fit point, {site: (*site)}.
        covariance: of the interest in its own units with shape (I, I).
        statistic: -2 log L against the saturated model where one exists, else -2 log L.
        is_deviance: which of the two.
        log_likelihood: at the minimum.
        minima: -2 log L of the distinct minima above the best one, in ascending order.
        converged: whether the best minimum converged and its Hessian is positive.
        warnings: what a reader must know.
    """

    parameters: dict[str, Estimate]
    values: dict[str, Tensor]
    covariance: Tensor
    statistic: float
    is_deviance: bool
    log_likelihood: float
    minima: tuple[float, ...]
    converged: bool
    warnings: tuple[str, ...] = field(default=())


@double_precision()
def fit(
    program: Program,
    *,
    starts: int = 4,
    screen: int = 512,
    minos: bool = True,
    minimizer: str = "newton",
    seed: int = 0,
    progress: Progress = silent,
) -> Fit:
    """Maximise the frequentist likelihood of a program.

    Arguments:
        program: with data.
        starts: screened starts besides the nominal point and the model's own.
        screen: points of the interest that are screened for starts.
        minos: whether to follow the profile for asymmetric errors of the interest.
        minimizer: one of MINIMIZERS.
        seed: of the screening points.
        progress: told of each finished step.

    Raises:
        InputError: no density, no data, or nothing to fit.
    """
    natural = Natural(program)
    objective = natural_objective(natural)
    minima = _search(program, natural, objective, MINIMIZERS[minimizer], starts, screen, seed, progress)
    return _conclude(program, natural, objective, minima, minos, progress)


def _search(
    program: Program,
    natural: Natural,
    objective: Objective,
    descend: Minimizer,
    starts: int,
    screen: int,
    seed: int,
    progress: Progress,
) -> list[Minimum]:
    first = _first(natural, objective, descend)
    points = _declared_starts(program, natural, first.point)
    interest = natural.layout.columns(program.interest)
    if starts and interest:
        observed = torch.cat([site.data.reshape(-1) for site in program.data_sites.values() if site.data is not None])
        screened = candidates(objective, observed, first.point, interest, keep=starts, points=screen, seed=seed)
        points.extend(screened)
    minima = [first]
    for number, point in enumerate(points):
        progress(number + 1, len(points) + 1, "starts")
        try:
            minima.append(descend(objective, point))
        except FloatingPointError:
            continue
    return sorted(minima, key=lambda minimum: minimum.value)


def _first(natural: Natural, objective: Objective, descend: Minimizer) -> Minimum:
    start = torch.zeros(natural.dim)
    value = float(objective.values(start[None])[0])
    if not math.isfinite(value):
        raise InputError(
            "the likelihood is zero at the nominal point: expected a finite value; give nominal= to parameters, "
            "or check that the data are possible under the model"
        )
    return descend(objective, start)


def _declared_starts(program: Program, natural: Natural, point: Tensor) -> list[Tensor]:
    found = []
    for start in program.model.starts:
        known = {name: torch.tensor(value) for name, value in start.items() if name in program.latents}
        if known:
            values = {name: value[0] for name, value in natural.values(point[None]).items()}
            found.append(natural.coordinates({**values, **known})[0])
    return found


def _conclude(
    program: Program, natural: Natural, objective: Objective, minima: list[Minimum], minos: bool, progress: Progress
) -> Fit:
    best = minima[0]
    covariance, warnings = _covariance(objective, best)
    columns = natural.layout.columns(program.interest)
    ends, better = {}, None
    for number, column in enumerate(columns if minos else []):
        progress(number + 1, len(columns), "profile errors")
        ends[column], better = _interval(objective, best, covariance, column, warnings, natural.layout.names())
        if better is not None:
            return _conclude(program, natural, objective, [minimize(objective, better), *minima], minos, progress)
    if not best.converged:
        warnings.append("the minimum did not converge")
    values = {name: value[0] for name, value in natural.values(best.point[None]).items()}
    statistic, is_deviance = deviance(program, values)
    lowest = -2.0 * float(-best.value)
    distinct = [2.0 * minimum.value for minimum in minima if 2.0 * minimum.value > lowest + _EQUAL]
    return Fit(
        parameters=_estimates(program, natural, best, covariance, ends),
        values=values,
        covariance=_natural_covariance(natural, best, covariance, columns),
        statistic=statistic,
        is_deviance=is_deviance,
        log_likelihood=-best.value,
        minima=tuple(dict.fromkeys(round(value - lowest, 3) for value in distinct)),
        converged=best.converged and bool(covariance.isfinite().all()),
        warnings=tuple(warnings),
    )


def _covariance(objective: Objective, best: Minimum) -> tuple[Tensor, list[str]]:
    """Inverse Hessian; zero rows for coordinates at a bound."""
    hessian, free = objective.hessian(best.point), ~best.at_bound
    covariance = torch.zeros_like(hessian)
    factor, failed = torch.linalg.cholesky_ex(hessian[free][:, free])
    if int(failed) or not bool(factor.isfinite().all()):
        factor = torch.linalg.cholesky(objective.curvature(best.point)[free][:, free])
        warnings = ["the Hessian is not positive at the minimum: errors come from the Fisher information"]
    else:
        warnings = []
    index = free.nonzero()[:, 0]
    covariance[index[:, None], index[None]] = torch.cholesky_inverse(factor)
    return covariance, warnings


def _interval(
    objective: Objective, best: Minimum, covariance: Tensor, column: int, warnings: list[str], names: list[str]
) -> tuple[tuple[float, float], Tensor | None]:
    if bool(best.at_bound[column]):
        covariance = covariance.clone()
        covariance[column, column] = 1.0 / objective.curvature(best.point)[column, column].clamp(min=1e-12)
    ends = []
    for direction in (-1, 1):
        end = crossing(objective, best, covariance, column, direction)
        if end.lower_minimum is not None:
            return (math.nan, math.nan), end.lower_minimum
        if not end.found:
            warnings.append(f"MINOS did not converge for {names[column]} {'above' if direction > 0 else 'below'}")
        ends.append(end.value if end.found else math.nan)
    return (ends[0], ends[1]), None


def _estimates(
    program: Program, natural: Natural, best: Minimum, covariance: Tensor, ends: dict[int, tuple[float, float]]
) -> dict[str, Estimate]:
    names = natural.layout.names()
    first = natural.layout.columns(program.interest)
    order = first + [column for column in range(natural.dim) if column not in set(first)]
    slopes = _slopes(natural, best.point)
    sites = {c: program.latents[n] for n, b in natural.layout.blocks.items() for c in range(b.start, b.stop)}
    return {
        names[column]: Estimate(
            value=_to_natural(natural, column, float(best.point[column])),
            error=math.nan
            if bool(best.at_bound[column])
            else float(covariance[column, column].sqrt() * slopes[column]),
            lower=_to_natural(natural, column, ends[column][0]) if column in ends else math.nan,
            upper=_to_natural(natural, column, ends[column][1]) if column in ends else math.nan,
            unit=sites[column].unit,
            at_bound=bool(best.at_bound[column]),
        )
        for column in order
    }


def _to_natural(natural: Natural, column: int, z: float) -> float:
    linear = float(natural.loc[column] + natural.scale[column] * z)
    return math.exp(linear) if bool(natural.log[column]) else linear


def _slopes(natural: Natural, point: Tensor) -> Tensor:
    """d value / d z with shape (D,)."""
    linear = natural.loc + natural.scale * point
    return natural.scale * torch.where(natural.log, linear.exp(), 1.0)


def _natural_covariance(natural: Natural, best: Minimum, covariance: Tensor, columns: list[int]) -> Tensor:
    slopes = _slopes(natural, best.point)[columns]
    return covariance[columns][:, columns] * slopes[:, None] * slopes[None]
