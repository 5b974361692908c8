"""Sequential Monte Carlo: particles tempered from the prior to the posterior (`temper`), with the evidence on the way.

Chains are islands. At beta = 1 every further round of moves gives another set of draws.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nuppl.inference.registry import resolved
from nuppl.language.density import Whitened
from nuppl.language.precision import double_precision
from nuppl.language.program import Program
from nuppl.results.checkpoints import Checkpoints
from nuppl.results.draws import Draws, effective_size, pareto_k
from nuppl.sampling.marginal import linearisation
from nuppl.sampling.metric import from_particles
from nuppl.sampling.moves import Mover
from nuppl.sampling.recorder import Recorder
from nuppl.sampling.settings import Settings
from nuppl.sampling.structure import eased, target_of
from nuppl.sampling.target import Target
from nuppl.sampling.temper import Islands, population_state, resampled, restored, temper
from nuppl.typing import Progress, silent

__all__ = ["sampled", "smc"]

_MOVE_STREAM, _COMPLETE_STREAM = 4 << 24, 6 << 24
_COMPLETED = 1 << 20
"""Resampling of completed draws has numbers above those of temperatures."""


@double_precision()
def smc(program: Program, settings: Settings, progress: Progress = silent) -> Draws:
    """Draws of the posterior, an island per chain.

    Raises:
        InputError: the program has no density, or none that is finite at draws of the prior.
    """
    settings = resolved("smc", settings)
    whitened = Whitened(program)
    recorder, said = sampled(eased(target_of(whitened, settings, progress)), settings, progress)
    return recorder.finish(said, "smc")


def sampled(target: Target, settings: Settings, progress: Progress) -> tuple[Recorder, dict[str, float | int | str]]:
    """The draws of a target, recorded, and what is known of them.

    Arguments:
        target: its own draws, completed and weighted, become draws of its `whitened` posterior.
    """
    whitened, islands = target.whitened, settings.chains
    mover = Mover(target, settings.seed, _MOVE_STREAM, step=target.dim**-0.25)
    store = Checkpoints(settings.scratch)
    kept = store.load("draws")
    if kept is None:
        population = temper(target, islands, settings.particles, mover, store, progress)
        kept = {"log_w": [], "recorder": None}
    else:
        population = restored(kept, mover)
    recorder = Recorder(whitened, islands, settings.draws, settings, kept["recorder"])
    log_w: list[Tensor] = kept["log_w"]
    while recorder.missing:
        if log_w:
            population.points = mover.move(
                population.points, from_particles(population.points.x), 1.0, population.groups
            )
        log_w.append(_record(population, target, recorder, mover, len(log_w)))
        progress(settings.draws - recorder.missing, settings.draws, "draws")
        if store.due() or not recorder.missing:
            store.save("draws", {**population_state(population, mover), "log_w": log_w, "recorder": recorder.state()})
    return recorder, _said(population, torch.cat(log_w, dim=1), mover)


def _record(population: Islands, target: Target, recorder: Recorder, mover: Mover, round_: int) -> Tensor:
    """Complete the particles to draws of all latents; their log weights with shape (islands, particles)."""
    u, flat = target.complete(population.points.x, population.points.log_p, mover.seed, _COMPLETE_STREAM + round_)
    log_w, lp = population.by_island(flat), population.points.log_p + flat
    index = torch.arange(len(u))
    if bool((flat != 0.0).any()):
        index = resampled(log_w, mover, _COMPLETED + round_)
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
