"""The metric of Hamiltonian moves: a linear map S from standard coordinates to those of a target, covariance S S^T.

Kinetic energy is |p|^2 / 2 in standard coordinates, so a target with covariance S S^T looks like a standard normal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from nuppl.results.checkpoints import State

__all__ = ["DenseMetric", "LowRankMetric", "Metric", "from_particles", "from_state", "metric_state"]


class Metric(Protocol):
    """A linear map over rows with shape (n, D)."""

    def spread(self, y: Tensor) -> Tensor:
        """S y: from standard coordinates."""
        ...

    def gather(self, g: Tensor) -> Tensor:
        """S^T g: gradients in standard coordinates."""
        ...

    def standard(self, x: Tensor) -> Tensor:
        """S^-1 x."""
        ...


@dataclass(frozen=True)
class DenseMetric:
    """S as a lower triangular factor with shape (D, D)."""

    factor: Tensor

    def spread(self, y: Tensor) -> Tensor:
        """S y."""
        return y @ self.factor.T

    def gather(self, g: Tensor) -> Tensor:
        """S^T g."""
        return g @ self.factor

    def standard(self, x: Tensor) -> Tensor:
        """S^-1 x."""
        solved: Tensor = torch.linalg.solve_triangular(self.factor, x.T, upper=False).T
        return solved


@dataclass(frozen=True)
class LowRankMetric:
    """S = 1 + V diag(shrink - 1) V^T: some directions are narrower than the rest.

    Attributes:
        basis: V with orthonormal columns, shape (D, r).
        shrink: the relative width along each column, shape (r,).
    """

    basis: Tensor
    shrink: Tensor

    @classmethod
    def from_jacobian(cls, jacobian: Tensor) -> LowRankMetric:
        """The metric of the precision 1 + J^T J, for J with shape (M, D)."""
        _, singular, rows = torch.linalg.svd(jacobian, full_matrices=False)
        return cls(rows.T.contiguous(), (1.0 + singular**2).rsqrt())

    def spread(self, y: Tensor) -> Tensor:
        """S y."""
        return self._stretch(y, self.shrink)

    def gather(self, g: Tensor) -> Tensor:
        """S^T g."""
        return self._stretch(g, self.shrink)

    def standard(self, x: Tensor) -> Tensor:
        """S^-1 x."""
        return self._stretch(x, 1.0 / self.shrink)

    def _stretch(self, y: Tensor, by: Tensor) -> Tensor:
        return y + ((y @ self.basis) * (by - 1.0)) @ self.basis.T


def metric_state(metric: Metric) -> State:
    """For a checkpoint."""
    return {"kind": type(metric).__name__, **vars(metric)}


def from_state(state: State) -> Metric:
    """As it was."""
    kinds: dict[str, Callable[..., Metric]] = {kind.__name__: kind for kind in (DenseMetric, LowRankMetric)}
    return kinds[state["kind"]](**{name: value for name, value in state.items() if name != "kind"})


def from_particles(x: Tensor, log_weight: Tensor | None = None) -> DenseMetric:
    """The covariance of particles with shape (n, D), shrunk towards its diagonal by D / (n + D)."""
    weight = torch.full((len(x),), 1.0 / len(x)) if log_weight is None else (log_weight - log_weight.logsumexp(0)).exp()
    effective = 1.0 / float(weight.square().sum())
    centred = x - weight @ x
    covariance = (weight[:, None] * centred).T @ centred
    diagonal = covariance.diagonal().clamp(min=1e-12)
    share = x.shape[1] / (effective + x.shape[1])
    return DenseMetric(torch.linalg.cholesky((1.0 - share) * covariance + (share * diagonal + 1e-9 * diagonal).diag()))
