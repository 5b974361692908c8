"""What a minimiser sees: minus a log density, its gradient and its curvature, all by lanes of one batch.

The curvature is Gauss-Newton's, J^T W J + P: J is the Jacobian of the expected data, W their inverse variance, P the
curvature of what is not data (one per pull, one per whitened coordinate). For Poisson and Gaussian data it is the
Fisher information; it is never negative. The exact Hessian is used for errors. Row i of either comes from lane i of a
batch in which all lanes sit at the same point, so that no second mechanism for derivatives is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from nuppl.errors import InputError
from nuppl.language.density import CHUNK, Natural, Whitened
from nuppl.language.program import Program
from nuppl.typing import Density, Values

__all__ = ["Objective", "data_moments", "natural_objective", "natural_stiffness", "whitened_objective"]


@dataclass(frozen=True)
class Objective:
    """Minus a log density over points with shape (n, D).

    Attributes:
        value: points (n, D) to minus log density (n,).
        moments: points (n, D) to mean and variance of the data, each (n, M).
        stiffness: P's diagonal with shape (D,).
        lower, upper: bounds with shape (D,).
    """

    value: Density
    moments: Callable[[Tensor], tuple[Tensor, Tensor]]
    stiffness: Tensor
    lower: Tensor
    upper: Tensor

    @property
    def dim(self) -> int:
        """D."""
        return len(self.stiffness)

    def values(self, points: Tensor) -> Tensor:
        """The objective with shape (n,), without gradient, in chunks."""
        with torch.no_grad():
            return torch.cat([self.value(part) for part in points.split(CHUNK)])

    def gradient(self, point: Tensor) -> tuple[Tensor, Tensor]:
        """Value with shape () and gradient with shape (D,) at one point with shape (D,)."""
        leaf = point.detach()[None].requires_grad_()
        value = self.value(leaf)
        (gradient,) = torch.autograd.grad(value.sum(), leaf)
        return value.detach()[0], gradient[0]

    def jacobian(self, point: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean (M,), variance (M,) and Jacobian of the mean (M, D) at one point."""
        with torch.no_grad():
            mean, variance = self.moments(point[None])
        rows = [self._jacobian_rows(point, part) for part in torch.arange(mean.shape[1]).split(CHUNK)]
        return mean[0], variance[0], torch.cat(rows)

    def _jacobian_rows(self, point: Tensor, rows: Tensor) -> Tensor:
        leaf = point.detach().repeat(len(rows), 1).requires_grad_()
        mean, _ = self.moments(leaf)
        picked = mean.expand(len(rows), -1).gather(1, rows[:, None]).sum()
        if not picked.requires_grad:
            return torch.zeros_like(leaf)
        (gradient,) = torch.autograd.grad(picked, leaf)
        return gradient

    def curvature(self, point: Tensor) -> Tensor:
        """Gauss-Newton's approximation of the Hessian with shape (D, D).

        Where data have no known mean, as those whose density a network learned, it is the exact Hessian with its
        eigenvalues made positive (Dauphin et al., arXiv:1406.2572).
        """
        try:
            _, variance, jacobian = self.jacobian(point)
        except InputError:
            values, vectors = torch.linalg.eigh(self.hessian(point))
            positive: Tensor = (vectors * values.abs().clamp(min=1e-6)) @ vectors.T
            return positive
        weighted = jacobian / variance[:, None].clamp(min=1e-12).sqrt()
        return weighted.T @ weighted + self.stiffness.diag()

    def hessian(self, point: Tensor) -> Tensor:
        """The exact Hessian with shape (D, D)."""
        rows = [self._hessian_rows(point, part) for part in torch.arange(self.dim).split(CHUNK)]
        full = torch.cat(rows)
        return 0.5 * (full + full.T)

    def product(self, point: Tensor, vectors: Tensor) -> Tensor:
        """The exact Hessian times each of some vectors, both with shape (n, D)."""
        leaf = point.detach().expand_as(vectors).clone().requires_grad_()
        (gradient,) = torch.autograd.grad(self.value(leaf).sum(), leaf, create_graph=True)
        (product,) = torch.autograd.grad((gradient * vectors).sum(), leaf)
        return product

    def _hessian_rows(self, point: Tensor, rows: Tensor) -> Tensor:
        return self.product(point, torch.eye(self.dim, dtype=point.dtype)[rows])


def natural_objective(natural: Natural) -> Objective:
    """Minus the frequentist log likelihood, with bounds."""
    return Objective(
        value=lambda z: -natural.log_likelihood(z),
        moments=lambda z: data_moments(natural.program, natural.values(z)),
        stiffness=natural_stiffness(natural),
        lower=natural.lower,
        upper=natural.upper,
    )


def natural_stiffness(natural: Natural) -> Tensor:
    """The curvature of what is not data in natural coordinates, with shape (D,)."""
    stiffness = torch.zeros(natural.dim)
    for name, site in natural.program.latents.items():
        if site.kind != "parameter":
            # z of a pull is in units of its own standard deviation.
            stiffness[natural.layout.columns([name])] = 1.0
    return stiffness


def whitened_objective(whitened: Whitened) -> Objective:
    """Minus the log posterior in whitened coordinates, without bounds."""
    unbounded = torch.full((whitened.dim,), torch.inf)
    return Objective(
        value=lambda u: -whitened.log_prob(u),
        moments=whitened.moments,
        stiffness=torch.ones(whitened.dim),
        lower=-unbounded,
        upper=unbounded,
    )


def data_moments(program: Program, values: Values) -> tuple[Tensor, Tensor]:
    """Mean and variance of all data side by side, each with shape (n, M)."""
    n = max((len(value) for value in values.values()), default=1)
    moments = program.moments(values).values()
    means, variances = zip(*moments, strict=True)
    return tuple(  # type: ignore[return-value]
        torch.cat([part.reshape(len(part), -1).expand(n, -1) for part in parts], dim=1) for parts in (means, variances)
    )
