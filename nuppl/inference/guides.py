"""Guides: normalised densities in whitened coordinates that stand near a posterior.

Proposals come in tiles with seeds of their own, so they do not depend on how many are drawn at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from nuppl.language.density import CHUNK
from nuppl.language.precision import seeded
from nuppl.language.simulation import tile_seed, tiles

__all__ = ["GaussianGuide", "Guide", "SplitGuide", "complement", "standard_normals"]

TAIL = 5
"""Degrees of freedom of the tails."""


class Guide(Protocol):
    """What `importance` weights: draws u with shape (n, D) and their log density with shape (n,)."""

    def sample(self, n: int, seed: int, stream: int) -> tuple[Tensor, Tensor]:
        """n draws of one stream of random numbers, and their log density."""
        ...


@dataclass(frozen=True)
class GaussianGuide:
    """A multivariate normal.

    Attributes:
        loc: with shape (D,).
        scale_tril: lower triangular factor of the covariance with shape (D, D).
    """

    loc: Tensor
    scale_tril: Tensor

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
class SplitGuide:
    """A few coordinates with the tails of Student's t, the others Gaussian given the few.

    u_A = loc_A + L_A t,   u_B = m(u_A) + L_B z,   t ~ Student(nu), z ~ N(0, 1),

    where m is the linear regression of a Gaussian, or, with `follow`, the ridge of the posterior. Weights stay bounded
    where the few have longer tails than their curvature at the mode says; a thousand Gaussian nuisances cost nothing.

    Attributes:
        order: the coordinates with the few (A) first, shape (D,).
        loc: in that order, shape (D,).
        few_tril, rest_tril: L_A with shape (A, A) and L_B with shape (B, B).
        regression: of the others on the few, shape (B, A).
        follow: moves points u (n, D), whose others lie on the regression, to the ridge, leaving the few as they are.
    """

    order: Tensor
    loc: Tensor
    few_tril: Tensor
    rest_tril: Tensor
    regression: Tensor
    follow: Callable[[Tensor], Tensor] | None = None

    @classmethod
    def around(cls, guide: GaussianGuide, columns: Sequence[int]) -> SplitGuide:
        """The same location and scale, with tails in `columns`."""
        few = torch.tensor(list(columns), dtype=torch.long)
        order = torch.cat([few, complement(few, len(guide.loc))])
        rows, count = guide.scale_tril[order], len(few)
        # Rows of a factor in another order are no longer triangular: R of its QR decomposition is, up to signs.
        upper = torch.linalg.qr(rows.T).R
        factor = (upper * upper.diagonal().sign()[:, None]).T
        few_tril, mixed, rest_tril = factor[:count, :count], factor[count:, :count], factor[count:, count:]
        regression = torch.linalg.solve_triangular(few_tril, mixed, upper=False, left=False)
        return cls(order, guide.loc[order], few_tril, rest_tril, regression)

    def sample(self, n: int, seed: int, stream: int) -> tuple[Tensor, Tensor]:
        """n draws and their log density."""
        count = len(self.few_tril)
        noise = standard_normals(n, len(self.loc) + TAIL, seed, stream)
        few, rest, extra = noise.split([count, len(self.loc) - count, TAIL], dim=1)
        # A Student variable is a normal one over the root of a chi2 over nu, here one chi2 for all of the few.
        t = few / extra.square().mean(-1, keepdim=True).sqrt()
        u = self._ridge(t @ self.few_tril.T)
        u[:, self.order[count:]] += rest @ self.rest_tril.T
        log_volume = self.few_tril.diagonal().log().sum() + self.rest_tril.diagonal().log().sum()
        normal = -0.5 * rest.square().sum(-1) - 0.5 * rest.shape[1] * math.log(2.0 * math.pi)
        return u, _student(t) + normal - log_volume

    def _ridge(self, shift: Tensor) -> Tensor:
        """Centres of the others for the few at loc + shift."""
        u = torch.empty(len(shift), len(self.loc), dtype=torch.float64)
        u[:, self.order] = self.loc + torch.cat([shift, shift @ self.regression.T], dim=1)
        return self.follow(u) if self.follow else u


def complement(columns: Tensor, dim: int) -> Tensor:
    """The coordinates below `dim` that are not among `columns`."""
    keep = torch.ones(dim, dtype=torch.bool)
    keep[columns] = False
    return keep.nonzero()[:, 0]


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
