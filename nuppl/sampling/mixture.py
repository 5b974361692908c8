"""A mixture of Student distributions: one per mode, or one per neighbourhood of a population of particles."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nuppl.language.precision import seeded
from nuppl.sampling.guides import TAIL, TAILED, standard_normals
from nuppl.sampling.metric import from_particles

__all__ = ["StudentMixture", "fit_mixture"]

_MANY, _LIGHT = 128, 50
"""Most neighbourhoods; degrees of freedom where heavy tails in all of many coordinates would waste most draws."""

_PER_PART, _ROUNDS = 5, 10
"""Particles for each number of a neighbourhood's mean; rounds of clustering."""

_WIDER = 1.1
"""Neighbourhoods overlap a little more than their particles say."""

_DEFENSIVE = 0.1
"""The share of a part that spans all neighbourhoods (Hesterberg, Technometrics 37 (1995) 185)."""


@dataclass(frozen=True, eq=False)
class StudentMixture:
    """A normalised density with K parts; a guide.

    Attributes:
        loc: with shape (K, d).
        factor: lower triangular scales with shape (K, d, d).
        log_share: with shape (K,).
        missed: modes that were seen and that it does not cover.
    """

    loc: Tensor
    factor: Tensor
    log_share: Tensor
    missed: int = 0

    @property
    def freedom(self) -> int:
        """Degrees of freedom."""
        return TAIL if self.loc.shape[1] <= TAILED else _LIGHT

    def sample(self, n: int, seed: int, stream: int) -> tuple[Tensor, Tensor]:
        """n draws and their log density."""
        d, nu = self.loc.shape[1], self.freedom
        normal, extra, pick = standard_normals(n, d + nu + 1, seed, stream).split([d, nu, 1], dim=1)
        shares = self.log_share.exp().cumsum(0)
        part = torch.searchsorted(shares, torch.special.ndtr(pick[:, 0])).clamp(max=len(shares) - 1)
        t = normal / extra.square().mean(1, keepdim=True).sqrt()
        u = self.loc[part] + (self.factor[part] @ t[..., None])[..., 0]
        return u, self.log_prob(u)

    def log_prob(self, u: Tensor) -> Tensor:
        """Log density with shape (n,), of points with shape (n, d)."""
        d, nu = self.loc.shape[1], self.freedom
        centred = (u - self.loc[:, None]).mT
        square = torch.linalg.solve_triangular(self.factor, centred, upper=False).square().sum(1)
        volume = self.factor.diagonal(dim1=1, dim2=2).log().sum(1)
        norm = math.lgamma(0.5 * (nu + d)) - math.lgamma(0.5 * nu) - 0.5 * d * math.log(nu * math.pi)
        parts = (self.log_share - volume)[:, None] - 0.5 * (nu + d) * torch.log1p(square / nu)
        return norm + parts.logsumexp(0)


def fit_mixture(x: Tensor) -> StudentMixture:
    """Neighbourhoods of particles with shape (n, d), found by clustering in standard coordinates."""
    n, d = x.shape
    metric = from_particles(x)
    y = metric.standard(x - x.mean(0))
    count = max(1, min(_MANY, n // (_PER_PART * (d + 1))))
    nearest = _clusters(y, count)
    within = torch.cat([y[nearest == k] - y[nearest == k].mean(0) for k in range(count)])
    pooled = within.T @ within / n
    # One part is as wide as all particles: neighbourhoods alone would never look beyond where particles are.
    loc, factor, size = [torch.zeros(d)], [_WIDER * torch.eye(d)], [_DEFENSIVE * n]
    for k in range(count):
        mine = y[nearest == k]
        centred = mine - mine.mean(0)
        covariance = (centred.T @ centred + (d + 1) * pooled) / (len(mine) + d + 1)
        loc.append(mine.mean(0))
        factor.append(_WIDER * torch.linalg.cholesky(covariance + 1e-9 * torch.eye(d)))
        size.append((1.0 - _DEFENSIVE) * len(mine))
    shift = metric.spread(torch.stack(loc)) + x.mean(0)
    # A Student distribution is wider than its scale by nu / (nu - 2).
    share = torch.tensor(size, dtype=torch.float64).log() - math.log(n)
    scale = math.sqrt((TAIL - 2) / TAIL) if d <= TAILED else 1.0
    return StudentMixture(shift, scale * metric.factor @ torch.stack(factor), share)


def _seeds(y: Tensor, count: int) -> Tensor:
    """Indices of first centres, each far from those before, so that a small mode apart gets one of its own (k-means++,
    Arthur and Vassilvitskii, SODA 2007)."""
    chosen, distance = [0], (y - y[0]).square().sum(1)
    with seeded(0):
        for _ in range(count - 1):
            chosen.append(int(torch.multinomial(distance + 1e-300, 1)))
            distance = torch.minimum(distance, (y - y[chosen[-1]]).square().sum(1))
    return torch.tensor(chosen)


def _clusters(y: Tensor, count: int) -> Tensor:
    """The cluster of each point with shape (n,); none is empty."""
    centres = y[_seeds(y, count)]
    nearest = torch.zeros(len(y), dtype=torch.long)
    for _ in range(_ROUNDS):
        nearest = torch.cdist(y, centres).argmin(1)
        sums = torch.zeros_like(centres).index_add_(0, nearest, y)
        sizes = nearest.bincount(minlength=count)
        centres = torch.where((sizes > 0)[:, None], sums / sizes.clamp(min=1)[:, None], centres)
    used = nearest.unique()
    if len(used) == count:
        return nearest
    # Duplicate particles can leave a cluster empty: give each one point that is far from its own centre.
    far = torch.cdist(y, centres).amin(1).argsort(descending=True)
    for place, empty in enumerate(sorted(set(range(count)) - set(used.tolist()))):
        nearest[far[place]] = empty
    return nearest
