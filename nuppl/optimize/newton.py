"""Damped Gauss-Newton with bounds by an active set.

A coordinate at a bound whose gradient points outwards is held there; the others take the step
(C + lambda diag C) s = -g, cut back onto the bounds. Several step lengths are tried as lanes of one batch.
Converged when the expected decrease g^T C^-1 g / 2 is below the tolerance (Nocedal and Wright, Numerical Optimization,
ch. 10 and 16.7).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nuppl.errors import InputError
from nuppl.optimize.objective import Objective

__all__ = ["Minimum", "NoCurvature", "minimize"]

PATIENCE, STALL, KINK = 4, 1e-4, 1e-3
"""At a kink, as binned responses have, the gradient jumps and no step ever looks like the last one: four steps in a row
that gain less than 1e-4 each end the search, converged if less than 1e-3 seems left to gain (0.04 of an error)."""

_SIDES, _NEARBY = 12, 1e-2
"""Gradients around a kink that tell what is left to gain, and the gain of a step that comes from elsewhere."""

_LENGTHS = 2.0 ** -torch.arange(0, 12, dtype=torch.float64)


class NoCurvature(InputError):
    """The expected data of the model, or their derivatives, are not finite."""


@dataclass(frozen=True)
class Minimum:
    """Where a minimisation ended.

    Attributes:
        point: with shape (D,).
        value: the objective.
        decrease: the decrease that one more step would bring, as estimated.
        converged: whether that is below the tolerance.
        at_bound: which coordinates are held at a bound, with shape (D,).
        steps: number of iterations.
    """

    point: Tensor
    value: float
    decrease: float
    converged: bool
    at_bound: Tensor
    steps: int


def minimize(
    objective: Objective,
    start: Tensor,
    *,
    held: Tensor | None = None,
    tolerance: float = 5e-5,
    max_steps: int = 100,
) -> Minimum:
    """The minimum next to `start`.

    Arguments:
        objective: what to minimise.
        start: with shape (D,), cut back onto the bounds.
        held: coordinates that stay as they are, boolean with shape (D,).
        tolerance: on the expected decrease of the objective.
        max_steps: after which it gives up, unconverged.
    """
    point = start.clamp(objective.lower, objective.upper)
    held = torch.zeros(objective.dim, dtype=torch.bool) if held is None else held
    damping, decrease, steps, stalled = 0.0, float("inf"), 0, 0
    value, gradient = objective.gradient(point)
    pinned, sides = held, [gradient]
    while steps < max_steps and stalled < PATIENCE:
        steps += 1
        pinned = held | _outward(objective, point, gradient)
        direction, decrease = _step(objective.curvature(point), gradient, ~pinned, damping)
        if decrease < tolerance:
            break
        candidates = (point + _LENGTHS[:, None] * direction).clamp(objective.lower, objective.upper)
        values = objective.values(candidates)
        best = int(values.argmin())
        if not float(values[best]) < float(value):
            if damping > 1e8:
                break
            damping, stalled = max(10.0 * damping, 1e-3), stalled + int(decrease < KINK)
            continue
        damping = 0.0 if best < 2 else max(damping, 1e-3)
        gain = float(value) - float(values[best])
        stalled = stalled + 1 if gain < STALL else 0
        point = candidates[best]
        value, gradient = objective.gradient(point)
        sides = [*(sides[1 - _SIDES :] if gain < _NEARBY else []), gradient]
    if stalled >= PATIENCE:
        decrease = min(decrease, _left_at_kink(objective.curvature(point), torch.stack(sides), ~pinned))
    converged = decrease < tolerance or (stalled >= PATIENCE and decrease < KINK)
    return Minimum(point, float(value), decrease, converged, pinned & ~held, steps)


def _outward(objective: Objective, point: Tensor, gradient: Tensor) -> Tensor:
    """Coordinates at a bound that the objective pushes further out."""
    return ((point <= objective.lower) & (gradient > 0)) | ((point >= objective.upper) & (gradient < 0))


def _step(curvature: Tensor, gradient: Tensor, free: Tensor, damping: float) -> tuple[Tensor, float]:
    direction = torch.zeros_like(gradient)
    if not bool(free.any()):
        return direction, 0.0
    inner = curvature[free][:, free]
    diagonal = inner.diagonal().clamp(min=1e-12)
    inner = inner + (damping * diagonal + 1e-12 * diagonal.max()).diag()
    factor, failed = torch.linalg.cholesky_ex(inner)
    if int(failed):
        raise NoCurvature("the curvature is not positive: the model's expected data are not finite at some point")
    direction[free] = -torch.cholesky_solve(gradient[free][:, None], factor)[:, 0]
    return direction, float(-0.5 * gradient @ direction) * (1.0 + damping)


def _left_at_kink(curvature: Tensor, gradients: Tensor, free: Tensor) -> float:
    """What is left to gain where gradients with shape (k, D) jump: the least g^T C^-1 g / 2 of their weighted means g.

    At a minimum zero is among the means (C. Lemarechal, Math. Programming Study 3, 95 (1975)). Frank and Wolfe's steps.
    """
    factor, failed = torch.linalg.cholesky_ex(curvature[free][:, free])
    if int(failed):  # some coordinate moves nothing
        return float("inf")
    whitened = torch.linalg.solve_triangular(factor, gradients[:, free].T, upper=False)
    products = whitened.T @ whitened
    mean = torch.full_like(products[0], 1.0 / len(products))
    for _ in range(200):
        toward = -mean
        toward[(products @ mean).argmin()] += 1.0
        length = -(mean @ products @ toward) / (toward @ products @ toward).clamp(min=1e-30)
        mean = mean + length.clamp(0.0, 1.0) * toward
    return float(0.5 * mean @ products @ mean)
