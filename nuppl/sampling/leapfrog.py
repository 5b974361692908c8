"""Hamiltonian moves of many points at once, all lanes with the same steps (Neal, arXiv:1206.1901).

A lane moves by `leaps` leapfrog steps and is accepted with probability min(1, exp(H - H')). Targets may be tempered:
log gamma = (1 - beta) log N(x; 0, 1) + beta log p(x).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nuppl.language.precision import seeded
from nuppl.language.simulation import tile_seed
from nuppl.results.checkpoints import State
from nuppl.sampling.guides import standard_normals
from nuppl.sampling.metric import Metric
from nuppl.sampling.target import Target, log_normal

__all__ = ["Move", "Points", "hamiltonian_move", "points_at", "refreshment"]

DIVERGENT = 1000.0
"""An energy error that marks a trajectory as divergent."""


@dataclass(frozen=True)
class Points:
    """Points of a target with what is known of them.

    Attributes:
        x: with shape (n, d).
        log_p: the target's log density with shape (n,).
        force: its gradient with shape (n, d), None where only the density was asked for.
    """

    x: Tensor
    log_p: Tensor
    force: Tensor | None = None

    def take(self, index: Tensor) -> Points:
        """Some of the points, or all in another order."""
        return Points(self.x[index], self.log_p[index], None if self.force is None else self.force[index])

    def where(self, chosen: Tensor, other: Points) -> Points:
        """These points where `chosen`, with shape (n,), and the others elsewhere."""
        return Points(
            torch.where(chosen[:, None], self.x, other.x),
            torch.where(chosen, self.log_p, other.log_p),
            None
            if self.force is None or other.force is None
            else torch.where(chosen[:, None], self.force, other.force),
        )

    def state(self) -> State:
        """For a checkpoint."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def tempered(self, beta: float) -> Tensor:
        """log gamma with shape (n,)."""
        return self.log_p if beta == 1.0 else (1.0 - beta) * log_normal(self.x) + beta * self.log_p


@dataclass(frozen=True)
class Move:
    """What one trajectory did.

    Attributes:
        points: where the lanes are now.
        proposed: where the trajectories ended, with shape (n, d).
        velocity: in standard coordinates at the end, with shape (n, d).
        acceptance: the probability of acceptance with shape (n,).
        diverging: with shape (n,).
    """

    points: Points
    proposed: Tensor
    velocity: Tensor
    acceptance: Tensor
    diverging: Tensor


def points_at(target: Target, x: Tensor) -> Points:
    """Points of a target."""
    return Points(x, *target.forces(x))


def refreshment(points: Points, seed: int, stream: int) -> tuple[Tensor, Tensor, float]:
    """The random numbers of one trajectory, from two streams: momenta (n, d), uniform (n,), and one for its length."""
    n, d = points.x.shape
    noise = standard_normals(n, d, seed, stream)
    with seeded(tile_seed(seed, stream + 1)):
        return noise, torch.rand(n), float(torch.rand(1))


def hamiltonian_move(
    target: Target, points: Points, metric: Metric, step: float, leaps: int, noise: Tensor, uniform: Tensor, beta: float
) -> Move:
    """One trajectory per lane.

    Arguments:
        step: the leapfrog step in standard coordinates.
        noise: momenta in standard coordinates, standard normal with shape (n, d).
        uniform: decides acceptance, with shape (n,).
        beta: the inverse temperature.
    """
    x, p = points.x, noise
    force = target.forces(x)[1] if points.force is None else points.force
    for _ in range(leaps):
        p = p + 0.5 * step * metric.gather(_tempered_force(x, force, beta))
        x = x + step * metric.spread(p)
        log_p, force = target.forces(x)
        p = p + 0.5 * step * metric.gather(_tempered_force(x, force, beta))
    ended = Points(x, log_p, force)
    before = points.tempered(beta) - 0.5 * noise.square().sum(-1)
    gain = (ended.tempered(beta) - 0.5 * p.square().sum(-1) - before).nan_to_num(-torch.inf, torch.inf, -torch.inf)
    acceptance = gain.clamp(max=0.0).exp()
    accepted = uniform < acceptance
    return Move(ended.where(accepted, points), x, p, acceptance, gain < -DIVERGENT)


def _tempered_force(x: Tensor, force: Tensor, beta: float) -> Tensor:
    return force if beta == 1.0 else beta * force - (1.0 - beta) * x
