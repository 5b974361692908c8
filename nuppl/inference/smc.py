"""Sequential Monte Carlo: particles tempered from the prior to the posterior, with the evidence on the way.

    gamma_beta(x) = N(x; 0, 1)^(1 - beta) p(x, data)^beta,   beta from 0 to 1,
    Z = product over steps of the mean of (p / N)^(beta' - beta)

(Del Moral, Doucet and Jasra, J. R. Stat. Soc. B 68 (2006) 411). The next beta keeps a fixed share of effective
particles; the metric of the moves is the covariance of the particles. Chains are islands: populations that resample
among themselves only, so that their spread is the error of the evidence and R-hat means something. At beta = 1 every
further round of moves gives another set of draws.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nuppl.errors import InputError
from nuppl.inference.guides import standard_normals
from nuppl.inference.importance import resample
from nuppl.inference.leapfrog import Points
from nuppl.inference.marginal import linearisation
from nuppl.inference.metric import from_particles
from nuppl.inference.moves import Mover
from nuppl.inference.recorder import Recorder
from nuppl.inference.registry import resolved
from nuppl.inference.settings import Settings
from nuppl.inference.structure import eased, target_of
from nuppl.inference.target import Target, log_normal
from nuppl.language.density import Whitened
from nuppl.language.diagnosis import explain_no_density
from nuppl.language.precision import double_precision
from nuppl.language.program import Program
from nuppl.language.simulation import tile_seed
from nuppl.results.draws import Draws, effective_size, pareto_k
from nuppl.typing import Progress, silent

__all__ = ["Islands", "smc", "temper"]

_SHARE = 0.7
"""Effective share of the particles at each step in beta."""

_BATCHES = 32
"""Batches of prior draws in which an island looks for a finite density."""

_PRIOR_STREAM, _MOVE_STREAM, _RESAMPLE_STREAM, _COMPLETE_STREAM = (3 << 24, 4 << 24, 5 << 24, 6 << 24)
_COMPLETED = 1 << 20
"""Resampling of completed draws has numbers above those of temperatures."""


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


def temper(target: Target, islands: int, particles: int, mover: Mover, progress: Progress = silent) -> Islands:
    """Particles at beta = 1.

    Raises:
        InputError: no finite density among the draws of the prior.
    """
    population = _from_prior(target, islands, particles, mover)
    while population.beta < 1.0:
        log_ratio = population.by_island(population.points.log_p - log_normal(population.points.x))
        beta = _next_beta(log_ratio, population.beta)
        weights = (beta - population.beta) * log_ratio
        population.log_z = population.log_z + weights.logsumexp(1) - math.log(particles)
        metric = from_particles(population.points.x, weights.flatten())
        population.points = population.points.take(_resampled(weights, mover, population.steps))
        population.beta, population.steps = beta, population.steps + 1
        population.points = mover.move(population.points, metric, beta, population.groups)
        progress(int(1000 * beta), 1000, f"temperature {population.steps}")
    return population


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


def _resampled(weights: Tensor, mover: Mover, step: int) -> Tensor:
    """Indices of particles in proportion to log weights with shape (islands, particles), island by island."""
    particles = weights.shape[1]
    picks = [
        resample(mine, particles, tile_seed(mover.seed, _RESAMPLE_STREAM + step, island)) + island * particles
        for island, mine in enumerate(weights)
    ]
    return torch.cat(picks)


@double_precision()
def smc(program: Program, settings: Settings, progress: Progress = silent) -> Draws:
    """Draws of the posterior, an island per chain.

    Raises:
        InputError: the program has no density, or none that is finite at draws of the prior.
    """
    settings = resolved("smc", settings)
    whitened = Whitened(program)
    target = eased(target_of(whitened, settings, progress))
    islands = settings.chains
    mover = Mover(target, settings.seed, _MOVE_STREAM, step=target.dim**-0.25)
    population = temper(target, islands, settings.particles, mover, progress)
    recorder = Recorder(whitened, islands, settings.draws, settings)
    log_w: list[Tensor] = []
    while recorder.missing:
        if log_w:
            population.points = mover.move(
                population.points, from_particles(population.points.x), 1.0, population.groups
            )
        log_w.append(_record(population, target, recorder, mover, len(log_w)))
        progress(settings.draws - recorder.missing, settings.draws, "draws")
    return recorder.finish(_said(population, torch.cat(log_w, dim=1), mover), "smc")


def _record(population: Islands, target: Target, recorder: Recorder, mover: Mover, round_: int) -> Tensor:
    """Complete the particles to draws of all latents; their log weights with shape (islands, particles)."""
    u, flat = target.complete(population.points.x, population.points.log_p, mover.seed, _COMPLETE_STREAM + round_)
    log_w, lp = population.by_island(flat), population.points.log_p + flat
    index = torch.arange(len(u))
    if bool((flat != 0.0).any()):
        index = _resampled(log_w, mover, _COMPLETED + round_)
    recorder.append(population.by_island(u[index]), {"lp": population.by_island(lp[index])})
    return log_w


def _said(population: Islands, log_w: Tensor, mover: Mover) -> dict[str, float | int | str]:
    """Evidence with the spread of the islands as its error, and what the moves cost."""
    log_z = population.log_z + log_w.logsumexp(1) - math.log(log_w.shape[1])
    ratio = (log_z - log_z.max()).exp()
    said: dict[str, float | int | str] = {
        "log_evidence": float(log_z.logsumexp(0)) - math.log(len(log_z)),
        "log_evidence_error": float(ratio.std() / ratio.mean()) / math.sqrt(len(log_z)),
        "islands": len(log_z),
        "temperatures": population.steps,
        "evaluations": mover.evaluations,
        "acceptance_rate": mover.acceptance,
    }
    if bool((log_w != 0.0).any()):
        said |= {"efficiency": effective_size(log_w.flatten()) / log_w.numel(), "pareto_k": pareto_k(log_w.flatten())}
    return said | linearisation(mover.target)
