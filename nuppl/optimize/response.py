"""The inverse curvature of many likelihoods from the Jacobian of one.

Systematic errors scale with what they act on: where a lane expects r times the events of the reference, its Jacobian is
about r J. Where that is not so, as for what oscillates or for the width of a resolution, each lane has columns of its
own. Its curvature is then C = P + J^T V^-1 J, V its variance; with fewer data than coordinates (Woodbury)

    C^-1 = Q - Q J^T (V + J Q J^T)^-1 J Q,   Q = P^-1.

Coordinates that nothing constrains get a prior that is wide beside their scale.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from nuppl.optimize.lanes import Likelihoods
from nuppl.optimize.objective import Objective

__all__ = ["Curvature", "Response"]

_WIDE = 1e4
"""Variance of what nothing constrains, in units of its scale."""

_OWN, _MOST, _MOVED = 0.15, 12, 0.7
"""By how much of a coordinate's own width a scaled column may be wrong before lanes have their own, how many these are
at most, and how far pulls are moved to see it."""


class Curvature(NamedTuple):
    """Of n lanes.

    Attributes:
        scaled: r V^-1/2 with shape (n, M).
        own: V^-1/2 J of the columns that each lane has for itself, with shape (n, M, k).
        factor: of the matrix that `Response.solve` inverts, with shape (n, o, o).
    """

    scaled: Tensor
    own: Tensor
    factor: Tensor


@dataclass(frozen=True, eq=False)
class Response:
    """The reference.

    Attributes:
        mean: expected data with shape (M,).
        jacobian: with shape (M, D), zero in the columns `own`.
        prior: Q's diagonal with shape (D,).
        own: columns that differ from lane to lane, with shape (k,).
    """

    mean: Tensor
    jacobian: Tensor
    prior: Tensor
    own: Tensor

    @classmethod
    def around(cls, objective: Objective, points: Tensor) -> Response:
        """Of lanes that lie where some points with shape (q, D) lie, the first of which is the reference."""
        mean, variance, jacobian = objective.jacobian(points[0])
        moved = points[:1] + _MOVED * _random_signs(objective.stiffness)
        others = torch.cat([points[1:], moved]).clamp(objective.lower, objective.upper)
        scale = variance.clamp(min=1e-12).rsqrt()[:, None]
        prior = 1.0 / objective.stiffness.clamp(min=1.0 / _WIDE)
        wrong = torch.zeros(objective.dim)
        for point in others:
            there, _, slopes = objective.jacobian(point)
            width = _widths(scale * slopes, prior)
            error = scale * (slopes - _ratio(there, mean)[:, None] * jacobian)
            wrong = torch.maximum(wrong, error.norm(dim=0) * width)
        worst = wrong.nan_to_num(torch.inf).topk(min(_MOST, objective.dim))
        own = worst.indices[worst.values > _OWN].sort().values
        shared = jacobian.index_fill(1, own, 0.0)
        return cls(mean, shared, prior, own)

    @property
    def whole(self) -> Response:
        """With all columns differing from lane to lane."""
        return replace(self, own=torch.arange(len(self.prior)), jacobian=torch.zeros_like(self.jacobian))

    def curvature(self, likelihoods: Likelihoods, point: Tensor, free: Tensor) -> Curvature:
        """At points with shape (n, D), for free coordinates, boolean with shape (n, D)."""
        mean, variance, slopes = likelihoods.slopes(point, self.own)
        scale = variance.clamp(min=1e-12).rsqrt()
        scaled, own = _ratio(mean, self.mean) * scale, slopes * scale[:, :, None]
        return Curvature(scaled, own, _factor(self._core(scaled, own, self.prior * free)))

    def solve(self, curvature: Curvature, free: Tensor, vectors: Tensor) -> Tensor:
        """C^-1 of vectors with shape (n, D); zero for coordinates that are not free."""
        return self.solve_all(curvature, free, vectors[:, None])[:, 0]

    def solve_all(self, curvature: Curvature, free: Tensor, vectors: Tensor) -> Tensor:
        """C^-1 of several vectors in each lane, with shape (n, k, D)."""
        prior = (self.prior * free)[:, None]
        if not self._dual:
            root = prior.sqrt()
            return root * torch.cholesky_solve((root * vectors).mT, curvature.factor).mT
        spread = prior * vectors
        seen = curvature.scaled[:, None] * (spread @ self.jacobian.T) + spread[:, :, self.own] @ curvature.own.mT
        inner = torch.cholesky_solve(seen.mT, curvature.factor).mT
        back = (curvature.scaled[:, None] * inner) @ self.jacobian
        back[:, :, self.own] = inner @ curvature.own
        return spread - prior * back

    @property
    def order(self) -> int:
        """Rows of the matrix that each lane has."""
        return min(len(self.mean), len(self.prior))

    @property
    def numbers(self) -> int:
        """Numbers that each lane keeps."""
        return self.order**2 + len(self.mean) * (1 + len(self.own))

    @property
    def _dual(self) -> bool:
        return len(self.mean) < len(self.prior)

    def _core(self, scaled: Tensor, own: Tensor, prior: Tensor) -> Tensor:
        """V^-1/2 J Q J^T V^-1/2 with shape (n, M, M), or Q^1/2 J^T V^-1 J Q^1/2 with shape (n, D, D)."""
        if self._dual:
            spread = own * prior[:, None, self.own].sqrt()
            shared = self._shared(prior.index_fill(1, self.own, 0.0))
            return torch.baddbmm(shared * scaled[:, :, None] * scaled[:, None, :], spread, spread.mT)
        jacobian = scaled[:, :, None] * self.jacobian
        jacobian[:, :, self.own] = own
        jacobian = jacobian * prior.sqrt()[:, None]
        return jacobian.mT @ jacobian

    def _shared(self, prior: Tensor) -> Tensor:
        """J Q J^T with shape (n, M, M), made once for each set of free coordinates."""
        sets, which = _sets(prior)
        return torch.stack([(self.jacobian * row) @ self.jacobian.T for row in sets])[which]


def _random_signs(stiffness: Tensor) -> Tensor:
    """1 or -1 for each pull, 0 for parameters."""
    signs = torch.randint(2, stiffness.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return torch.where(stiffness > 0, signs, 0).double()


def _widths(seen: Tensor, prior: Tensor) -> Tensor:
    """Standard deviations with shape (D,), for a Jacobian in standard deviations of the data with shape (M, D)."""
    factor = _factor((seen * prior) @ seen.T)
    known = torch.linalg.solve_triangular(factor, seen * prior, upper=False).square().sum(0)
    widths: Tensor = (prior - known).clamp(min=0.0).sqrt()
    return widths


def _ratio(mean: Tensor, reference: Tensor) -> Tensor:
    return mean / torch.where(reference.abs() > 1e-12, reference, 1.0)


def _factor(core: Tensor) -> Tensor:
    one = torch.eye(core.shape[-1])
    factor, failed = torch.linalg.cholesky_ex(core + one)
    # Where expected data are not finite a lane goes where its prior points, and fails.
    found: Tensor = torch.where((failed > 0)[..., None, None], one, factor)
    return found


def _sets(rows: Tensor) -> tuple[Tensor, Tensor]:
    """The different rows of a matrix, and for each row which one it is."""
    moving = (rows != rows[0]).any(0).nonzero()[:, 0]
    if not len(moving):
        return rows[:1], torch.zeros(len(rows), dtype=torch.int64)
    _, which = torch.unique(rows[:, moving], dim=0, return_inverse=True)
    first = torch.full((int(which.max()) + 1,), len(rows)).scatter_reduce(0, which, torch.arange(len(rows)), "amin")
    return rows[first], which
