"""Gauss-Newton on many likelihoods with many coordinates, across kinks.

Responses in bins have kinks, where no gradient vanishes at a minimum. A lane keeps the gradients g_i of the last points
that it tried, each with its linearisation error e_i, and steps by -C^-1 sum_i w_i g_i, where the weights w solve

    left = min over w >= 0, sum w = 1 of |sum_i w_i g_i|^2 / 2 + sum_i w_i e_i,   |g|^2 = g^T C^-1 g.

Without a kink the last gradient has weight one: Newton's step. `left` is what can still be gained (bundle methods:
Bonnans et al., Numerical Optimization, ch. 10).
"""

from __future__ import annotations

import torch
from torch import Tensor

from nuppl.optimize.batch_newton import Minima
from nuppl.optimize.lanes import Likelihoods
from nuppl.optimize.response import Curvature, Response

__all__ = ["AT_KINKS", "minimize_bundled"]

AT_KINKS = 3e-5
"""What may be left to gain in minus log likelihood."""

_KEPT, _NEAR = 7, 0.1
"""Gradients that a lane keeps besides its last, and by how much values may differ for that."""

_SUFFICIENT, _SHORTEST, _ODD, _LITTLE = 1e-3, 1e-5, 0.3, 0.02
"""Share of the promised gain that a step must bring, the shortest fraction of a step that is tried, how far a gain may
lie from its promise for a curvature to be kept, and what is left to gain when it is kept in any case."""

_NUMBERS, _WEIGHINGS = 1 << 26, 60
"""Numbers that all lanes at a time keep, and steps of the search for weights."""


def minimize_bundled(
    likelihoods: Likelihoods,
    start: Tensor,
    response: Response,
    *,
    held: Tensor | None = None,
    tolerance: float = AT_KINKS,
    max_steps: int = 40,
) -> Minima:
    """The minimum next to each start.

    Arguments:
        likelihoods: n lanes.
        start: with shape (n, D), cut back onto the bounds.
        response: of lanes like these.
        held: coordinates that stay as they are in every lane, boolean with shape (D,).
        tolerance: on what can still be gained in minus log likelihood.
        max_steps: gradients per lane.
    """
    held = torch.zeros(likelihoods.dim, dtype=torch.bool) if held is None else held
    size = max(16, _NUMBERS // (response.numbers + 2 * _KEPT * likelihoods.dim))
    found = []
    for lanes in torch.arange(len(start)).split(size):
        search = _Search(likelihoods.rows(lanes), start[lanes], response, held)
        for _ in range(max_steps):
            if bool(search.done.all()):
                break
            search.step((~search.done).nonzero()[:, 0], tolerance)
        found.append(search.minima())
    return Minima.together(found)


class _Search:
    """All lanes, in place. Of gradients the last comes first; errors of what is not there are infinite."""

    def __init__(self, likelihoods: Likelihoods, start: Tensor, response: Response, held: Tensor) -> None:
        n, dim = start.shape
        natural = likelihoods.natural
        self.likelihoods, self.response, self.held = likelihoods, response, held
        self.lower, self.upper = natural.lower, natural.upper
        self.point = torch.where(held, start, start.clamp(self.lower, self.upper))
        self.value, gradient = likelihoods.gradient(self.point)
        self.gradients = torch.zeros(n, 1 + _KEPT, dim)
        self.gradients[:, 0] = gradient
        self.errors = torch.full((n, 1 + _KEPT), torch.inf)
        self.errors[:, 0] = 0.0
        data, own = len(response.mean), len(response.own)
        sizes = ((n, data), (n, data, own), (n, response.order, response.order))
        self.curvature = Curvature(*(torch.zeros(size) for size in sizes))
        self.fresh = torch.zeros(n, dtype=torch.bool)
        self.moved = torch.zeros(n, dtype=torch.bool)
        self.at_bound = torch.zeros(n, dim, dtype=torch.bool)
        self.length, self.left = torch.ones(n), torch.full((n,), torch.inf)
        self.steps = torch.zeros(n, dtype=torch.int64)
        self.done = ~self.value.isfinite()
        self.converged = torch.zeros(n, dtype=torch.bool)

    def minima(self) -> Minima:
        return Minima(self.point, self.value, self.left, self.converged, self.at_bound, self.steps)

    def step(self, lanes: Tensor, tolerance: float) -> None:
        """One trial in each of some lanes."""
        free = self._renewed(lanes)
        gradients = torch.where(free[:, None], self.gradients[lanes], 0.0)
        curvature = Curvature(*(part[lanes] for part in self.curvature))
        solved = self.response.solve_all(curvature, free, gradients)
        weight = _weights(gradients @ solved.mT, self.errors[lanes])
        move = -torch.einsum("nk,nkd->nd", weight, solved)
        mean = torch.einsum("nk,nkd->nd", weight, gradients)
        error = (weight * torch.where(weight > 0, self.errors[lanes], 0.0)).sum(1)
        self.left[lanes] = error - 0.5 * (move * mean).sum(1)
        settled = self.left[lanes] < tolerance
        self.done[lanes[settled]], self.converged[lanes[settled]] = True, True
        if bool((~settled).any()):
            self._try(lanes[~settled], move[~settled])

    def _renewed(self, lanes: Tensor) -> Tensor:
        """Which coordinates are free, with the curvature of lanes made anew where it no longer holds."""
        point, gradient = self.point[lanes], self.gradients[lanes, 0]
        pins = ((point <= self.lower) & (gradient > 0)) | ((point >= self.upper) & (gradient < 0))
        pinned = self.held | pins
        other = (pins & ~self.held != self.at_bound[lanes]).any(1)
        anew = ~self.fresh[lanes] | other
        some = lanes[anew]
        if len(some):
            self.at_bound[some], self.fresh[some], self.moved[some] = (pins & ~self.held)[anew], True, False
            made = self.response.curvature(self.likelihoods.rows(some), self.point[some], ~pinned[anew])
            for kept, new in zip(self.curvature, made, strict=True):
                kept[some] = new
        return ~pinned

    def _try(self, lanes: Tensor, move: Tensor) -> None:
        before, length = self.point[lanes], self.length[lanes]
        target = (before + length[:, None] * move).clamp(self.lower, self.upper)
        target = torch.where(move == 0.0, before, target)
        value, gradient = self.likelihoods.rows(lanes).gradient(target)
        gain = self.value[lanes] - value
        promise = length * (2.0 - length) * self.left[lanes]
        good = gain > _SUFFICIENT * promise
        self._keep(lanes, target, value, gradient, good)
        self.steps[lanes] += 1
        self.moved[lanes] |= good
        odd = ~good | ((gain / promise - 1.0).abs() > _ODD)
        self.fresh[lanes] &= ~(odd & self.moved[lanes] & (self.left[lanes] > _LITTLE))
        self.length[lanes] = torch.where(good, 1.0, 0.4 * length)
        self.done[lanes] |= self.length[lanes] < _SHORTEST

    def _keep(self, lanes: Tensor, target: Tensor, value: Tensor, gradient: Tensor, good: Tensor) -> None:
        """Take what was tried into the bundle; where it was good it is the new point.

        Without convexity errors may be negative: what counts is how far a gradient is from being of this point.
        """
        before, old = self.point[lanes], self.value[lanes]
        step = target - before
        tried = old - value + (gradient * step).sum(1)
        errors = self.errors[lanes]
        moved = errors + (value - old)[:, None] - torch.einsum("nkd,nd->nk", self.gradients[lanes], step)
        errors = torch.where(good[:, None], moved, errors).abs()
        first = torch.where(good, 0.0, errors[:, 0])
        second = torch.where(good, errors[:, 0], tried.abs())
        fresh, last = gradient, self.gradients[lanes, 0]
        where = good[:, None]
        front = torch.stack([torch.where(where, fresh, last), torch.where(where, last, fresh)], 1)
        self.gradients[lanes] = torch.cat([front, self.gradients[lanes, 1:-1]], 1)
        errors = torch.cat([first[:, None], second[:, None], errors[:, 1:-1]], 1)
        errors[:, 1:] = torch.where(errors[:, 1:] < _NEAR, errors[:, 1:], torch.inf)
        self.errors[lanes] = errors.nan_to_num(torch.inf, posinf=torch.inf)
        self.point[lanes] = torch.where(where, target, before)
        self.value[lanes] = torch.where(good, value, old)


def _weights(products: Tensor, errors: Tensor) -> Tensor:
    """w with shape (n, k), for products g_i^T C^-1 g_j with shape (n, k, k).

    Each step moves weight from the worst gradient in use to the best (pairwise Frank-Wolfe).
    """
    weight = torch.zeros_like(errors)
    weight[:, 0] = 1.0
    if not bool(errors[:, 1:].isfinite().any()):
        return weight
    there = errors.isfinite()
    finite = torch.where(there, errors, 0.0)
    rows = torch.arange(len(errors))
    for _ in range(_WEIGHINGS):
        slope = torch.einsum("nij,nj->ni", products, weight) + finite
        best = torch.where(there, slope, torch.inf).argmin(1)
        worst = torch.where(weight > 0, slope, -torch.inf).argmax(1)
        gap = slope[rows, worst] - slope[rows, best]
        bend = products[rows, best, best] + products[rows, worst, worst] - 2.0 * products[rows, best, worst]
        length = torch.minimum(gap / bend.clamp(min=1e-30), weight[rows, worst]).clamp(min=0.0)
        weight[rows, best] += length
        weight[rows, worst] -= torch.where(best == worst, 0.0, length)
        weight[rows, worst] = weight[rows, worst].clamp(min=0.0)
    return weight / weight.sum(1, keepdim=True)
