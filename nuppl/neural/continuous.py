"""Guides that an ordinary differential equation carries from noise to parameters: what FMPE and NPSE share.

Both learn at random noise levels l, the log of noise over signal, normal below their median and twice as wide above: a
narrow posterior forms only where the noise is as small as it is narrow, and the way to it begins in pure noise.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from nuppl.neural.embeddings import Embedding
from nuppl.neural.estimator import Guide, normal_log_density
from nuppl.neural.networks import Residual, TimeFeatures, Waves
from nuppl.neural.ode import transport
from nuppl.neural.standardize import Standardize

__all__ = ["ContinuousGuide"]


class ContinuousGuide(Guide):
    """A velocity that a residual network gives.

    Arguments:
        width, depth: of the network.
        waves: wavelengths in which it sees parameters and data, see `networks.Waves`.
        repeats: noise levels per simulation and step.
        center, spread: of the log noise levels, their median and their standard deviation below it.
        steps: of the integration.

    Attributes:
        base_scale: standard deviation of the noise at the start.
    """

    training_defaults = {"epochs": 150, "least_steps": 8_000, "rate": 2e-3, "average": 0.999, "patience": 50}
    base_scale: float = 1.0

    def __init__(
        self,
        theta_space: Standardize,
        embedding: Embedding,
        width: int = 128,
        depth: int = 3,
        waves: int = 4,
        repeats: int = 4,
        center: float = -2.5,
        spread: float = 1.5,
        steps: int = 32,
    ) -> None:
        super().__init__(theta_space, embedding)
        self.repeats, self.center, self.spread, self.steps = repeats, center, spread, steps
        self.time, self.waves = TimeFeatures(), Waves(waves)
        condition = embedding.features + self.time.features
        inputs = (self.dimension + embedding.features) * (1 + 2 * waves) + self.time.features
        self.network = Residual(inputs, self.dimension, condition, width, depth).float()

    @abstractmethod
    def grid(self) -> Tensor:
        """Times of the integration from noise to parameters, with shape (steps + 1,)."""

    @abstractmethod
    def velocity(self, time: Tensor, z: Tensor, context: Tensor) -> Tensor:
        """dz/dtime with shape (N, D), for a time with shape () or (N, 1)."""

    @abstractmethod
    def _error(self, z: Tensor, noise: Tensor, level: Tensor, context: Tensor) -> Tensor:
        """The error of the network with shape (N, D), for parameters and noise (N, D) and log noise levels (N, 1)."""

    def loss(self, theta: Tensor, x: Tensor, generator: torch.Generator) -> Tensor:
        """Mean squared error over a few noise levels, with shape (n,)."""
        z, context = (rows.repeat_interleave(self.repeats, 0) for rows in (self.theta_space(theta), self.embedding(x)))
        noise = torch.randn(z.shape, generator=generator, dtype=torch.float32)
        error = self._error(z, noise, self._levels(len(z), generator), context)
        return error.square().mean(-1).reshape(-1, self.repeats).mean(-1)

    def _levels(self, n: int, generator: torch.Generator) -> Tensor:
        """Log noise levels with shape (n, 1), one in each of n equally probable ranges, in random order."""
        order = torch.randperm(n, generator=generator)
        uniform = (order + torch.rand(n, generator=generator, dtype=torch.float32)) / n
        normal: Tensor = torch.special.ndtri(uniform.clamp(1e-6, 1 - 1e-6)).unsqueeze(-1)
        return self.center + self.spread * torch.where(normal > 0, 2 * normal, normal)

    def _raw(self, level: Tensor, z: Tensor, context: Tensor) -> Tensor:
        """The network's answer, for a log noise level with shape () or (N, 1)."""
        time = self.time(level.expand(len(z), 1))
        inputs = torch.cat((self.waves(torch.cat((z, context), -1)), time), -1)
        answer: Tensor = self.network(inputs, torch.cat((context, time), -1))
        return answer

    def _log_density(self, z: Tensor, context: Tensor) -> tuple[Tensor]:
        noise, change = transport(lambda s, y: self.velocity(s, y, context), z, self.grid().flip(0), density=True)
        # The log density fell by `change` on the way to the noise.
        return (normal_log_density(noise, self.base_scale) - change,)

    def _push(self, noise: Tensor, context: Tensor, density: bool) -> tuple[Tensor, Tensor]:
        start = noise * self.base_scale
        z, change = transport(lambda s, y: self.velocity(s, y, context), start, self.grid(), density)
        return z, normal_log_density(start, self.base_scale) + change
