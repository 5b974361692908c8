"""Hamiltonian Monte Carlo with many chains in one batch, which tune each other.

Step and length of trajectories come from all chains (`tuning`). The metric is the Fisher information, at the mode and
then where the chains are, or their covariance where they are many enough. For unimodal or high-dimensional posteriors:
chains do not travel between separate modes, and modes that were seen elsewhere are counted.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from nuppl.errors import InputError
from nuppl.inference.registry import resolved
from nuppl.language.density import Whitened
from nuppl.language.diagnosis import explain_no_density
from nuppl.language.precision import double_precision, seeded
from nuppl.language.program import Program
from nuppl.language.simulation import tile_seed
from nuppl.optimize.objective import Objective, whitened_objective
from nuppl.results.checkpoints import Checkpoints, State
from nuppl.results.draws import Draws, effective_size
from nuppl.sampling.guides import standard_normals
from nuppl.sampling.leapfrog import Move, Points, hamiltonian_move, points_at, refreshment
from nuppl.sampling.marginal import Marginal, linearisation
from nuppl.sampling.metric import (
    DenseMetric,
    LowRankMetric,
    Metric,
    from_particles,
    from_state,
    metric_state,
)
from nuppl.sampling.modes import main_mode
from nuppl.sampling.moves import Mover
from nuppl.sampling.recorder import Recorder
from nuppl.sampling.settings import Settings
from nuppl.sampling.structure import target_of
from nuppl.sampling.structured import adapted
from nuppl.sampling.target import Target, log_normal
from nuppl.sampling.temper import temper
from nuppl.sampling.tuning import MOST_LEAPS, Tuning
from nuppl.typing import Progress, silent

__all__ = ["hmc"]

_WIDER = 1.5
"""Chains start this much wider than the metric says, so that R-hat means something."""

_FEW, _PILOT, _LEAST_OVERLAP, _ISLANDS = 100, 512, 0.01, 4
"""Up to so many dimensions chains start from tempered particles, where fewer of a Gaussian's draws than this count."""

_ENOUGH = 10
"""Draws per coordinate that make a covariance."""

_BLOCK = 32
"""Draws that become sites together."""

_START_STREAM, _STREAM, _STREAM_COMPLETE, _STREAM_ACCEPT = (10 << 24, 11 << 24, 12 << 24, 13 << 24)
_TEMPER_STREAM = 14 << 24


class Sampler:
    """Chains, their metric and their tuning."""

    def __init__(self, target: Target, points: Points, metric: Metric, seed: int, missed: int) -> None:
        self.target, self.points, self.metric, self.seed, self.missed = target, points, metric, seed, missed
        self.tuning = Tuning(target.dim**-0.25)
        self.iterations = 0
        self.evaluations = 0

    def iterate(self, learn: bool) -> Move:
        """One trajectory of every chain."""
        noise, uniform, jitter = refreshment(self.points, self.seed, _STREAM + 2 * self.iterations)
        leaps = min(max(math.ceil(jitter * self.tuning.length / self.tuning.step), 1), MOST_LEAPS)
        move = hamiltonian_move(self.target, self.points, self.metric, self.tuning.step, leaps, noise, uniform, 1.0)
        if learn:
            before, after = (self.metric.standard(x) for x in (self.points.x, move.proposed))
            self.tuning.update(before, move, after, jitter)
        self.points = move.points
        self.iterations += 1
        self.evaluations += len(noise) * leaps
        return move

    def warm_up(self, steps: int, store: Checkpoints, progress: Progress) -> None:
        """Adapt; the metric follows the chains to where they are, three times before half the steps are done."""
        before = store.load("warm-up") or {"seen": []}
        seen: list[Tensor] = before["seen"]
        if "sampler" in before:
            self.restore(before["sampler"])
        every = max(steps // 6, 1)
        for step in range(self.iterations, steps):
            self.iterate(learn=True)
            if step % every >= every // 3:
                seen.append(self.points.x)
            if step % every == every - 1 and step < steps // 2 and seen:
                self._follow(torch.cat(seen))
                seen = []
            progress(step + 1, steps, "warm-up")
            if store.due():
                store.save("warm-up", {"sampler": self.state(), "seen": seen})
        self.tuning.settle()

    def _follow(self, x: Tensor) -> None:
        """The metric of points with shape (n, d): their covariance, or where they are too few for one the Fisher
        information at their mean, which may be far from the mode's."""
        if len(x) >= _ENOUGH * self.target.dim:
            self.metric = from_particles(x)
        elif isinstance(self.metric, LowRankMetric):
            self.metric = _fisher(whitened_objective(self.target.whitened), x.mean(0))
        else:
            return
        self.tuning = Tuning(self.target.dim**-0.25)

    def state(self) -> State:
        """For a checkpoint."""
        return {
            "points": self.points.state(),
            "metric": metric_state(self.metric),
            "tuning": vars(self.tuning),
            "iterations": self.iterations,
            "evaluations": self.evaluations,
            "failures": self.target.whitened.failures,
        }

    def restore(self, state: State) -> None:
        """Go on from a state."""
        self.points, self.metric = Points(**state["points"]), from_state(state["metric"])
        self.tuning = Tuning(**state["tuning"])
        self.iterations, self.evaluations = state["iterations"], state["evaluations"]
        self.target.whitened.failures = state["failures"]


@double_precision()
def hmc(program: Program, settings: Settings, progress: Progress = silent) -> Draws:
    """Draws of many chains.

    Raises:
        InputError: the program has no density, or none that is finite where chains could start.
    """
    settings = resolved("hmc", settings)
    whitened = Whitened(program)
    store = Checkpoints(settings.scratch)
    target = target_of(whitened, settings, progress)
    sampler = _begin(target, settings, progress)
    kept = store.load("draws")
    if kept is None:
        sampler.warm_up(settings.warmup, store, progress)
        chain = Chain(sampler)
        kept = {"acceptance": 0.0, "recorder": None}
    else:
        sampler.restore(kept["sampler"])
        chain = Chain(sampler, kept["u"], kept["log_w"])
    recorder = Recorder(whitened, settings.chains, settings.draws, settings, kept["recorder"])
    acceptance = kept["acceptance"]
    while recorder.missing:
        block = [chain.step() for _ in range(min(_BLOCK, recorder.missing))]
        stats = {name: torch.stack([draw.stats[name] for draw in block], dim=1) for name in block[0].stats}
        recorder.append(torch.stack([draw.u for draw in block], dim=1), stats)
        acceptance += float(stats["acceptance_rate"].mean(0).sum()) / settings.draws
        progress(settings.draws - recorder.missing, settings.draws, "draws")
        if store.due() or not recorder.missing:
            numbers = {"u": chain.u, "log_w": chain.log_w, "acceptance": acceptance}
            store.save("draws", {"sampler": sampler.state(), "recorder": recorder.state(), **numbers})
    return recorder.finish(_said(sampler, acceptance), "hmc")


class Draw(NamedTuple):
    """One draw of every chain: latents u with shape (n, D), and numbers of each, {name: (n,)}."""

    u: Tensor
    stats: dict[str, Tensor]


class Chain:
    """Chains of all latents on top of a sampler of the outer ones.

    What was integrated is drawn back at every iteration, and the pair accepted by its weight, min(1, w' / w): the chain
    is exact however rough the marginal (Christen and Fox, J. Comput. Graph. Stat. 14 (2005) 795). Without a marginal
    all weights are equal.
    """

    def __init__(self, sampler: Sampler, u: Tensor | None = None, log_w: Tensor | None = None) -> None:
        self.sampler = sampler
        self.u, self.log_w = self._complete() if u is None or log_w is None else (u, log_w)

    def step(self) -> Draw:
        """One draw of every chain."""
        before = self.sampler.points
        move = self.sampler.iterate(learn=False)
        u, log_w = self._complete()
        with seeded(tile_seed(self.sampler.seed, _STREAM_ACCEPT + self.sampler.iterations)):
            taken = torch.rand(len(u)).log() < log_w - self.log_w
        self.u, self.log_w = torch.where(taken[:, None], u, self.u), torch.where(taken, log_w, self.log_w)
        self.sampler.points = self.sampler.points.where(taken, before)
        lp = self.sampler.points.log_p + self.log_w
        return Draw(self.u, {"lp": lp, "acceptance_rate": move.acceptance, "diverging": move.diverging.double()})

    def _complete(self) -> tuple[Tensor, Tensor]:
        points = self.sampler.points
        stream = _STREAM_COMPLETE + self.sampler.iterations
        return self.sampler.target.complete(points.x, points.log_p, self.sampler.seed, stream)


def _begin(target: Target, settings: Settings, progress: Progress) -> Sampler:
    """Chains at their first points, with the metric that is known before."""
    x, metric, missed = _guess(target, settings, progress)
    points = points_at(target, x)
    usable = points.log_p.isfinite()
    if not bool(usable.any()):
        raise InputError(explain_no_density(target.whitened.program))
    # A chain that would start where there is no density starts where another does.
    index, places = torch.arange(len(x)), usable.nonzero()[:, 0]
    index[~usable] = places[torch.arange(int((~usable).sum())) % len(places)]
    return Sampler(target, points.take(index), metric, settings.seed, missed)


def _guess(target: Target, settings: Settings, progress: Progress) -> tuple[Tensor, Metric, int]:
    """Points wider than the posterior, as far as it is known, and how many modes they leave out.

    Where no Gaussian is near the posterior, points tempered from the prior.
    """
    noise = standard_normals(settings.chains, target.dim, settings.seed, _START_STREAM)
    if isinstance(target, Marginal):
        gaussian = adapted(target, settings.seed)
        return gaussian.loc + _WIDER * noise @ gaussian.scale_tril.T, DenseMetric(gaussian.scale_tril), target.missed
    objective = whitened_objective(target.whitened)
    try:
        loc, missed = main_mode(target.whitened, objective, settings.scratch, progress)
        metric = _fisher(objective, loc)
    except InputError:
        return _tempered(target, settings, progress)
    if target.dim <= _FEW and _overlap(target, loc, metric, settings.seed) < _LEAST_OVERLAP:
        return _tempered(target, settings, progress)
    return loc + _WIDER * metric.spread(noise), metric, missed


def _fisher(objective: Objective, point: Tensor) -> LowRankMetric:
    _, variance, jacobian = objective.jacobian(point)
    return LowRankMetric.from_jacobian(jacobian / variance.clamp(min=1e-12).sqrt()[:, None])


def _overlap(target: Target, loc: Tensor, metric: Metric, seed: int) -> float:
    """The effective share of a Gaussian's draws under the target."""
    noise = standard_normals(_PILOT, target.dim, seed, _START_STREAM + 1)
    return effective_size(target.log_prob(loc + metric.spread(noise)) - log_normal(noise)) / _PILOT


def _tempered(target: Target, settings: Settings, progress: Progress) -> tuple[Tensor, Metric, int]:
    mover = Mover(target, settings.seed, _TEMPER_STREAM, target.dim**-0.25)
    particles = -(-max(settings.chains, _PILOT) // _ISLANDS)
    x = temper(target, _ISLANDS, particles, mover, Checkpoints(settings.scratch), progress).points.x
    return x[torch.linspace(0, len(x) - 1, settings.chains).long()], from_particles(x), 0


def _said(sampler: Sampler, acceptance: float) -> dict[str, float | int | str]:
    """What the chains cost, and how well they moved."""
    said: dict[str, float | int | str] = {
        "step_size": sampler.tuning.step,
        "trajectory_length": sampler.tuning.length,
        "acceptance_rate": acceptance,
        "evaluations": sampler.evaluations,
        "modes_missed": sampler.missed,
    }
    return said | linearisation(sampler.target)
