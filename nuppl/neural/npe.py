"""Neural posterior estimation with a conditional spline flow.

    loss(theta, x) = -log q(theta | x)

Papamakarios and Murray, Fast epsilon-free inference of simulation models, arXiv:1605.06376; Greenberg et al.,
arXiv:1905.07488; the flow: Durkan et al., Neural Spline Flows, arXiv:1906.04032, as zuko has it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from zuko.flows import NSF

from nuppl.neural.embeddings import Embedding
from nuppl.neural.estimator import Guide, normal_log_density
from nuppl.neural.standardize import Standardize
from nuppl.neural.triangular import inverted

__all__ = ["NPE"]


class NPE(Guide):
    """A neural spline flow from standard normals to parameters.

    Arguments:
        transforms: autoregressive layers.
        width, depth: of the network in each.
        bins: of the splines.
    """

    training_defaults = {"epochs": 120, "batch": 128, "rate": 1e-3, "patience": 25}

    def __init__(
        self,
        theta_space: Standardize,
        embedding: Embedding,
        transforms: int = 4,
        width: int = 64,
        depth: int = 2,
        bins: int = 8,
    ) -> None:
        super().__init__(theta_space, embedding)
        self.flow = NSF(
            self.dimension,
            embedding.features,
            transforms=transforms,
            hidden_features=[width] * depth,
            bins=bins,
            activation=nn.SiLU,
        ).float()

    def loss(self, theta: Tensor, x: Tensor, generator: torch.Generator) -> Tensor:
        """Minus the log density, with shape (n,); draws nothing."""
        return -self._log_density(self.theta_space(theta), self.embedding(x))[0]

    def _log_density(self, z: Tensor, context: Tensor) -> tuple[Tensor]:
        return (self.flow(context).log_prob(z),)

    def _push(self, noise: Tensor, context: Tensor, density: bool) -> tuple[Tensor, Tensor]:
        z, log_volume = inverted(self.flow, noise, context)
        return z, normal_log_density(noise) + log_volume if density else log_volume
