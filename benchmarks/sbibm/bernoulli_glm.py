"""A neuron's spikes under white noise: a Bernoulli generalised linear model of which only its statistics are kept.

    y_i ~ Bernoulli(1 / (1 + e^{-(V t)_i})),   x = V^T y,   log p(x | t) = x . t - sum_i log(1 + e^{(V t)_i}) + h(x)

x counts the spikes and averages the stimulus before them; it is sufficient. V holds a column of ones and the stimulus
of 100 steps at lags 0 to 8. The prior, normal, makes neighbouring lags alike. h, the logarithm of how many spike trains
have the same x, is left out: it does not depend on t, but the evidence is known up to it only.

Lueckmann et al., Benchmarking Simulation-Based Inference, arXiv:2101.04653, T.4 and T.5.
"""

import numpy as np
import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch.distributions import constraints

import nuppl

STEPS, LAGS = 100, 9


def design():
    """V with shape (100, 10)."""
    stimulus = torch.as_tensor(np.random.RandomState(42).randn(STEPS).astype(np.float32)).double()
    columns = [torch.cat((torch.zeros(lag), stimulus[: STEPS - lag])) for lag in range(LAGS)]
    return torch.stack([torch.ones(STEPS), *columns], -1).double()


def precision():
    """Of the prior, with shape (10, 10): second differences of the filter are small."""
    differences = torch.eye(LAGS) - torch.diag(torch.ones(LAGS - 1), -1)
    factor = differences @ differences + torch.diag((torch.arange(LAGS) / LAGS).sqrt())
    return torch.block_diag(torch.tensor([[0.5]]), factor.T @ factor).double()


V, PRECISION = design(), precision()


class Statistics(TorchDistribution):
    """V^T y for spikes y with log odds with shape (*, 10) times V."""

    arg_constraints = {"t": constraints.real_vector}
    support = constraints.real_vector

    def __init__(self, t, validate_args=None):
        self.t = t
        super().__init__(t.shape[:-1], t.shape[-1:], validate_args=validate_args)

    def expand(self, batch_shape, _instance=None):
        """The same at more parameters."""
        return Statistics(self.t.expand(*batch_shape, self.t.shape[-1]), validate_args=False)

    def sample(self, sample_shape=()):
        """Draws with shape (*sample_shape, *, 10)."""
        odds = (self.t @ V.T).expand(*sample_shape, *self.batch_shape, STEPS)
        return torch.bernoulli(odds.sigmoid()) @ V

    def log_prob(self, value):
        """The log probability with shape (*), without h."""
        return (value * self.t).sum(-1) - torch.nn.functional.softplus(self.t @ V.T).sum(-1)


@nuppl.model(interest="t")
def bernoulli_glm():
    """Ten parameters, ten numbers, one mode."""
    t = nuppl.parameter("t", dist.MultivariateNormal(torch.zeros(10), precision_matrix=PRECISION), label="t")
    nuppl.observe("x", Statistics(t))
