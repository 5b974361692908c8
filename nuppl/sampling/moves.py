"""Hamiltonian moves of a population that adapt themselves: step, number of steps, number of trajectories.

The acceptance of thousands of lanes says at once whether the step is right (Buchholz, Chopin and Jacob,
arXiv:1808.07730); the correlation of the lanes with where they were says when to stop.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nuppl.language.precision import seeded
from nuppl.language.simulation import tile_seed
from nuppl.results.checkpoints import State
from nuppl.sampling.guides import TAILED
from nuppl.sampling.leapfrog import Points, hamiltonian_move, refreshment
from nuppl.sampling.metric import Metric
from nuppl.sampling.mixture import StudentMixture, fit_mixture
from nuppl.sampling.target import Target

__all__ = ["LENGTH", "Mover"]

LENGTH = 0.5 * math.pi
"""A trajectory of this length in standard coordinates forgets where it began, if the target is normal."""

_ACCEPT = 0.7
"""Wanted acceptance; the log of the step follows the difference."""

_LEAST_ACCEPT, _MOST_TRIES = 0.3, 30
"""Below this acceptance a trajectory only serves to find the step."""

_FORGOTTEN, _STUCK = 0.3, 0.8
"""Moves end when no coordinate is correlated more than this with where it was, or when two more gained too little."""

_MOST_MOVES, _MOST_LEAPS = 10, 12

_MOST_PROPOSALS, _LEAST_PROPOSED = 12, 0.05
"""Independent proposals in a row, and the acceptance below which they are left. If few points stayed where they were
through all of them, trajectories for everyone would cost more than they bring."""


@dataclass
class Mover:
    """What a run of moves carries along beside its points.

    Attributes:
        target: the density.
        seed, stream: of the random numbers; every move takes three streams.
        step: the leapfrog step in standard coordinates.
        trajectories, evaluations: how many so far, of moves and of densities.
        acceptance: of the last trajectory, averaged over lanes.
    """

    target: Target
    seed: int
    stream: int
    step: float
    trajectories: int = 0
    evaluations: int = 0
    acceptance: float = 1.0

    def state(self) -> State:
        """For a checkpoint: what moves have changed."""
        return {name: getattr(self, name) for name in ("step", "trajectories", "evaluations", "acceptance")}

    def restore(self, state: State) -> None:
        """Go on from a state."""
        for name, value in state.items():
            setattr(self, name, value)

    def move(self, points: Points, metric: Metric, beta: float, groups: Tensor | None = None) -> Points:
        """Moves until the points have forgotten where they were.

        Arguments:
            groups: 0 or 1 for each lane, with shape (n,): in few dimensions one group's mixture proposes for the other.
        """
        start, memory, tries = remembered(points, metric, beta), [1.0, 1.0], 0
        if groups is not None and points.x.shape[1] <= TAILED:
            mixed = self._mixed(points, beta, groups)
            stayed = float((mixed.x == points.x).all(1).double().mean())
            points = mixed
            if stayed < _FORGOTTEN:
                return points
            memory.append(correlation(start, remembered(points, metric, beta)))
        while len(memory) < _MOST_MOVES + 2 and memory[-1] > _FORGOTTEN:
            points = self._trajectory(points, metric, beta)
            tries += 1
            if self.acceptance < _LEAST_ACCEPT and tries < _MOST_TRIES:
                continue
            memory.append(correlation(start, remembered(points, metric, beta)))
            if memory[-1] > _STUCK * memory[-3]:
                break
        return points

    def _mixed(self, points: Points, beta: float, groups: Tensor) -> Points:
        """Independent proposals, in few dimensions the fastest way between modes, until most have been accepted."""
        mixtures = [fit_mixture(points.x[groups == group]) for group in (1, 0)]
        kept = 1.0
        for _ in range(_MOST_PROPOSALS):
            points, acceptance = self._proposal(points, beta, groups, mixtures)
            kept *= 1.0 - acceptance
            if kept < 0.5 * _FORGOTTEN or acceptance < _LEAST_PROPOSED:
                break
        return points

    def _proposal(
        self, points: Points, beta: float, groups: Tensor, mixtures: list[StudentMixture]
    ) -> tuple[Points, float]:
        stream = self._next()
        n = len(points.x)
        proposals = [mixture.sample(n, self.seed, stream + group)[0] for group, mixture in enumerate(mixtures)]
        x = torch.where(groups[:, None] == 0, proposals[0], proposals[1])
        proposed = Points(x, self.target.log_prob(x))
        self.evaluations += n

        def density(at: Tensor) -> Tensor:
            return torch.where(groups == 0, mixtures[0].log_prob(at), mixtures[1].log_prob(at))

        gain = proposed.tempered(beta) - points.tempered(beta) - density(x) + density(points.x)
        acceptance = gain.nan_to_num(-torch.inf, torch.inf, -torch.inf).clamp(max=0.0).exp()
        with seeded(tile_seed(self.seed, stream + 2)):
            accepted = torch.rand(n) < acceptance
        return proposed.where(accepted, points), float(acceptance.mean())

    def _next(self) -> int:
        """A stream of random numbers, and room for two more."""
        self.trajectories += 1
        return self.stream + 3 * self.trajectories

    def _trajectory(self, points: Points, metric: Metric, beta: float) -> Points:
        noise, uniform, jitter = refreshment(points, self.seed, self._next())
        leaps = min(max(round(LENGTH * (0.5 + 0.5 * jitter) / self.step), 1), _MOST_LEAPS)
        moved = hamiltonian_move(self.target, points, metric, self.step, leaps, noise, uniform, beta)
        self.evaluations += len(points.x) * leaps
        self.acceptance = float(moved.acceptance.mean())
        self.step = min(self.step * math.exp(self.acceptance - _ACCEPT), LENGTH)
        return moved.points


def remembered(points: Points, metric: Metric, beta: float) -> Tensor:
    """What must be forgotten: coordinates, and the log density, which moves slowest in many dimensions."""
    return torch.cat([metric.standard(points.x), points.tempered(beta)[:, None]], dim=1)


def correlation(before: Tensor, after: Tensor) -> float:
    """The greatest correlation of a coordinate over lanes, each argument with shape (n, d)."""
    before, after = before - before.mean(0), after - after.mean(0)
    norm = (before.square().sum(0) * after.square().sum(0)).sqrt().clamp(min=1e-300)
    return float(((before * after).sum(0) / norm).abs().max())
