"""Neural likelihood estimation.

    loss(theta, x) = -log q(x | theta)

Papamakarios, Sterratt, Murray, Sequential Neural Likelihood, arXiv:1805.07226. Continuous data have a spline flow
(Durkan et al., arXiv:1906.04032); counts, labels and mixed data one factor after the other (`autoregressive`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from zuko.flows import NSF

from nuppl.neural.autoregressive import Autoregressive
from nuppl.neural.estimator import Likelihood
from nuppl.neural.standardize import Standardize

__all__ = ["NLE"]


class NLE(Likelihood):
    """A density of the data given parameters, normalised in the users' units.

    Arguments:
        transforms, bins: of the flow.
        components: of the mixtures, for data that are not continuous.
        width, depth: of the networks.
    """

    training_defaults = {"epochs": 120, "batch": 128, "rate": 1e-3, "decay": 1.0, "patience": 25}

    def __init__(
        self,
        theta_space: Standardize,
        data_space: Standardize,
        transforms: int = 4,
        width: int = 64,
        depth: int = 2,
        bins: int = 8,
        components: int = 6,
    ) -> None:
        super().__init__(theta_space, data_space)
        continuous = all(field.kind in ("real", "positive") for field in data_space.fields)
        self.density: nn.Module = (
            _Flow(theta_space.width, data_space, transforms, width, depth, bins)
            if continuous
            else Autoregressive(theta_space.width, data_space, components, width, depth)
        )

    def loss(self, theta: Tensor, x: Tensor, generator: torch.Generator) -> Tensor:
        """Minus the log density, with shape (n,); draws nothing."""
        return -self._log_density(x.double(), self.theta_space(theta))[0]

    def _log_density(self, x: Tensor, z: Tensor) -> tuple[Tensor]:
        return (self.density.log_prob(x, z),)  # type: ignore[operator]

    def _simulate(self, z: Tensor, generator: torch.Generator) -> Tensor:
        x: Tensor = self.density.sample(z, generator)  # type: ignore[operator]
        return x


class _Flow(nn.Module):
    def __init__(self, context: int, data: Standardize, transforms: int, width: int, depth: int, bins: int) -> None:
        super().__init__()
        self.data = data
        hidden = [width] * depth
        self.flow = NSF(
            data.width, context, transforms=transforms, hidden_features=hidden, bins=bins, activation=nn.SiLU
        ).float()

    def log_prob(self, x: Tensor, context: Tensor) -> Tensor:
        inside: Tensor = self.flow(context).log_prob(self.data(x))
        return inside.double() + self.data.log_slope(x).sum(-1)

    def sample(self, context: Tensor, generator: torch.Generator) -> Tensor:
        noise = torch.randn(len(context), self.data.width, generator=generator, dtype=torch.float32)
        return self.data.inverse(self.flow(context).transform.inv(noise.to(context)))
