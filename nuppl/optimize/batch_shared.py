"""Many fits with many coordinates: a curvature that all lanes share, and what each lane learns on its way.

A lane's direction is -H g, H the inverse curvature that `response` gives for where the lane is, corrected by the
lane's own last steps (L-BFGS: Nocedal and Wright, Numerical Optimization, algorithm 7.4). So a few gradients per lane
are enough, and no whole Jacobian is made for a lane. Coordinates at a bound that the likelihood pushes out are held.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nuppl.optimize.batch_newton import Minima
from nuppl.optimize.lanes import Likelihoods
from nuppl.optimize.newton import KINK, PATIENCE, STALL
from nuppl.optimize.response import Curvature, Response

__all__ = ["minimize_shared"]

_MEMORY, _SHORTEST, _SUFFICIENT = 8, 1e-6, 1e-4
"""Steps that a lane remembers, the shortest fraction of a step that is tried, and the share of the promised decrease
that a step must bring (Armijo)."""

_KINKED = 0.05
"""A lane whose steps must be shorter than this forgets what it learned."""

_NUMBERS, _FAR, _ODD = 1 << 26, 16, 0.3
"""Numbers in the memories and matrices of all lanes at a time; steps after which a lane's curvature is made anew, and
how far a gain may lie from its promise before."""


def minimize_shared(
    likelihoods: Likelihoods,
    start: Tensor,
    response: Response,
    *,
    held: Tensor | None = None,
    tolerance: float = 1e-5,
    max_steps: int = 60,
) -> Minima:
    """The minimum next to each start.

    Arguments:
        likelihoods: n lanes.
        start: with shape (n, D), cut back onto the bounds.
        response: at a point like those where the lanes will end.
        held: coordinates that stay as they are in every lane, boolean with shape (D,).
        tolerance: on the promised decrease of minus log likelihood.
        max_steps: gradients per lane.
    """
    held = torch.zeros(likelihoods.dim, dtype=torch.bool) if held is None else held
    size = max(16, _NUMBERS // (2 * _MEMORY * likelihoods.dim + response.numbers))
    parts = torch.arange(len(start)).split(size)
    found = [_minimize(likelihoods.rows(lanes), start[lanes], response, held, tolerance, max_steps) for lanes in parts]
    return Minima.together(found)


def _minimize(
    likelihoods: Likelihoods, start: Tensor, response: Response, held: Tensor, tolerance: float, max_steps: int
) -> Minima:
    lower, upper = likelihoods.natural.lower, likelihoods.natural.upper
    point = torch.where(held, start, start.clamp(lower, upper))
    state = _State(point, *likelihoods.gradient(point), held, response)
    for _ in range(max_steps):
        lanes = (~state.done).nonzero()[:, 0]
        if not len(lanes):
            break
        _step(likelihoods.rows(lanes), state, lanes, tolerance)
    return Minima(state.point, state.value, state.decrease, state.converged, state.at_bound, state.steps)


class _State:
    """All lanes, in place; a lane's memory holds moves s and changes of gradient y, oldest first, zero where none."""

    def __init__(self, point: Tensor, value: Tensor, gradient: Tensor, held: Tensor, response: Response) -> None:
        n, dim = point.shape
        self.held, self.response = held, response
        data, own = len(response.mean), len(response.own)
        shapes = ((n, data), (n, data, own), (n, response.order, response.order))
        self.curvature = Curvature(*(torch.zeros(shape) for shape in shapes))
        self.fresh = torch.zeros(n, dtype=torch.bool)
        self.point, self.value, self.gradient = point, value, gradient
        self.moves, self.changes = torch.zeros(2, n, _MEMORY, dim)
        self.length, self.decrease = torch.ones(n), torch.full((n,), torch.inf)
        self.steps, self.stalled, self.age = torch.zeros(3, n, dtype=torch.int64)
        self.done = ~value.isfinite()
        self.converged = torch.zeros(n, dtype=torch.bool)
        self.at_bound = torch.zeros(n, dim, dtype=torch.bool)

    def remember(self, lanes: Tensor, move: Tensor, change: Tensor) -> None:
        """Keep what has positive curvature, forget the oldest."""
        useful = (move * change).sum(1) > 1e-10 * change.square().sum(1)
        lanes = lanes[useful]
        for memory, new in ((self.moves, move), (self.changes, change)):
            memory[lanes] = torch.cat([memory[lanes, 1:], new[useful, None]], 1)

    def renew(self, likelihoods: Likelihoods, lanes: Tensor, pinned: Tensor) -> None:
        """Begin anew where another set of coordinates is held, or where a lane has come far or found a surprise."""
        pins = pinned & ~self.held
        other = (pins != self.at_bound[lanes]).any(1)
        anew = ~self.fresh[lanes] | other | (self.age[lanes] >= _FAR)
        some = lanes[anew]
        if not len(some):
            return
        self.at_bound[some], self.fresh[some], self.age[some] = pins[anew], True, 0
        self.moves[lanes[other]], self.changes[lanes[other]] = 0.0, 0.0
        fresh = self.response.curvature(likelihoods.rows(anew), self.point[some], ~pinned[anew])
        for kept, new in zip(self.curvature, fresh, strict=True):
            kept[some] = new


def _step(likelihoods: Likelihoods, state: _State, lanes: Tensor, tolerance: float) -> None:
    lower, upper = likelihoods.natural.lower, likelihoods.natural.upper
    point, gradient = state.point[lanes], state.gradient[lanes]
    pinned = state.held | ((point <= lower) & (gradient > 0)) | ((point >= upper) & (gradient < 0))
    state.renew(likelihoods, lanes, pinned)
    slope = torch.where(pinned, 0.0, gradient)
    move = -_two_loops(slope, state, lanes, ~pinned)
    promised = -0.5 * (slope * move).sum(1)
    state.decrease[lanes] = promised
    little = promised < tolerance
    # A promise counts if the curvature is of this very point, where lanes have columns of their own.
    settled = little & ((state.age[lanes] == 0) | (len(state.response.own) == 0))
    state.fresh[lanes] &= ~(little & ~settled)
    state.done[lanes[settled]], state.converged[lanes[settled]] = True, True
    trying = (~little).nonzero()[:, 0]
    if len(trying):
        _try(likelihoods.rows(trying), state, lanes[trying], move[trying], slope[trying])


def _try(likelihoods: Likelihoods, state: _State, lanes: Tensor, move: Tensor, slope: Tensor) -> None:
    """Go a fraction of the direction; a lane that gains too little tries a shorter one next time."""
    lower, upper = likelihoods.natural.lower, likelihoods.natural.upper
    before = state.point[lanes]
    point = torch.where(move == 0.0, before, (before + state.length[lanes, None] * move).clamp(lower, upper))
    value, gradient = likelihoods.gradient(point)
    expected = -((point - before) * slope).sum(1)
    gain = state.value[lanes] - value
    good = gain > _SUFFICIENT * expected.clamp(min=0.0)
    kept = lanes[good]
    state.remember(kept, (point - before)[good], gradient[good] - state.gradient[kept])
    state.point[kept], state.value[kept], state.gradient[kept] = point[good], value[good], gradient[good]
    state.length[kept] = 1.0
    state.age[kept] += 1
    odd = ~good | ((2.0 * gain / expected - 1.0).abs() > _ODD)
    state.fresh[lanes] &= ~(odd & (state.age[lanes] > 0))
    state.steps[lanes] += 1
    poor = lanes[~good]
    state.length[poor] *= 0.25
    lost = poor[state.length[poor] < _KINKED]  # what was learned beyond a kink misleads
    state.moves[lost], state.changes[lost] = 0.0, 0.0
    state.done[poor] = state.length[poor] < _SHORTEST
    little = (gain < STALL) & (state.decrease[lanes] < KINK)
    state.stalled[lanes] = torch.where(little, state.stalled[lanes] + 1, 0)
    at_kink = lanes[state.stalled[lanes] >= PATIENCE]  # as in `newton`
    state.done[at_kink], state.converged[at_kink] = True, True


def _two_loops(slope: Tensor, state: _State, lanes: Tensor, free: Tensor) -> Tensor:
    """H g with shape (n, D); entries of a memory that is not full do nothing."""
    moves, changes = state.moves[lanes], state.changes[lanes]
    products = (moves * changes).sum(2)
    share = torch.where(products > 0.0, 1.0 / products.clamp(min=1e-300), 0.0)
    q, alphas = slope.clone(), []
    for i in reversed(range(_MEMORY)):
        alphas.append(share[:, i] * (moves[:, i] * q).sum(1))
        q = q - alphas[-1][:, None] * changes[:, i]
    r = state.response.solve(Curvature(*(part[lanes] for part in state.curvature)), free, q)
    for i, alpha in zip(range(_MEMORY), reversed(alphas), strict=True):
        beta = share[:, i] * (changes[:, i] * r).sum(1)
        r = r + (alpha - beta)[:, None] * moves[:, i]
    return torch.where(free, r, 0.0)
