"""MINOS errors: where the profile of minus log L has risen by 1/2.

The crossing is sought in t, the distance from the minimum in Hessian errors, by the secant rule on sqrt(2 Delta), which
is linear in t for a parabola; each profile value is a fit of all other coordinates (James and Roos 1975).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nuppl.optimize.newton import Minimum, minimize
from nuppl.optimize.objective import Objective

__all__ = ["Crossing", "crossing"]


@dataclass(frozen=True)
class Crossing:
    """One end of a profile interval.

    Attributes:
        value: the coordinate there, or the bound where that comes first.
        found: False where the search ended unconverged.
        lower_minimum: a better minimum seen on the way, or None.
    """

    value: float
    found: bool
    lower_minimum: Tensor | None


def crossing(
    objective: Objective,
    minimum: Minimum,
    covariance: Tensor,
    index: int,
    direction: int,
    *,
    rise: float = 0.5,
    tolerance: float = 1e-3,
    max_fits: int = 12,
) -> Crossing:
    """Follow coordinate `index` from the minimum, upwards (+1) or downwards (-1), to where the profile rose by `rise`.

    Arguments:
        objective, minimum: what was minimised, and where that ended.
        covariance: inverse Hessian with shape (D, D); its column is the first guess of how the others follow.
        rise: in minus log L.
        tolerance: on the number of standard deviations.
        max_fits: profile fits before the search gives up.
    """
    error = float(covariance[index, index].sqrt())
    follow = covariance[:, index] / covariance[index, index]
    bound = float((objective.upper if direction > 0 else objective.lower)[index])
    start, target = float(minimum.point[index]), (2.0 * rise) ** 0.5
    held = torch.zeros(objective.dim, dtype=torch.bool)
    held[index] = True
    t, low, high = target, 0.0, float("inf")
    previous = (0.0, 0.0)
    for _ in range(max_fits):
        position = start + direction * t * error
        outside = position > bound if direction > 0 else position < bound
        position = bound if outside else position
        t = abs(position - start) / error
        guess = minimum.point + follow * (position - start)
        guess[index] = position
        fit = minimize(objective, guess, held=held, tolerance=1e-5)
        if fit.value < minimum.value - 1e-3:
            return Crossing(position, False, fit.point)
        height = (2.0 * max(fit.value - minimum.value, 0.0)) ** 0.5
        if outside and height < target:
            return Crossing(bound, True, None)
        if abs(height - target) < tolerance:
            return Crossing(position, fit.converged, None)
        low, high = (t, high) if height < target else (low, t)
        slope = (height - previous[1]) / (t - previous[0]) if t != previous[0] else 0.0
        previous = (t, height)
        step = t + (target - height) / slope if slope > 1e-6 else 2.0 * t
        t = step if low < step < high else (0.5 * (low + high) if high < float("inf") else 2.0 * max(t, 0.1))
    return Crossing(position, False, None)
