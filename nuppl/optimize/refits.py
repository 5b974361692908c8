"""Fits without one group of pulls: all of its pulls held at their centres, everything else fitted again.

Unlike the first-order shifts and conventional impacts of `impacts`, these follow the likelihood however curved it is.
The start is the best fit moved by its own linear response, so that a few Newton steps are enough.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from nuppl.language.precision import double_precision
from nuppl.optimize.estimates import slopes
from nuppl.optimize.expansion import NEAR, Expansion
from nuppl.optimize.impacts import groups
from nuppl.optimize.newton import Minimum, NoCurvature, minimize
from nuppl.optimize.objective import Objective
from nuppl.typing import Progress, silent

__all__ = ["Refit", "refits"]

_PRODUCTS, _CLOSE = 50, 1e-8
"""Products with the Hessian at most, and what of the squared residual may remain."""


@dataclass(frozen=True)
class Refit:
    """A fit with one group held at its centres.

    Attributes:
        group: its name.
        values, errors: of the interest in its own units with shape (I,); NaN where the fit failed or ended at a bound.
        shifts: values minus those of the best fit with shape (I,).
        rise: of -2 log L over the best fit.
        warning: why not to trust it, or "".
    """

    group: str
    values: Tensor
    errors: Tensor
    shifts: Tensor
    rise: float
    warning: str


@double_precision()
def refits(expansion: Expansion, progress: Progress = silent) -> list[Refit]:
    """One fit for each site of pulls that is not itself of interest.

    Arguments:
        expansion: around the best fit.
        progress: told of each finished fit.
    """
    own = set(expansion.program.interest)
    chosen = [(g.name, list(g.columns)) for g in groups(expansion) if g.kind == "pull" and g.name not in own]
    return list(_refits(expansion, chosen, progress))


def _refits(expansion: Expansion, chosen: list[tuple[str, list[int]]], progress: Progress) -> Iterator[Refit]:
    for number, (name, columns) in enumerate(chosen):
        try:
            yield _without(expansion, name, columns)
        except NoCurvature as error:
            lost = torch.full((len(expansion.interest),), torch.nan)
            yield Refit(name, lost, lost, lost, float("nan"), f"the fit without {name} failed: {error}")
        progress(number + 1, len(chosen), "fits without one group")


def _without(expansion: Expansion, name: str, columns: list[int]) -> Refit:
    best, objective = expansion.minimum, expansion.objective
    held = torch.zeros(objective.dim, dtype=torch.bool)
    held[columns] = True
    response = expansion.response(columns)
    start = best.point - response @ best.point[columns]
    # z of a pull is measured from its centre.
    start[columns] = 0.0
    fit = minimize(objective, start, held=held)
    metric = expansion.covariance - response @ expansion.covariance[columns]
    near = fit.converged or fit.decrease < NEAR
    warning = "" if near else f"the fit without {name} did not converge"
    before, after = (expansion.values(point) for point in (best.point, fit.point))
    return Refit(
        name, after, _errors(expansion, fit, held, metric), after - before, 2.0 * (fit.value - best.value), warning
    )


def _errors(expansion: Expansion, fit: Minimum, held: Tensor, metric: Tensor) -> Tensor:
    """Errors of the interest with shape (I,), from the Hessian at the fit; NaN at a bound or a negative Hessian."""
    chosen = expansion.interest
    solved = _solve(expansion.objective, fit.point, torch.eye(len(metric))[chosen], ~(held | fit.at_bound), metric)
    variances = solved[torch.arange(len(chosen)), chosen]
    slope = slopes(expansion.natural, fit.point)[chosen].abs()
    return torch.where((variances > 0.0) & ~fit.at_bound[chosen], variances, torch.nan).sqrt() * slope


def _solve(objective: Objective, point: Tensor, right: Tensor, free: Tensor, metric: Tensor) -> Tensor:
    """Rows x of H x = right among free coordinates with shape (I, D), by conjugate gradients; NaN where H is negative.

    The metric is nearly the inverse of H, so that a few products with H are enough where H itself would take D.
    """
    metric = torch.where(metric.diagonal() > 0.0, metric, torch.eye(len(metric))) * free * free[:, None]
    solved, residual = torch.zeros_like(right), right * free
    step = residual @ metric
    size = first = (residual * step).sum(-1, keepdim=True)
    for _ in range(_PRODUCTS):
        product = objective.product(point, step) * free
        length = size / (step * product).sum(-1, keepdim=True)
        solved, residual = solved + length * step, residual - length * product
        next_step = residual @ metric
        size, before = (residual * next_step).sum(-1, keepdim=True), size
        if not bool((size > _CLOSE * first).any()):
            break
        step = next_step + size / before * step
    return torch.where((length > 0.0) & (size <= _CLOSE * first), solved, torch.nan)
