"""Flow matching posterior estimation.

    z_t = t z + (1 - t) e,   e ~ N(0, 1),   loss = |v(t, z_t, x) - (z - e)|^2 s_t^2,   s_t^2 = t^2 + (1 - t)^2

Wildberger, Dax, Buchholz et al., Flow Matching for Scalable Simulation-Based Inference, arXiv:2305.17161. They draw t
from a power law; here log((1 - t)/t) is about normal, as in Esser et al., arXiv:2403.03206. The network gives what is
left of the velocity beyond the best linear guess for z of unit variance, in units of its spread,

    v = (2 t - 1)/s_t^2 z_t + F(z_t / s_t, log((1 - t)/t), x)/s_t,

as Karras et al. (arXiv:2206.00364) do for diffusion: its target has unit variance at every t.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nuppl.neural.continuous import ContinuousGuide

__all__ = ["FMPE"]

_LEVEL = 9.0
"""Log noise levels beyond this are as good as infinite."""


class FMPE(ContinuousGuide):
    """Straight paths from noise to parameters, on average."""

    def _error(self, z: Tensor, noise: Tensor, level: Tensor, context: Tensor) -> Tensor:
        level = level.clamp(-_LEVEL, _LEVEL)
        time = torch.sigmoid(-level)
        point, spread = time * z + (1 - time) * noise, _spread(time)
        target = (z - noise) * spread - (2 * time - 1) / spread * point
        return self._raw(level, point / spread, context) - target

    def velocity(self, time: Tensor, z: Tensor, context: Tensor) -> Tensor:
        """The velocity with shape (N, D)."""
        spread = _spread(time)
        level = torch.logit(1 - time, eps=1e-6).clamp(-_LEVEL, _LEVEL)
        return (2 * time - 1) / spread.square() * z + self._raw(level, z / spread, context) / spread

    def grid(self) -> Tensor:
        """Denser near the parameters, where narrow posteriors form."""
        return 1 - torch.linspace(1.0, 0.0, self.steps + 1, dtype=torch.float32).square()


def _spread(time: Tensor) -> Tensor:
    return (time.square() + (1 - time).square()).sqrt()
