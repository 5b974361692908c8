"""A network for one data set: round by round its simulations are made only where the posterior can be.

    p_r(u) ~ p(u) 1[log q_{r-1}(u | data) > tau],   P(log q < tau) = 1e-4 under q_{r-1}

The prior cut at the edge of the last guide's highest-density region is flat in prior units where the posterior is, so
each round trains with the plain loss and needs no correction: truncated sequential neural posterior estimation,
Deistler, Goncalves, Macke, arXiv:2210.04815. Of earlier rounds those simulations serve that lie inside the region. What
was learned serves this data set only.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nuppl.errors import InputError
from nuppl.language.density import Whitened
from nuppl.language.precision import seeded
from nuppl.language.program import Program
from nuppl.language.simulation import tile_seed
from nuppl.learning.amortised import Amortised, Problem
from nuppl.learning.neural_guide import NeuralGuide
from nuppl.learning.proposing import simulated_at
from nuppl.learning.simulated import Simulated, flat_data, simulated
from nuppl.learning.surrogate_draws import prior_correction
from nuppl.neural.seeds import derived
from nuppl.results.checkpoints import Checkpoints, State
from nuppl.sampling.guides import standard_normals
from nuppl.sampling.settings import Settings
from nuppl.sampling.target import log_normal
from nuppl.typing import Progress

__all__ = ["Region", "sequential"]

_LEFT_OUT, _DRAWS = 1e-4, 20_000
"""Probability outside the region, and draws that say where it ends."""

_WIDER = 0.05
"""Share of its width by which the box around these draws is larger."""

_TRIES, _LEAST = 8_192, 0.02
"""Points of the box in a batch; where fewer than this share lie in the region, draws of the guide are resampled."""

_CANDIDATES = 64
"""Draws of the guide for each that is resampled."""

_EDGE, _BOX, _RESAMPLED = 47 << 24, 48 << 24, 49 << 24

_PROPOSALS = 48
"""The stream of seeds of simulations."""


@dataclass(frozen=True, eq=False)
class Region:
    """Where a guide has all of its probability but a ten-thousandth.

    Attributes:
        guide: without tails.
        threshold: of its log density.
        lower, upper: of a box around it, as quantiles of the standard normal, each with shape (d,).
    """

    guide: NeuralGuide
    threshold: float
    lower: Tensor
    upper: Tensor

    @classmethod
    def of(cls, guide: NeuralGuide, seed: int) -> Region:
        """The region of a guide.

        Raises:
            InputError: a guide whose draws are not finite.
        """
        u, log_q = guide.bare(_DRAWS, seed, _EDGE)
        good = u.isfinite().all(1) & log_q.isfinite()
        if not bool(good.any()):
            raise InputError("the network gave no finite draw after a round: simulate more, or in fewer rounds")
        u, log_q = u[good], log_q[good]
        quantiles = torch.special.ndtr(u)
        lower, upper = quantiles.amin(0), quantiles.amax(0)
        margin = _WIDER * (upper - lower)
        threshold = float(log_q.sort().values[int(_LEFT_OUT * len(log_q))])
        return cls(guide, threshold, (lower - margin).clamp(min=0.0), (upper + margin).clamp(max=1.0))

    def contains(self, u: Tensor) -> Tensor:
        """Which of u with shape (n, d) lie inside, shape (n,)."""
        quantiles = torch.special.ndtr(u)
        inside: Tensor = ((quantiles >= self.lower) & (quantiles <= self.upper)).all(1)
        inside[inside.clone()] = self.guide.log_prob(u[inside]) >= self.threshold
        return inside

    def prior(self, n: int, program: Program, columns: Tensor, seed: int) -> Tensor:
        """n draws of the prior inside, with shape (n, d): by rejection, or resampled where most would be rejected.

        Arguments:
            columns: which whitened latents the guide is of.
        """
        correction = prior_correction(program, columns)
        exact = not bool(correction(standard_normals(1, len(columns), seed, _BOX)).any())
        found, tried = [torch.zeros(0, len(columns))], 0
        while exact and sum(map(len, found)) < n:
            some = self._boxed(seed, tried)
            found.append(some[self.contains(some)])
            tried += 1
            if sum(map(len, found)) < _LEAST * _TRIES * tried:
                break
        drawn = torch.cat(found)[:n]
        missing = n - len(drawn)
        if not missing:
            return drawn
        u, log_q = self.guide.bare(_CANDIDATES * missing, seed, _RESAMPLED)
        log_w = torch.where(log_q >= self.threshold, log_normal(u) + correction(u) - log_q, -torch.inf)
        with seeded(tile_seed(seed, _RESAMPLED)):
            chosen = torch.multinomial((log_w - log_w.max()).exp(), missing)
        return torch.cat([drawn, u[chosen]])

    def _boxed(self, seed: int, number: int) -> Tensor:
        """Draws of the standard normal inside the box."""
        uniform = torch.special.ndtr(standard_normals(_TRIES, len(self.lower), seed, _BOX + number))
        drawn: Tensor = torch.special.ndtri(self.lower + (self.upper - self.lower) * uniform)
        return drawn


def sequential(
    program: Program, whitened: Whitened | None, name: str, settings: Settings, progress: Progress
) -> Amortised:
    """Train an estimator in rounds; the arguments are those of `amortised.trained`.

    Raises:
        InputError: all simulations of a round failed, or fewer of them than a batch.
    """
    problem = Problem.of(program, whitened, name, settings, progress)
    first, each = settings.in_rounds
    store = _store(settings, 0)
    sims = simulated(program, first, settings.seed, problem.columns, store, progress)
    learned, made, failed = problem.learned(sims, store, progress), len(sims.u), sims.failed
    for number in range(1, settings.rounds):
        store = _store(settings, number)
        region = Region.of(learned.outer(program), derived(settings.seed, _PROPOSALS, number))
        new = _simulated(problem, region, each, number, store, progress)
        made, failed = made + len(new.u), failed + new.failed
        sims = _together(sims, new, region)
        learned = problem.learned(sims, store, progress)
    return replace(learned, simulations=made, failed=failed, observed=flat_data(program))


def _store(settings: Settings, number: int) -> Checkpoints:
    """Every round has its own checkpoints."""
    return Checkpoints(settings.scratch and settings.scratch / f"round-{number}")


def _simulated(
    problem: Problem, region: Region, n: int, number: int, store: Checkpoints, progress: Progress
) -> Simulated:
    def made() -> State:
        seed = derived(problem.settings.seed, _PROPOSALS, number)
        u = region.prior(n, problem.program, problem.columns, seed)
        drawn = simulated_at(problem.program, u, problem.columns, seed, progress)
        return {"u": drawn.u, "data": drawn.data, "failed": drawn.failed, "reasons": dict(drawn.reasons)}

    kept = store.once("simulations", made)
    return Simulated(kept["u"], kept["data"], kept["failed"], kept["reasons"])


def _together(sims: Simulated, new: Simulated, region: Region) -> Simulated:
    """All simulations inside the region, those of earlier rounds among them."""
    inside = region.contains(sims.u.double())
    reasons = Counter(sims.reasons) + Counter(new.reasons)
    u, data = torch.cat([sims.u[inside], new.u]), torch.cat([sims.data[inside], new.data])
    return Simulated(u, data, sims.failed + new.failed, dict(reasons))
