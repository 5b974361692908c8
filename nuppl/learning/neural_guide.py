"""A trained posterior as a guide: what it says of one data set, moved onto the posterior, with tails.

    q(u) = (1 - a) q_net(F^-1 (u - m) | data) / |F| + a t(u)

t is a Student distribution around the network's own draws: weights stay bounded (defensive mixture: Hesterberg,
Technometrics 37 (1995) 185). m and F begin as the anchor's; where a density is at hand a few rounds of weights move
mean and covariance of the draws onto those of the posterior, as `adapt` does with a Gaussian. The shape stays the
network's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from nuppl.errors import InputError
from nuppl.language.simulation import tile_seed
from nuppl.learning.reading import Anchor
from nuppl.results.draws import effective_size
from nuppl.sampling.adapt import weighted_moments
from nuppl.sampling.guides import TAIL, TAILED, standard_normals
from nuppl.sampling.metric import from_particles
from nuppl.sampling.mixture import StudentMixture
from nuppl.typing import Density

__all__ = ["NeuralGuide", "Posterior", "context"]

_SHARE, _WIDER = 0.05, 1.3
"""Share of the tails, and how much wider than the network's draws they are."""

_PILOT, _ROUNDS, _ENOUGH = 1_024, 4, 0.5
"""Draws of a round that moves the guide; rounds end when this share of them is effective."""

_STREAM, _PILOT_STREAM, _TAIL_STREAM, _ORDER_STREAM = (number << 24 for number in (22, 23, 24, 25))


class Posterior(Protocol):
    """A trained guide of the neural floor, or an ensemble of them."""

    def sample(self, x: Tensor, n: int, generator: torch.Generator) -> Tensor:
        """Draws with shape (n, d) given data with shape (C,)."""
        ...

    def sample_with_log_prob(self, x: Tensor, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The same draws and their log density with shape (n,)."""
        ...

    def log_prob(self, theta: Tensor, x: Tensor) -> Tensor:
        """The log density with shape (n,) at points with shape (n, d)."""
        ...


@dataclass(frozen=True, eq=False)
class NeuralGuide:
    """The posterior of some whitened latents given one data set; a `Guide`.

    Attributes:
        network: of z, given what it reads.
        context: what it reads of the data, with shape (C,).
        loc, factor: m with shape (d,) and F with shape (d, d).
        tails: t; None for none.
        missed: modes that were seen and that it does not cover.
    """

    network: Posterior
    context: Tensor
    loc: Tensor
    factor: Tensor
    tails: StudentMixture | None = None
    missed: int = 0

    @classmethod
    def given(cls, network: Posterior, anchor: Anchor, estimate: Tensor, data: Tensor) -> NeuralGuide:
        """For one data set, without tails.

        Arguments:
            estimate: read from the data, with shape (1, k).
            data: what else the network sees, with shape (1, M) or (1, 0).
        """
        mean, log_scale = anchor(estimate)
        return cls(network, context(mean, estimate, data)[0], mean[0], log_scale[0].exp().diag())

    def fitted(self, density: Density, seed: int) -> NeuralGuide:
        """Moved onto a posterior as far as weights tell, with tails around it."""
        z = self._answers(seed)
        guide = self.tailed(z)
        for number in range(_ROUNDS):
            u, log_q = guide.sample(_PILOT, seed, _PILOT_STREAM + number)
            log_w = density(u) - log_q
            log_w = torch.where(log_w.isnan(), -torch.inf, log_w)
            if not bool((log_w > -torch.inf).any()):
                break
            guide = guide._moved(u, log_w, z).tailed(z)
            if effective_size(log_w) > _ENOUGH * _PILOT:
                break
        return guide

    def tailed(self, z: Tensor) -> NeuralGuide:
        """With one Student distribution around it, wider than answers z of the network, with shape (n, d)."""
        draws = self._placed(z)
        heavy = (TAIL - 2) / TAIL if draws.shape[1] <= TAILED else 1.0
        factor = _WIDER * math.sqrt(heavy) * from_particles(draws).factor
        return replace(self, tails=StudentMixture(draws.mean(0)[None], factor[None], torch.zeros(1)))

    def sample(self, n: int, seed: int, stream: int) -> tuple[Tensor, Tensor]:
        """n draws and their log density; a fixed share of them come from the tails."""
        if self.tails is None:
            return self.bare(n, seed, _STREAM + stream)
        far = max(1, round(_SHARE * n))
        u, log_net = self.bare(n - far, seed, _STREAM + stream)
        v, log_tail = self.tails.sample(far, seed, _TAIL_STREAM + stream)
        log_net = torch.cat([log_net, self.log_prob(v)])
        log_tail = torch.cat([self.tails.log_prob(u), log_tail])
        log_q = torch.logaddexp(math.log1p(-far / n) + log_net, math.log(far / n) + log_tail)
        order = standard_normals(n, 1, seed, _ORDER_STREAM + stream)[:, 0].argsort()
        return _possible(torch.cat([u, v])[order], log_q[order])

    @torch.no_grad()
    def bare(self, n: int, seed: int, stream: int) -> tuple[Tensor, Tensor]:
        """Draws of the network alone, and their log density."""
        generator = torch.Generator().manual_seed(tile_seed(seed, stream))
        z, log_q = self.network.sample_with_log_prob(self.context, n, generator)
        return self._placed(z.double()), log_q.double() - self._log_volume

    @torch.no_grad()
    def log_prob(self, u: Tensor) -> Tensor:
        """The log density of the network alone with shape (n,), at u with shape (n, d)."""
        z = torch.linalg.solve(self.factor, (u - self.loc).T).T
        log_q = self.network.log_prob(z, self.context).double() - self._log_volume
        return torch.where(log_q.isnan(), -torch.inf, log_q)

    @property
    def _log_volume(self) -> Tensor:
        log_volume: Tensor = torch.linalg.slogdet(self.factor).logabsdet
        return log_volume

    def _moved(self, u: Tensor, log_weight: Tensor, z: Tensor) -> NeuralGuide:
        """With the mean and covariance that weighted draws have."""
        mean, factor = weighted_moments(u, log_weight)
        mine = self._placed(z)
        turn = factor @ torch.linalg.inv(from_particles(mine).factor)
        return replace(self, loc=mean + turn @ (self.loc - mine.mean(0)), factor=turn @ self.factor)

    def _placed(self, z: Tensor) -> Tensor:
        return self.loc + z @ self.factor.T

    def draws(self, seed: int) -> Tensor:
        """A few finite draws of the network alone, with shape (n, d)."""
        return self._placed(self._answers(seed))

    @torch.no_grad()
    def _answers(self, seed: int) -> Tensor:
        """A few of the network's own draws z that are finite."""
        generator = torch.Generator().manual_seed(tile_seed(seed, _PILOT_STREAM))
        z = self.network.sample(self.context, _PILOT, generator).double()
        z = z[z.isfinite().all(1)]
        if len(z) < _PILOT // 2:
            raise InputError(
                f"the trained network gave {_PILOT - len(z)} of {_PILOT} draws that are not finite: expected a "
                "network that has learned something; ask for more simulations, or look at the data with nuppl check"
            )
        return z


def _possible(u: Tensor, log_q: Tensor) -> tuple[Tensor, Tensor]:
    """Draws that are not finite get no weight: they stand in the middle with an infinite density."""
    good = u.isfinite().all(1) & log_q.isfinite()
    return torch.where(good[:, None], u, 0.0), torch.where(good, log_q, torch.inf)


def context(mean: Tensor, estimate: Tensor, data: Tensor) -> Tensor:
    """What a network reads, side by side: shape (n, C)."""
    return torch.cat([mean, estimate, data], 1)
