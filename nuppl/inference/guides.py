"""Guides: normalised densities in whitened coordinates that stand near a posterior.

Proposals come in tiles with seeds of their own, so they do not depend on how many are drawn at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from nuppl.language.density import CHUNK
from nuppl.language.precision import seeded
from nuppl.language.simulation import tile_seed, tiles

__all__ = ["GaussianGuide", "Guide", "standard_normals"]


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


def standard_normals(n: int, dim: int, seed: int, stream: int) -> Tensor:
    """Standard normal numbers with shape (n, dim), tile by tile."""
    parts = []
    for number, keep in tiles(n, CHUNK):
        with seeded(tile_seed(seed, stream, number)):
            parts.append(torch.randn(CHUNK, dim, dtype=torch.float64)[:keep])
    return torch.cat(parts)
