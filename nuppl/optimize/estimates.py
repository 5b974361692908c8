"""From a minimum to what is reported: Hessian and MINOS errors in the parameters' own units, goodness of fit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from scipy.stats import chi2
from torch import Tensor

from nuppl.language.density import Natural
from nuppl.language.program import Program
from nuppl.optimize.deviance import deviance
from nuppl.optimize.newton import Minimum, minimize
from nuppl.optimize.objective import Objective
from nuppl.optimize.profile import crossing
from nuppl.typing import Progress

__all__ = ["Estimate", "Fit", "conclude", "inverse_hessian", "slopes"]

_POOR = 1e-3
"""A p-value below which a fit is not to be trusted."""

_APART = 0.1
"""Minima are distinct if the interest differs by this much, in units of the prior's deviation."""


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
        freedom: entries of the data minus free parameters.
        p_value: of the statistic as chi2 with that freedom; NaN where there is no deviance or no freedom.
        log_likelihood: at the minimum.
        minima: how far -2 log L of minima elsewhere lies above the best one, in ascending order.
        converged: whether the best minimum converged and has errors.
        warnings: what a reader must know.
    """

    parameters: dict[str, Estimate]
    values: dict[str, Tensor]
    covariance: Tensor
    statistic: float
    is_deviance: bool
    freedom: int
    p_value: float
    log_likelihood: float
    minima: tuple[float, ...]
    converged: bool
    warnings: tuple[str, ...] = field(default=())

    @property
    def trusted(self) -> bool:
        """Converged, and not a bad description of the data."""
        return self.converged and not self.p_value < _POOR


def conclude(
    program: Program, natural: Natural, objective: Objective, minima: Sequence[Minimum], minos: bool, progress: Progress
) -> Fit:
    """The result of a fit from its minima, the lowest first; starts again where MINOS sees a lower one."""
    best = minima[0]
    covariance, warnings = inverse_hessian(objective, best)
    best = _last_step(objective, best, covariance)
    columns = natural.layout.columns(program.interest)
    ends, better = {}, None
    for number, column in enumerate(columns if minos and bool(covariance.isfinite().all()) else []):
        progress(number + 1, len(columns), "profile errors")
        ends[column], better = _interval(objective, best, covariance, column, warnings, natural.layout.names())
        if better is not None:
            return conclude(program, natural, objective, [minimize(objective, better), *minima], minos, progress)
    if not best.converged:
        warnings.append("the minimum did not converge")
    values = {name: value[0] for name, value in natural.values(best.point[None]).items()}
    statistic, is_deviance = deviance(program, values)
    freedom = _freedom(program)
    p_value = float(chi2.sf(statistic, freedom)) if is_deviance and freedom > 0 else math.nan
    if p_value < _POOR:
        warnings.append(f"the model does not describe the data: p = {p_value:.2g} for {freedom} degrees of freedom")
    heights = [2.0 * (minimum.value - best.value) for minimum in minima if _elsewhere(minimum, best, columns)]
    return Fit(
        parameters=_estimates(program, natural, best, covariance, ends),
        values=values,
        covariance=_natural_covariance(natural, best, covariance, columns),
        statistic=statistic,
        is_deviance=is_deviance,
        freedom=freedom,
        p_value=p_value,
        log_likelihood=-best.value,
        minima=tuple(sorted({abs(round(height, 2)) for height in heights})),
        converged=best.converged and bool(covariance.isfinite().all()),
        warnings=tuple(warnings),
    )


def _last_step(objective: Objective, best: Minimum, covariance: Tensor) -> Minimum:
    """One Newton step with the exact Hessian, which is known by now: it squares what the search left to gain."""
    _, gradient = objective.gradient(best.point)
    point = (best.point - covariance @ gradient).clamp(objective.lower, objective.upper)
    if not bool(point.isfinite().all()):
        return best
    value = float(objective.values(point[None])[0])
    return replace(best, point=point, value=value) if value < best.value else best


def _elsewhere(minimum: Minimum, best: Minimum, columns: list[int]) -> bool:
    return bool(((minimum.point - best.point)[columns].abs() > _APART).any())


def _freedom(program: Program) -> int:
    """Pulls count on both sides: each is a measurement and a parameter. What measures a held parameter does not."""
    idle = {f"{name}_measured" for name in program.fixed}
    entries = sum(s.size for name, s in program.data_sites.items() if not (s.auxiliary and name in idle))
    return entries - sum(site.size for site in program.latents.values() if site.kind == "parameter")


def inverse_hessian(objective: Objective, best: Minimum) -> tuple[Tensor, list[str]]:
    """Inverse Hessian with shape (D, D), zero rows for coordinates at a bound, and what a reader must know of it."""
    hessian, free = objective.hessian(best.point), ~best.at_bound
    covariance = torch.zeros_like(hessian)
    factor, failed = torch.linalg.cholesky_ex(hessian[free][:, free])
    warnings = []
    if int(failed) or not bool(factor.isfinite().all()):
        factor, failed = torch.linalg.cholesky_ex(objective.curvature(best.point)[free][:, free])
        warnings = ["the Hessian is not positive at the minimum: errors come from the Fisher information"]
    if int(failed):
        return covariance + math.nan, ["the data do not determine every parameter: no errors; hold some with --set"]
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
    slope = slopes(natural, best.point)
    sites = {c: program.latents[n] for n, b in natural.layout.blocks.items() for c in range(b.start, b.stop)}
    return {
        names[column]: Estimate(
            value=_to_natural(natural, column, float(best.point[column])),
            error=math.nan if bool(best.at_bound[column]) else float(covariance[column, column].sqrt() * slope[column]),
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


def slopes(natural: Natural, point: Tensor) -> Tensor:
    """d value / d z with shape (D,)."""
    linear = natural.loc + natural.scale * point
    return natural.scale * torch.where(natural.log, linear.exp(), 1.0)


def _natural_covariance(natural: Natural, best: Minimum, covariance: Tensor, columns: list[int]) -> Tensor:
    slope = slopes(natural, best.point)[columns]
    return covariance[columns][:, columns] * slope[:, None] * slope[None]
