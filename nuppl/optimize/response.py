"""The inverse curvature of many likelihoods from the Jacobian of one.

Systematic errors scale with what they act on: where a lane expects r times the events of the reference, its Jacobian is
about r J. Its curvature is then C = P + J^T S^-1 J with S = V / r^2, V the variance of its own data, and no Jacobian is
ever made for a lane. With fewer data than coordinates (Woodbury)

    C^-1 = Q - Q J^T (S + J Q J^T)^-1 J Q,   Q = P^-1.

Coordinates that nothing constrains get a prior that is wide beside their scale.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nuppl.optimize.objective import Objective

__all__ = ["Response"]

_WIDE = 1e4
"""Variance of what nothing constrains, in units of its scale."""


@dataclass(frozen=True, eq=False)
class Response:
    """The reference.

    Attributes:
        mean: expected data with shape (M,).
        jacobian: with shape (M, D).
        prior: Q's diagonal with shape (D,).
    """

    mean: Tensor
    jacobian: Tensor
    prior: Tensor

    @classmethod
    def at(cls, objective: Objective, point: Tensor) -> Response:
        """At a point with shape (D,)."""
        mean, _, jacobian = objective.jacobian(point)
        return cls(mean, jacobian, 1.0 / objective.stiffness.clamp(min=1.0 / _WIDE))

    def weights(self, mean: Tensor, variance: Tensor) -> Tensor:
        """S^-1 with shape (n, M), of lanes with means and variances of the same shape."""
        ratio = mean / torch.where(self.mean.abs() > 1e-12, self.mean, 1.0)
        return ratio.square() / variance.clamp(min=1e-12)

    def factor(self, weights: Tensor, free: Tensor) -> Tensor:
        """What `solve` needs, for weights with shape (n, M) and free coordinates, boolean with shape (n, D)."""
        prior = self.prior * free
        if self._dual:
            scaled = weights.sqrt()
            core = self._core(prior) * scaled[:, :, None] * scaled[:, None, :]
            return _factor(core)
        weighted = weights[:, :, None] * self.jacobian
        root = prior.sqrt()
        core = (self.jacobian.T @ weighted) * root[:, :, None] * root[:, None, :]
        return _factor(core)

    def solve(self, factor: Tensor, weights: Tensor, free: Tensor, vectors: Tensor) -> Tensor:
        """C^-1 of vectors with shape (n, D); zero for coordinates that are not free."""
        prior = self.prior * free
        if not self._dual:
            root = prior.sqrt()
            return root * torch.cholesky_solve((root * vectors)[:, :, None], factor)[:, :, 0]
        scaled, spread = weights.sqrt(), prior * vectors
        inner = torch.cholesky_solve((scaled * (spread @ self.jacobian.T))[:, :, None], factor)[:, :, 0]
        return spread - prior * ((scaled * inner) @ self.jacobian)

    @property
    def order(self) -> int:
        """Rows of the matrix that each lane has."""
        return min(len(self.mean), len(self.prior))

    @property
    def matrix(self) -> int:
        """Its numbers."""
        return self.order**2

    @property
    def _dual(self) -> bool:
        return len(self.mean) < len(self.prior)

    def _core(self, prior: Tensor) -> Tensor:
        """J Q J^T with shape (n, M, M), made once for each set of free coordinates."""
        sets, which = _sets(prior)
        return torch.stack([(self.jacobian * row) @ self.jacobian.T for row in sets])[which]


def _factor(core: Tensor) -> Tensor:
    factor: Tensor = torch.linalg.cholesky(core + torch.eye(core.shape[-1]))
    return factor


def _sets(rows: Tensor) -> tuple[Tensor, Tensor]:
    """The different rows of a matrix, and for each row which one it is."""
    moving = (rows != rows[0]).any(0).nonzero()[:, 0]
    if not len(moving):
        return rows[:1], torch.zeros(len(rows), dtype=torch.int64)
    _, which = torch.unique(rows[:, moving], dim=0, return_inverse=True)
    first = torch.full((int(which.max()) + 1,), len(rows)).scatter_reduce(0, which, torch.arange(len(rows)), "amin")
    return rows[first], which
