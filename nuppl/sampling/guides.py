"""Guides: normalised densities in whitened coordinates that stand near a posterior.

Proposals come in tiles with seeds of their own, so they do not depend on how many are drawn at a time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from nuppl.language.density import CHUNK
from nuppl.language.precision import seeded
from nuppl.language.simulation import tile_seed, tiles

__all__ = ["TAIL", "TAILED", "GaussianGuide", "Guide", "TailedGuide", "lower_factor", "standard_normals"]

TAIL = 5
"""Degrees of freedom of the tails."""

TAILED = 12
"""Tails in more coordinates than this would cost more efficiency than they guard."""


class Guide(Protocol):
    """What `importance` weights: draws u with shape (n, D) and their log density with shape (n,)."""

    @property
    def missed(self) -> int:
        """Modes that were seen and that the guide does not cover."""
        ...

    def sample(self, n: int, seed: int, stream: int) -> tuple[Tensor, Tensor]:
        """n draws of one stream of random numbers, and their log density."""
        ...


@dataclass(frozen=True)
class GaussianGuide:
    """A multivariate normal.

    Attributes:
        loc: with shape (D,).
        scale_tril: lower triangular factor of the covariance with shape (D, D).
        missed: other modes that were seen and that it does not cover.
    """

    loc: Tensor
    scale_tril: Tensor
    missed: int = 0

    @classmethod
    def from_precision(cls, loc: Tensor, precision: Tensor) -> GaussianGuide:
        """From the inverse covariance with shape (D, D); raises torch.linalg.LinAlgError if it is not positive."""
        return cls(loc, torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(precision))))

    def sample(self, n: int, seed: int, stream: int) -> tuple[Tensor, Tensor]:
        """n draws and their log density."""
        noise = standard_normals(n, len(self.loc), seed, stream)
        log_volume = self.scale_tril.diagonal().log().sum() + 0.5 * len(self.loc) * torch.tensor(2 * torch.pi).log()
        return self.loc + noise @ self.scale_tril.T, -0.5 * noise.square().sum(-1) - log_volume


@dataclass(frozen=True)
class TailedGuide:
    """A multivariate normal in which a few coordinates have the tails of Student's t, the others Gaussian given these.

    u_A = loc_A + L_AA t,   u_B = loc_B + L_BA t + L_BB z,   t ~ Student(nu), z ~ N(0, 1).

    Weights stay bounded where the few have longer tails than their curvature at the mode says; a thousand Gaussian
    nuisances cost nothing.

    Attributes:
        order: the coordinates with the few (A) first, shape (D,).
        few: how many those are.
        loc, scale_tril: in that order.
    """

    order: Tensor
    few: int
    loc: Tensor
    scale_tril: Tensor
    missed: int = 0

    @classmethod
    def around(cls, guide: GaussianGuide, columns: Sequence[int]) -> TailedGuide:
        """The same location and scale, with tails in `columns`."""
        few = torch.tensor(list(columns), dtype=torch.long)
        keep = torch.ones(len(guide.loc), dtype=torch.bool)
        keep[few] = False
        order = torch.cat([few, keep.nonzero()[:, 0]])
        return cls(order, len(few), guide.loc[order], lower_factor(guide.scale_tril[order]), guide.missed)

    @classmethod
    def everywhere(cls, guide: GaussianGuide) -> TailedGuide:
        """Tails in every coordinate, or in the first ones of many."""
        return cls.around(guide, range(min(len(guide.loc), TAILED)))

    def sample(self, n: int, seed: int, stream: int) -> tuple[Tensor, Tensor]:
        """n draws and their log density."""
        noise, extra = standard_normals(n, len(self.loc) + TAIL, seed, stream).split([len(self.loc), TAIL], dim=1)
        # A Student variable is a normal one over the root of a chi2 over nu, here one chi2 for all of the few.
        few = noise[:, : self.few] / extra.square().mean(-1, keepdim=True).sqrt()
        many = noise[:, self.few :]
        u = torch.empty_like(noise)
        u[:, self.order] = self.loc + torch.cat([few, many], dim=1) @ self.scale_tril.T
        normal = -0.5 * many.square().sum(-1) - 0.5 * many.shape[1] * math.log(2.0 * math.pi)
        return u, _student(few) + normal - self.scale_tril.diagonal().log().sum()


def lower_factor(rows: Tensor) -> Tensor:
    """The lower triangular L with L L^T = R R^T and a positive diagonal, for R with shape (D, K >= D)."""
    upper = torch.linalg.qr(rows.T).R
    factor: Tensor = (upper * upper.diagonal().sign()[:, None]).T
    return factor


def _student(t: Tensor) -> Tensor:
    """Log density of the multivariate Student distribution at t with shape (n, d)."""
    d = t.shape[1]
    if not d:
        return torch.zeros(len(t), dtype=torch.float64)
    norm = math.lgamma(0.5 * (TAIL + d)) - math.lgamma(0.5 * TAIL) - 0.5 * d * math.log(TAIL * math.pi)
    return norm - 0.5 * (TAIL + d) * torch.log1p(t.square().sum(-1) / TAIL)


def standard_normals(n: int, dim: int, seed: int, stream: int) -> Tensor:
    """Standard normal numbers with shape (n, dim), tile by tile."""
    parts = []
    for number, keep in tiles(n, CHUNK):
        with seeded(tile_seed(seed, stream, number)):
            parts.append(torch.randn(CHUNK, dim, dtype=torch.float64)[:keep])
    return torch.cat(parts)
