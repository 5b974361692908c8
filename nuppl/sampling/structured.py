"""The guide of importance sampling: Laplace's Gaussian where that is enough, and what structure offers beyond it.

    q(u) = q(x) q(y | x)

x are the outer latents, with a Student distribution that has adapted to their marginal; y the near-linear ones, drawn
back from it in closed form (`marginal`). Without structure x is everything.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nuppl.language.density import Whitened
from nuppl.optimize.objective import whitened_objective
from nuppl.results.checkpoints import Checkpoints
from nuppl.sampling.adapt import adapt
from nuppl.sampling.conditional import Conditional
from nuppl.sampling.guides import TAILED, GaussianGuide, Guide, TailedGuide
from nuppl.sampling.marginal import Marginal
from nuppl.sampling.metric import from_particles
from nuppl.sampling.mixture import StudentMixture, fit_mixture
from nuppl.sampling.modes import laplace_guides
from nuppl.sampling.moves import Mover
from nuppl.sampling.settings import Settings
from nuppl.sampling.structure import eased, target_of
from nuppl.sampling.target import Direct, Recast, Target
from nuppl.sampling.temper import population_state, restored, temper
from nuppl.typing import Progress, silent

__all__ = ["MarginalGuide", "adapted", "structured_guide", "tailed", "tempered_guide"]

_STREAM, _INNER, _MOVE_STREAM = 8 << 24, 9 << 24, 15 << 24

_ISLANDS, _ROUNDS = 16, 5
"""Populations that are tempered for a guide, and rounds of moves from which it learns."""


@dataclass(frozen=True)
class MarginalGuide:
    """A guide for the outer latents, the inner ones drawn in closed form or as was learned from it."""

    outer: Guide
    marginal: Marginal | Conditional
    missed: int = 0

    def sample(self, n: int, seed: int, stream: int) -> tuple[Tensor, Tensor]:
        """n draws of all latents and their log density."""
        x, log_q = self.outer.sample(n, seed, stream)
        u, log_inner = self.marginal.draw(x, seed, _INNER + stream)
        return u, log_q + log_inner


def structured_guide(whitened: Whitened, settings: Settings, progress: Progress = silent) -> Guide:
    """The best guide that needs no training."""
    target = target_of(whitened, settings, progress)
    if isinstance(target, Marginal) and target.missed and target.dim <= TAILED:
        return _tempered(target, settings, progress)
    if isinstance(target, Marginal):
        return MarginalGuide(TailedGuide.everywhere(adapted(target, settings.seed)), target, target.missed)
    gaussians = laplace_guides(whitened, settings.scratch, progress)
    if len(gaussians) > 1:
        return mixture(Direct(whitened), gaussians)
    if whitened.dim > TAILED:
        return tailed(whitened, gaussians[0])
    return TailedGuide.everywhere(adapt(Direct(whitened).log_prob, gaussians[0], settings.seed, _STREAM))


def tempered_guide(whitened: Whitened, settings: Settings, progress: Progress = silent) -> Guide:
    """A mixture that stands where particles do tempered from the prior; in few dimensions it covers all modes."""
    return _tempered(target_of(whitened, settings, progress), settings, progress)


def _tempered(target: Target, settings: Settings, progress: Progress) -> Guide:
    x = _particles(eased(target), settings, progress)
    guide = fit_mixture(x)
    return MarginalGuide(guide, target) if isinstance(target, Marginal) else guide


def _particles(target: Target, settings: Settings, progress: Progress) -> Tensor:
    """Rounds of particles at beta = 1, one after the other, with shape (n, d)."""
    store = Checkpoints(settings.scratch)
    mover = Mover(target, settings.seed, _MOVE_STREAM, target.dim**-0.25)
    kept = store.load("rounds")
    if kept is None:
        population = temper(target, _ISLANDS, settings.particles, mover, store, progress)
        rounds = [population.points.x]
    else:
        population, rounds = restored(kept, mover), kept["rounds"]
    while len(rounds) < _ROUNDS:
        metric = from_particles(population.points.x)
        population.points = mover.move(population.points, metric, 1.0, population.groups)
        rounds.append(population.points.x)
        progress(len(rounds), _ROUNDS, "rounds")
        store.save("rounds", {**population_state(population, mover), "rounds": rounds})
    x = torch.cat(rounds)
    return target.original(x) if isinstance(target, Recast) else x


def mixture(target: Target, gaussians: list[GaussianGuide]) -> StudentMixture:
    """All modes by their Laplace evidence; none has a share below a tenth of the others' mean, which tails may need."""
    loc = torch.stack([gaussian.loc for gaussian in gaussians])
    factor = torch.stack([gaussian.scale_tril for gaussian in gaussians])
    log_z = target.log_prob(loc) + factor.diagonal(dim1=1, dim2=2).log().sum(1)
    share = (log_z - log_z.logsumexp(0)).exp().clamp(min=0.1 / len(gaussians))
    return StudentMixture(loc, factor, (share / share.sum()).log())


def adapted(marginal: Marginal, seed: int) -> GaussianGuide:
    """The Gaussian of the outer latents: from the Fisher information at the reference, moved onto the marginal."""
    precision = whitened_objective(marginal.whitened).curvature(marginal.loc)
    covariance = torch.linalg.inv(precision)[marginal.outer][:, marginal.outer]
    start = GaussianGuide(marginal.loc[marginal.outer], torch.linalg.cholesky(covariance))
    return adapt(marginal.log_prob, start, seed, _STREAM)


def tailed(whitened: Whitened, gaussian: GaussianGuide) -> TailedGuide:
    """Tails in the interest."""
    return TailedGuide.around(gaussian, whitened.layout.columns(whitened.program.interest)[:TAILED])
