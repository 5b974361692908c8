"""What samplers see: a density over points x with shape (n, d), and the way back to a program's latents.

Directly the whitened posterior, or a `Marginal` of it from which near-linear pulls were integrated out: moves and
tempering know no difference. The reference density of every target is the standard normal, the prior of whitened
coordinates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from nuppl.language.density import Whitened

__all__ = ["Direct", "Recast", "Target", "gradient", "log_normal"]


class Target(Protocol):
    """A log density that is -inf, never NaN, where the program has none."""

    @property
    def whitened(self) -> Whitened:
        """The posterior of all latents."""
        ...

    @property
    def dim(self) -> int:
        """d."""
        ...

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density with shape (n,)."""
        ...

    def forces(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Log density with shape (n,), and its gradient with shape (n, d), zero where it is not finite.

        A gradient that is only near the truth costs acceptance, never correctness: moves are accepted by the density.
        """
        ...

    def complete(self, x: Tensor, log_p: Tensor, seed: int, stream: int) -> tuple[Tensor, Tensor]:
        """Whitened latents u with shape (n, D), and their log weight with shape (n,) against this density, log_p."""
        ...


@dataclass(frozen=True)
class Direct:
    """The whitened posterior itself."""

    whitened: Whitened

    @property
    def dim(self) -> int:
        """D."""
        return self.whitened.dim

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density, in chunks that fit the cache."""
        with torch.no_grad():
            return torch.cat([self.whitened.log_prob(part) for part in x.split(self.whitened.chunk)])

    def forces(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Log density and gradient, in chunks that fit the cache."""
        parts = [gradient(self.whitened, part) for part in x.split(self.whitened.chunk)]
        return torch.cat([value for value, _ in parts]), torch.cat([force for _, force in parts])

    def complete(self, x: Tensor, log_p: Tensor, seed: int, stream: int) -> tuple[Tensor, Tensor]:
        """The points as they are."""
        return x, torch.zeros(len(x))


@dataclass(frozen=True)
class Recast:
    """A target in other coordinates, so that the standard normal stands nearer to it in some of them.

    x = loc + F x' in the chosen columns, the same in the others.

    Attributes:
        target: in its own coordinates.
        columns: with shape (k,).
        loc: with shape (k,).
        factor: F, lower triangular, with shape (k, k).
    """

    target: Target
    columns: Tensor
    loc: Tensor
    factor: Tensor

    @property
    def whitened(self) -> Whitened:
        """The posterior of all latents."""
        return self.target.whitened

    @property
    def dim(self) -> int:
        """d."""
        return self.target.dim

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density."""
        return self.target.log_prob(self.original(x)) + self._log_volume

    def forces(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Log density and gradient."""
        log_p, force = self.target.forces(self.original(x))
        force = force.index_copy(1, self.columns, force[:, self.columns] @ self.factor)
        return log_p + self._log_volume, force

    def complete(self, x: Tensor, log_p: Tensor, seed: int, stream: int) -> tuple[Tensor, Tensor]:
        """Latents and log weights."""
        return self.target.complete(self.original(x), log_p - self._log_volume, seed, stream)

    def original(self, x: Tensor) -> Tensor:
        """The points in the target's own coordinates."""
        return x.index_copy(1, self.columns, self.loc + x[:, self.columns] @ self.factor.T)

    @property
    def _log_volume(self) -> float:
        return float(self.factor.diagonal().log().sum())


def gradient(whitened: Whitened, u: Tensor) -> tuple[Tensor, Tensor]:
    """The log density at u and its gradient, zero where it is not finite."""
    leaf = u.detach().requires_grad_()
    value = whitened.log_prob(leaf)
    (force,) = torch.autograd.grad(value.sum(), leaf)
    usable = value.isfinite()[:, None] & force.isfinite()
    return value.detach(), torch.where(usable, force, 0.0)


def log_normal(x: Tensor) -> Tensor:
    """The standard normal log density with shape (n,), of points with shape (n, d)."""
    return -0.5 * x.square().sum(-1) - 0.5 * x.shape[-1] * math.log(2.0 * math.pi)
