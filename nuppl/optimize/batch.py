"""How to fit many likelihoods at once: each with its own curvature, or all with one."""

from __future__ import annotations

import torch
from torch import Tensor

from nuppl.optimize.batch_newton import Minima, minimize_all
from nuppl.optimize.batch_shared import minimize_shared
from nuppl.optimize.lanes import Likelihoods
from nuppl.optimize.objective import natural_objective
from nuppl.optimize.response import Response

__all__ = ["fit_lanes"]

_FEW, _MANY = 8, 64
"""Coordinates up to which every lane has a curvature of its own, and up to which one is made where lanes failed."""


def fit_lanes(
    likelihoods: Likelihoods,
    start: Tensor,
    *,
    held: Tensor | None = None,
    response: Response | None = None,
    tolerance: float = 1e-5,
) -> Minima:
    """The minimum next to each start.

    Arguments:
        likelihoods: n lanes.
        start: with shape (n, D).
        held: coordinates that stay as they are in every lane, boolean with shape (D,).
        response: of a typical lane, for models of many coordinates; of the lowest start by default.
        tolerance: on the promised decrease of minus log likelihood.
    """
    free = likelihoods.dim - (0 if held is None else int(held.sum()))
    if not free:
        return _as_they_are(likelihoods, start)
    if free <= _FEW:
        return minimize_all(likelihoods, start, held=held, tolerance=tolerance)
    if response is None:
        lowest = int(likelihoods.values(start).argmin())
        response = Response.at(natural_objective(likelihoods.natural), start[lowest])
    found = minimize_shared(likelihoods, start, response, held=held, tolerance=tolerance)
    failed = ~found.converged
    if free > _MANY or not bool(failed.any()):
        return found
    again = minimize_all(likelihoods.rows(failed), found.point[failed], held=held, tolerance=tolerance)
    return found.with_rows(failed, again.better(found.rows(failed)))


def _as_they_are(likelihoods: Likelihoods, point: Tensor) -> Minima:
    value, nothing = likelihoods.values(point), torch.zeros(len(point))
    never = torch.zeros(point.shape, dtype=torch.bool)
    return Minima(point, value, nothing, value.isfinite(), never, nothing.long())
