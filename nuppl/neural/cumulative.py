"""The distribution of one number t given parameters, as a smooth tilt of its distribution over all simulations.

    P(t in bin k | theta)  =  m_k exp(sum_j c_j(theta) f_j(u_k)) / Z(theta),   u_k the quantile of the bin in the pool

m_k is the share of all simulations in a bin, f_j are logarithms at both ends and polynomials between, and a network
gives c_j(theta), at first zero. Bins are quantiles of the pool, so that t may have any scale, and values that many
simulations share (t = 0 at a boundary) keep their weight. Distributions bend where a parameter nears its bound:
besides theta the network sees the logarithm of the distance from both ends of its range. The loss is minus the log
probability of the bin: all levels are learned at once, and quantiles cannot cross. Tilts: Efron and Tibshirani, Annals
of Statistics 24 (1996) 2431; one network for the distribution of a test statistic: Dalmasso et al., arXiv:2107.03920.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nuppl.neural.estimator import Estimator
from nuppl.neural.networks import Residual
from nuppl.neural.standardize import Standardize

__all__ = ["Cumulative"]

_BINS, _TAIL = 128, 1.5
"""Bins of the pool, and the power with which they narrow towards large t."""

_WALL = 0.02
"""How far from a bound, in ranges of the parameter, the logarithm of that distance bends."""

_POLYNOMIALS, _END = 6, 0.005
"""Highest polynomial, and how far from the ends the logarithms bend."""


class Cumulative(Estimator):
    """P(t <= . | theta), with t in one column.

    Arguments:
        width, depth: of the network.
    """

    training_defaults = {"epochs": 60, "least_steps": 3_000, "batch": 512, "rate": 2e-3, "decay": 0.1, "patience": 15}
    low: Tensor
    range: Tensor
    edges: Tensor
    log_mass: Tensor
    basis: Tensor

    def __init__(self, theta_space: Standardize, data_space: Standardize, width: int = 48, depth: int = 1) -> None:
        super().__init__(theta_space, data_space)
        self.network = Residual(3 * theta_space.width, _POLYNOMIALS + 2, width=width, depth=depth).float()
        with torch.no_grad():
            for weight in self.network.leave.parameters():
                weight.zero_()
        self.register_buffer("low", torch.zeros(theta_space.width))
        self.register_buffer("range", torch.ones(theta_space.width))
        self.register_buffer("edges", torch.linspace(0.0, 1.0, _BINS + 1, dtype=torch.float64))
        self.register_buffer("log_mass", torch.zeros(_BINS))
        self.register_buffer("basis", torch.zeros(_BINS, _POLYNOMIALS + 2))

    def fit_spaces(self, theta: Tensor, x: Tensor) -> None:
        """Learn scales and bins from parameters with shape (n, D) and statistics with shape (n, 1)."""
        super().fit_spaces(theta, x)
        z = self.theta_space(theta)
        self.low.copy_(z.amin(0))
        self.range.copy_((z.amax(0) - z.amin(0)).clamp(min=1e-6))
        ordered = x[:, 0].double().sort().values
        share = 1.0 - (1.0 - torch.linspace(0.0, 1.0, _BINS + 1, dtype=torch.float64)) ** _TAIL
        self.edges.copy_(ordered[(share * (len(ordered) - 1)).round().long()])
        mass = torch.bincount(self._bin(ordered), minlength=_BINS).double() / len(ordered)
        middle = mass.cumsum(0) - 0.5 * mass
        self.log_mass.copy_(mass.clamp(min=1e-9).log())
        self.basis.copy_(_basis(middle))

    def loss(self, theta: Tensor, x: Tensor, generator: torch.Generator) -> Tensor:
        """Minus the log probability of the bins, with shape (n,); draws nothing."""
        return -self._log_bins(theta).gather(1, self._bin(x[:, 0])[:, None])[:, 0]

    def table(self, theta: Tensor) -> Tensor:
        """The probability below each edge, with shape (n, K + 1), at parameters with shape (n, D)."""
        mass = self._log_bins(theta).double().exp()
        return torch.cat([torch.zeros_like(mass[:, :1]), mass.cumsum(1)], 1)

    def cumulative(self, t: Tensor, table: Tensor) -> Tensor:
        """P(t' <= t | theta) with shape (n,), at statistics with shape (n,) and the `table` of their parameters."""
        upper, t = self.edges[1:].contiguous(), t.double().contiguous()
        k = torch.searchsorted(upper, t, right=True).clamp(max=_BINS - 1)
        width = (upper[k] - self.edges[k]).clamp(min=1e-300)
        part = ((t - self.edges[k]) / width).clamp(0.0, 1.0)
        low, high = (table.gather(1, at[:, None])[:, 0] for at in (k, k + 1))
        return torch.where(t < self.edges[0], 0.0, low + part * (high - low))

    def _log_bins(self, theta: Tensor) -> Tensor:
        z = self.theta_space(theta)
        near = (z - self.low) / self.range
        ends = [(side.clamp(0.0, 1.0) + _WALL).log() for side in (near, 1.0 - near)]
        tilt: Tensor = self.network(torch.cat([z, *ends], 1)) @ self.basis.T
        return (self.log_mass + tilt).log_softmax(1)

    def _bin(self, t: Tensor) -> Tensor:
        return torch.searchsorted(self.edges[1:-1].contiguous(), t.double().contiguous())


def _basis(u: Tensor) -> Tensor:
    """The functions f_j with shape (K, J), at quantiles with shape (K,)."""
    x, found = 2.0 * u - 1.0, [torch.ones_like(u), 2.0 * u - 1.0]
    for n in range(2, _POLYNOMIALS + 1):  # Legendre's recurrence
        found.append(((2 * n - 1) * x * found[-1] - (n - 1) * found[-2]) / n)
    ends = [0.5 * (u + _END).log(), 0.5 * (1.0 - u + _END).log()]
    return torch.stack(found[1:] + ends, 1).float()
