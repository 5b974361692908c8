"""How to fit many likelihoods at once: each with its own curvature, or all with one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nuppl.errors import InputError
from nuppl.optimize.batch_bundle import AT_KINKS, minimize_bundled
from nuppl.optimize.batch_newton import Minima, minimize_all
from nuppl.optimize.batch_shared import minimize_shared
from nuppl.optimize.lanes import Likelihoods
from nuppl.optimize.objective import natural_objective
from nuppl.optimize.response import Response

__all__ = ["fit_lanes"]

_FEW, _MANY = 8, 64
"""Coordinates up to which every lane has a curvature of its own, and up to which one is made where lanes failed."""

_FIRST, _TOGETHER = 15, 16
"""Steps with what lanes share, and how many lanes share the second time."""


def fit_lanes(
    likelihoods: Likelihoods,
    start: Tensor,
    *,
    held: Tensor | None = None,
    response: Response | None = None,
    neighbours: bool = False,
    tolerance: float = 1e-5,
) -> Minima:
    """The minimum next to each start.

    Arguments:
        likelihoods: n lanes.
        start: with shape (n, D).
        held: coordinates that stay as they are in every lane, boolean with shape (D,).
        response: of a typical lane, for models of many coordinates; of the lowest start by default.
        neighbours: lanes that follow each other end close to each other, and may share what they learn.
        tolerance: on the promised decrease of minus log likelihood.
    """
    free = likelihoods.dim - (0 if held is None else int(held.sum()))
    if not free:
        return _as_they_are(likelihoods, start)
    if free <= _FEW:
        return minimize_all(likelihoods, start, held=held, tolerance=tolerance)
    if response is None:
        lowest = likelihoods.values(start).argsort()[:1]
        try:
            response = Response.around(natural_objective(likelihoods.natural), start[lowest])
        except InputError:  # data whose mean is not known
            return minimize_all(likelihoods, start, held=held, tolerance=tolerance)
    if free > _MANY:
        return _fit_many(likelihoods, start, held, response, neighbours, max(tolerance, AT_KINKS))
    found = minimize_shared(likelihoods, start, response, held=held, tolerance=tolerance)
    failed = ~found.converged
    if not bool(failed.any()):
        return found
    again = minimize_all(likelihoods.rows(failed), found.point[failed], held=held, tolerance=tolerance)
    return found.with_rows(failed, again.better(found.rows(failed)))


def _fit_many(
    likelihoods: Likelihoods,
    start: Tensor,
    held: Tensor | None,
    response: Response,
    neighbours: bool,
    tolerance: float,
) -> Minima:
    """With what all share, with what few neighbours share, and each with a Jacobian of its own."""
    how: dict[str, Any] = {"held": held, "tolerance": tolerance}
    found = minimize_bundled(likelihoods, start, response, max_steps=_FIRST, **how)
    if neighbours:
        objective = natural_objective(likelihoods.natural)
        for lanes in filter(len, _failed(found).split(_TOGETHER)):
            points = found.point[lanes]
            near = Response.around(objective, points[[len(lanes) // 2, 0, -1]])
            again = minimize_bundled(likelihoods.rows(lanes), points, near, max_steps=_FIRST, **how)
            found = found.with_rows(lanes, again.better(found.rows(lanes)))
    lanes = _failed(found)
    if not len(lanes):
        return found
    again = minimize_bundled(likelihoods.rows(lanes), found.point[lanes], response.whole, **how)
    return found.with_rows(lanes, again.better(found.rows(lanes)))


def _failed(found: Minima) -> Tensor:
    return (~found.converged).nonzero()[:, 0]


def _as_they_are(likelihoods: Likelihoods, point: Tensor) -> Minima:
    value, nothing = likelihoods.values(point), torch.zeros(len(point))
    never = torch.zeros(point.shape, dtype=torch.bool)
    return Minima(point, value, nothing, value.isfinite(), never, nothing.long())
