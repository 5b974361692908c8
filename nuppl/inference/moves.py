"""Hamiltonian moves of a population that adapt themselves: step, number of steps, number of trajectories.

The acceptance of thousands of lanes says at once whether the step is right (Buchholz, Chopin and Jacob,
arXiv:1808.07730); the correlation of the lanes with where they were says when to stop.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nuppl.inference.guides import standard_normals
from nuppl.inference.leapfrog import Points, hamiltonian_move
from nuppl.inference.metric import Metric
from nuppl.inference.target import Target
from nuppl.language.precision import seeded
from nuppl.language.simulation import tile_seed

__all__ = ["LENGTH", "Mover"]

LENGTH = 0.5 * math.pi
"""A trajectory of this length in standard coordinates forgets where it began, if the target is normal."""

_ACCEPT = 0.8
"""Wanted acceptance; the log of the step follows the difference."""

_LEAST_ACCEPT, _MOST_TRIES = 0.5, 30
"""Below this acceptance a trajectory only serves to find the step."""

_FORGOTTEN, _STUCK = 0.3, 0.8
"""Moves end when no coordinate is correlated more than this with where it was, or when two more gained too little."""

_MOST_MOVES, _MOST_LEAPS = 10, 32


@dataclass
class Mover:
    """What a run of moves carries along beside its points.

    Attributes:
        target: the density.
        seed, stream: of the random numbers; every trajectory takes two streams.
        step: the leapfrog step in standard coordinates.
        trajectories, evaluations: how many so far, of trajectories and of densities.
        acceptance: of the last trajectory, averaged over lanes.
    """

    target: Target
    seed: int
    stream: int
    step: float
    trajectories: int = 0
    evaluations: int = 0
    acceptance: float = 1.0

    def move(self, points: Points, metric: Metric, beta: float) -> Points:
        """Trajectories until the points have forgotten where they were."""
        start, memory, tries = remembered(points, metric, beta), [1.0, 1.0], 0
        while len(memory) < _MOST_MOVES + 2:
            points = self._trajectory(points, metric, beta)
            tries += 1
            if self.acceptance < _LEAST_ACCEPT and tries < _MOST_TRIES:
                continue
            memory.append(correlation(start, remembered(points, metric, beta)))
            if memory[-1] < _FORGOTTEN or memory[-1] > _STUCK * memory[-3]:
                break
        return points

    def _trajectory(self, points: Points, metric: Metric, beta: float) -> Points:
        n, d = points.x.shape
        stream = self.stream + 2 * self.trajectories
        noise = standard_normals(n, d, self.seed, stream)
        with seeded(tile_seed(self.seed, stream + 1)):
            uniform, jitter = torch.rand(n), float(torch.rand(1))
        leaps = min(max(round(LENGTH * (0.5 + 0.5 * jitter) / self.step), 1), _MOST_LEAPS)
        moved = hamiltonian_move(self.target, points, metric, self.step, leaps, noise, uniform, beta)
        self.trajectories += 1
        self.evaluations += n * leaps
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
