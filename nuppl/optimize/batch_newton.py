"""Damped Gauss-Newton with bounds on many likelihoods at once, each lane with damping and active set of its own.

    (C + lambda diag C) s = -g   for the coordinates of a lane that are neither held nor pushed out at a bound

A step that does not lower its lane's value is taken back and lambda raised (Levenberg and Marquardt; Nocedal and
Wright, Numerical Optimization, ch. 10 and 16.7). A lane has converged when the decrease g^T s / 2 that one more step
promises is below the tolerance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nuppl.optimize.lanes import Likelihoods

__all__ = ["Minima", "minimize_all"]

_FIRST, _UP, _DOWN, _HOPELESS = 1e-3, 8.0, 0.1, 1e10
"""Damping: where it begins, by how much it rises and falls, and when a lane is given up."""

_GOOD = 0.2
"""How far a gain may lie from its promise for a curvature to be kept."""

_SLOW = 8
"""Steps after which a lane gets the exact Hessian: far from its data, what Fisher's information leaves out counts."""

_ENOUGH = 0.25
"""Share of the promised decrease below which a step counts as poor, and is damped."""


@dataclass(frozen=True)
class Minima:
    """Where n minimisations ended.

    Attributes:
        point: with shape (n, D).
        value: minus log likelihood with shape (n,); inf where no density was found.
        decrease: what one more step promises, with shape (n,).
        converged: boolean with shape (n,).
        at_bound: boolean with shape (n, D).
        steps: number of evaluations with shape (n,).
    """

    point: Tensor
    value: Tensor
    decrease: Tensor
    converged: Tensor
    at_bound: Tensor
    steps: Tensor

    def rows(self, lanes: Tensor) -> Minima:
        """Some of the lanes, by index or by mask."""
        return Minima(*(value[lanes] for value in vars(self).values()))

    def with_rows(self, lanes: Tensor, other: Minima) -> Minima:
        """With other minima in some lanes."""
        found = {name: value.clone() for name, value in vars(self).items()}
        for name, value in vars(other).items():
            found[name][lanes] = value
        return Minima(**found)

    @classmethod
    def together(cls, parts: Sequence[Minima]) -> Minima:
        """The lanes of several, one after the other."""
        return cls(*(torch.cat(values) for values in zip(*(vars(part).values() for part in parts), strict=True)))

    def better(self, other: Minima) -> Minima:
        """The lower of two minima lane by lane; a converged one wins over one of about the same value."""
        bonus = 1e-6 * self.value.abs().clamp(max=1e3)
        first = torch.where(self.converged & ~other.converged, self.value - bonus, self.value)
        second = torch.where(other.converged & ~self.converged, other.value - bonus, other.value)
        mine = ~(second < first)
        return Minima(*(_pick(mine, a, b) for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))


def minimize_all(
    likelihoods: Likelihoods,
    start: Tensor,
    *,
    held: Tensor | None = None,
    tolerance: float = 1e-5,
    max_steps: int = 60,
) -> Minima:
    """The minimum next to each start.

    Arguments:
        likelihoods: n lanes.
        start: with shape (n, D), cut back onto the bounds.
        held: coordinates that stay as they are in every lane, boolean with shape (D,).
        tolerance: on the promised decrease of minus log likelihood.
        max_steps: evaluations per lane.
    """
    lower, upper = likelihoods.natural.lower, likelihoods.natural.upper
    held = torch.zeros(likelihoods.dim, dtype=torch.bool) if held is None else held
    free = (~held).nonzero()[:, 0]
    point = torch.where(held, start, start.clamp(lower, upper)).clone()
    value, gradient = likelihoods.gradient(point)
    found = _Search(point, value, gradient, free, lower[free], upper[free])
    for _ in range(max_steps):
        active = found.active()
        if not len(active):
            break
        found.step(likelihoods.rows(active), active, tolerance)
    return found.minima()


class _Search:
    """The state of all lanes, in place."""

    def __init__(
        self, point: Tensor, value: Tensor, gradient: Tensor, free: Tensor, lower: Tensor, upper: Tensor
    ) -> None:
        n = len(point)
        self.point, self.value, self.gradient, self.free = point, value, gradient, free
        self.lower, self.upper = lower, upper
        self.damping, self.decrease = torch.zeros(n), torch.full((n,), torch.inf)
        self.steps, self.done = torch.zeros(n, dtype=torch.int64), ~value.isfinite()
        self.curvature = torch.zeros(n, len(free), len(free))
        self.stale = torch.ones(n, dtype=torch.bool)
        self.at_bound = torch.zeros_like(point, dtype=torch.bool)

    def active(self) -> Tensor:
        return (~self.done).nonzero()[:, 0]

    def step(self, likelihoods: Likelihoods, lanes: Tensor, tolerance: float) -> None:
        """One trial in each of some lanes."""
        free = self.free
        self._renew(likelihoods, lanes)
        point, gradient = self.point[lanes], self.gradient[lanes]
        inner, slope = point[:, free], gradient[:, free]
        pinned = ((inner <= self.lower) & (slope > 0)) | ((inner >= self.upper) & (slope < 0))
        move, promised, expected = _newton(
            self.curvature[lanes], torch.where(pinned, 0.0, slope), pinned, self.damping[lanes]
        )
        target = (inner + move).clamp(self.lower, self.upper)
        self.decrease[lanes] = promised
        self.at_bound[lanes[:, None], free] = pinned
        settled = promised < tolerance
        self.done[lanes[settled]] = True
        trying = ~settled
        lanes, point = lanes[trying], point[trying]
        if not len(lanes):
            return
        point[:, free] = target[trying]
        value, gradient = likelihoods.rows(trying).gradient(point)
        self._judge(lanes, point, value, gradient, expected[trying])

    def _renew(self, likelihoods: Likelihoods, lanes: Tensor) -> None:
        """The curvature of lanes that have moved."""
        stale, slow = self.stale[lanes], self.steps[lanes] >= _SLOW
        for which, exact in ((stale & ~slow, False), (stale & slow, True)):
            if bool(which.any()):
                some, points = likelihoods.rows(which), self.point[lanes[which]]
                curvature = some.hessian if exact else some.curvature
                self.curvature[lanes[which]] = curvature(points, self.free)
        self.stale[lanes] = False

    def _judge(self, lanes: Tensor, point: Tensor, value: Tensor, gradient: Tensor, expected: Tensor) -> None:
        gain = self.value[lanes] - value
        good = gain > 0
        damping = self.damping[lanes]
        raised = (_UP * damping).clamp(min=_FIRST)
        lowered = torch.where(damping > _FIRST, _DOWN * damping, 0.0)
        self.damping[lanes] = torch.where(gain > _ENOUGH * expected, lowered, raised)
        self.steps[lanes] += 1
        taken = lanes[good]
        self.point[taken], self.value[taken], self.gradient[taken] = point[good], value[good], gradient[good]
        # Where the step brought what it promised the curvature is still good.
        self.stale[taken] = (gain[good] / expected[good] - 1.0).abs() > _GOOD
        self.done[lanes] = self.damping[lanes] > _HOPELESS

    def minima(self) -> Minima:
        converged = self.done & self.value.isfinite() & (self.damping <= _HOPELESS)
        return Minima(self.point, self.value, self.decrease, converged, self.at_bound, self.steps)


def _newton(curvature: Tensor, gradient: Tensor, pinned: Tensor, damping: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Steps with shape (n, d), zero where pinned; the decrease that is left, and what the damped step should bring."""
    diagonal = curvature.diagonal(dim1=1, dim2=2)
    floor = 1e-12 * diagonal.amax(1, keepdim=True).clamp(min=1e-12)
    # One is the curvature of a prior: where data say nothing, steps are kept to its width.
    damper = damping[:, None] * (diagonal + 1.0)
    matrix = curvature.masked_fill(pinned[:, :, None] | pinned[:, None, :], 0.0)
    matrix = matrix + torch.where(pinned, 1.0, damper + floor).diag_embed()
    factor, failed = torch.linalg.cholesky_ex(matrix)
    move = -torch.cholesky_solve(gradient[:, :, None], factor)[:, :, 0]
    # Where the information is not positive, as at data without variance, a lane goes downhill.
    downhill = -gradient / (1e-6 + gradient.abs().amax(1, keepdim=True))
    move = torch.where((failed > 0)[:, None], downhill, move)
    slope = -(gradient * move).sum(1)
    return move, 0.5 * slope * (1.0 + damping), 0.5 * (slope + (damper * move.square()).sum(1))


def _pick(mine: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(mine.reshape(-1, *[1] * (a.dim() - 1)), a, b)
