"""Two moons: a crescent of noise, moved by two parameters that a turn and an absolute value mix.

    x = (r cos a + 1/4, r sin a) + (-|t_1 + t_2|, t_2 - t_1)/sqrt(2),   a ~ U(-pi/2, pi/2),   r ~ N(0.1, 0.01)

Lueckmann et al., Benchmarking Simulation-Based Inference, arXiv:2101.04653, after Greenberg et al., arXiv:1905.07488.
The posterior has two crescents, mirrored at t_1 + t_2 = 0.
"""

import math

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch.distributions import constraints

import nuppl

OFFSET, RADIUS, SPREAD = 0.25, 0.1, 0.01


class Crescent(TorchDistribution):
    """Half a ring with its middle at a place with shape (*, 2)."""

    arg_constraints = {"place": constraints.real_vector}
    support = constraints.real_vector

    def __init__(self, place, validate_args=None):
        self.place = place
        super().__init__(place.shape[:-1], place.shape[-1:], validate_args=validate_args)

    def expand(self, batch_shape, _instance=None):
        """The same half ring at more places."""
        return Crescent(self.place.expand(*batch_shape, 2), validate_args=False)

    def sample(self, sample_shape=()):
        """Draws with shape (*sample_shape, *, 2)."""
        shape = (*sample_shape, *self.batch_shape)
        angle = math.pi * (torch.rand(shape) - 0.5)
        radius = RADIUS + SPREAD * torch.randn(shape)
        return self.place + radius[..., None] * torch.stack((angle.cos(), angle.sin()), -1)

    def log_prob(self, value):
        """The log density with shape (*): p(a) p(r) / r."""
        x, y = (value - self.place).unbind(-1)
        radius = torch.hypot(x, y)
        log_p = dist.Normal(RADIUS, SPREAD).log_prob(radius) - (math.pi * radius).log()
        return torch.where(x > 0, log_p, -math.inf)


@nuppl.model(interest=("t_1", "t_2"))
def two_moons():
    """Two parameters, two numbers, two modes."""
    t_1 = nuppl.parameter("t_1", dist.Uniform(-1.0, 1.0), label="t_1")
    t_2 = nuppl.parameter("t_2", dist.Uniform(-1.0, 1.0), label="t_2")
    along, across = (t_1 + t_2) / math.sqrt(2.0), (t_2 - t_1) / math.sqrt(2.0)
    nuppl.observe("x", Crescent(torch.stack((OFFSET - along.abs(), across), -1)))
