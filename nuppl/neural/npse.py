"""Neural posterior score estimation: a denoiser, and the density by the probability-flow equation.

    z_s = z + s e,   e ~ N(0, 1),   D(z_s, s, x) = E[z | z_s, x],   dz/d log s = z - D

Sharrock, Simons, Liu, Beaumont, Sequential Neural Score Estimation, arXiv:2210.04872; noise levels, scalings and flow
of Karras et al., Elucidating the Design Space of Diffusion-Based Generative Models, arXiv:2206.00364, for parameters of
unit variance:

    D = z_s/(1 + s^2) + s (1 + s^2)^(-1/2) F(z_s (1 + s^2)^(-1/2), log s, x),   score = (D - z_s)/s^2.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nuppl.neural.continuous import ContinuousGuide

__all__ = ["NPSE"]

_LEAST, _MOST = math.log(0.002), math.log(30.0)
"""Log noise levels, in standard deviations of the parameters, between which the flow runs."""


class NPSE(ContinuousGuide):
    """Noise of falling strength, taken away along the probability flow."""

    base_scale = math.exp(_MOST)

    def _error(self, z: Tensor, noise: Tensor, level: Tensor, context: Tensor) -> Tensor:
        level = level.clamp(_LEAST, _MOST)
        strength = level.exp()
        point, total = z + strength * noise, torch.sqrt(1 + strength.square())
        target = (z - point / total.square()) * total / strength
        return self._raw(level, point / total, context) - target

    def score(self, level: Tensor, z: Tensor, context: Tensor) -> Tensor:
        """The gradient of the log density of noisy parameters, with shape (N, D), at a log noise level."""
        return -self.velocity(level, z, context) / (2 * level).exp()

    def velocity(self, time: Tensor, z: Tensor, context: Tensor) -> Tensor:
        """dz/d log s = z - D(z, s, x), with shape (N, D)."""
        strength = time.exp()
        total = torch.sqrt(1 + strength.square())
        guess = z / total.square() + strength / total * self._raw(time, z / total, context)
        return z - guess

    def grid(self) -> Tensor:
        """Even in log s."""
        return torch.linspace(_MOST, _LEAST, self.steps + 1, dtype=torch.float32)
