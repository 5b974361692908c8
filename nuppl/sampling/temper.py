"""Tempering: a population of particles taken from the prior to a posterior, with the evidence on the way.

    gamma_beta(x) = N(x; 0, 1)^(1 - beta) p(x, data)^beta,   beta from 0 to 1,
    Z = product over steps of the mean of (p / N)^(beta' - beta)

(Del Moral, Doucet and Jasra, J. R. Stat. Soc. B 68 (2006) 411). The next beta keeps a fixed share of effective
particles; the metric of the moves is the covariance of the particles. Islands are populations that resample among
themselves only, so that their spread is the error of the evidence and R-hat means something.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nuppl.errors import InputError
from nuppl.language.diagnosis import explain_no_density
from nuppl.language.simulation import tile_seed
from nuppl.results.checkpoints import Checkpoints, State
from nuppl.sampling.guides import standard_normals
from nuppl.sampling.leapfrog import Points
from nuppl.sampling.metric import from_particles
from nuppl.sampling.moves import Mover
from nuppl.sampling.target import Target, log_normal
from nuppl.sampling.weights import resample
from nuppl.typing import Progress, silent

__all__ = ["Islands", "population_state", "resampled", "restored", "temper"]

_SHARE = 0.7
"""Effective share of the particles at each step in beta."""

_BATCHES = 32
"""Batches of prior draws in which an island looks for a finite density."""

_PRIOR_STREAM, _RESAMPLE_STREAM = 3 << 24, 5 << 24


@dataclass
class Islands:
    """A population in islands.

    Attributes:
        points: island after island, with shape (islands * particles, d).
        log_z: the log evidence of each island, with shape (islands,).
        beta: the inverse temperature.
        steps: temperatures so far.
    """

    points: Points
    log_z: Tensor
    beta: float = 0.0
    steps: int = 0

    @property
    def groups(self) -> Tensor:
        """0 or 1 for each particle, the same for all of an island."""
        particles = len(self.points.x) // len(self.log_z)
        return (torch.arange(len(self.log_z)) % 2).repeat_interleave(particles)

    def by_island(self, values: Tensor) -> Tensor:
        """(islands * particles, ...) to (islands, particles, ...)."""
        return values.reshape(len(self.log_z), -1, *values.shape[1:])

    def state(self) -> State:
        """For a checkpoint."""
        return {**vars(self), "points": self.points.state()}

    @classmethod
    def from_state(cls, state: State) -> Islands:
        """As they were."""
        return cls(**{**state, "points": Points(**state["points"])})


def temper(
    target: Target, islands: int, particles: int, mover: Mover, store: Checkpoints, progress: Progress = silent
) -> Islands:
    """Particles at beta = 1.

    Arguments:
        store: what an interrupted run had reached, and where this one keeps what it reaches.

    Raises:
        InputError: no finite density among the draws of the prior.
    """
    kept = store.load("temperatures")
    population = _from_prior(target, islands, particles, mover) if kept is None else restored(kept, mover)
    while population.beta < 1.0:
        log_ratio = population.by_island(population.points.log_p - log_normal(population.points.x))
        beta = _next_beta(log_ratio, population.beta)
        weights = (beta - population.beta) * log_ratio
        population.log_z = population.log_z + weights.logsumexp(1) - math.log(particles)
        metric = from_particles(population.points.x, weights.flatten())
        population.points = population.points.take(resampled(weights, mover, population.steps))
        left = _steps_left(population.beta, beta)
        population.beta, population.steps = beta, population.steps + 1
        population.points = mover.move(population.points, metric, beta, population.groups)
        progress(population.steps, population.steps + left, "temperatures")
        if store.due() or beta == 1.0:
            store.save("temperatures", population_state(population, mover))
    return population


def population_state(population: Islands, mover: Mover) -> State:
    """For a checkpoint."""
    failures = mover.target.whitened.failures
    return {"population": population.state(), "mover": mover.state(), "failures": failures}


def restored(state: State, mover: Mover) -> Islands:
    """The population as it was, and its mover."""
    mover.restore(state["mover"])
    mover.target.whitened.failures = state["failures"]
    return Islands.from_state(state["population"])


def _from_prior(target: Target, islands: int, particles: int, mover: Mover) -> Islands:
    """Draws of the prior with finite density; log_z starts at the log of their share."""
    kept: list[list[Tensor]] = [[] for _ in range(islands)]
    found, drawn = torch.zeros(islands), 0
    for batch in range(_BATCHES):
        x = standard_normals(islands * particles, target.dim, mover.seed, _PRIOR_STREAM + batch)
        usable = target.log_prob(x).isfinite().reshape(islands, -1)
        found, drawn = found + usable.sum(1), drawn + particles
        for island, (mine, good) in enumerate(zip(x.reshape(islands, particles, -1), usable, strict=True)):
            kept[island].append(mine[good])
        if bool((found >= 0.5 * particles).all()):
            break
    mover.evaluations += islands * drawn
    if not bool((found > 0).all()):
        raise InputError(explain_no_density(target.whitened.program))
    rows = []
    for part in kept:
        usable_x = torch.cat(part)
        rows.append(usable_x[torch.arange(particles) % len(usable_x)])
    x = torch.cat(rows)
    return Islands(Points(x, target.log_prob(x)), (found / drawn).log())


def _next_beta(log_ratio: Tensor, beta: float) -> float:
    """The greatest beta that leaves the islands their effective share on average, by bisection."""

    def share(trial: float) -> float:
        log_w = (trial - beta) * log_ratio
        return float((2.0 * log_w.logsumexp(1) - (2.0 * log_w).logsumexp(1)).exp().mean()) / log_ratio.shape[1]

    if share(1.0) >= _SHARE:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if share(beta + middle * (1.0 - beta)) >= _SHARE else (low, middle)
    return beta + max(low, 1e-12) * (1.0 - beta)


def _steps_left(before: float, beta: float) -> int:
    """How many temperatures are to come, about: beta grows by factors that change little."""
    growth = beta / before if before else 2.0
    return math.ceil(-math.log(beta) / math.log(max(growth, 1.05)))


def resampled(weights: Tensor, mover: Mover, step: int) -> Tensor:
    """Indices of particles in proportion to log weights with shape (islands, particles), island by island."""
    particles = weights.shape[1]
    picks = [
        resample(mine, particles, tile_seed(mover.seed, _RESAMPLE_STREAM + step, island)) + island * particles
        for island, mine in enumerate(weights)
    ]
    return torch.cat(picks)
