"""An epidemic in a million people, of whom a thousand are tested on ten days: who is infected?

    dS/dt = -b S I / N,   dI/dt = b S I / N - g I,   x_k ~ Binomial(1000, I(17 k days) / N),   k = 0 .. 9

Lueckmann et al., Benchmarking Simulation-Based Inference, arXiv:2101.04653, after Kermack and McKendrick (1927).
"""

import math

import pyro.distributions as dist
import torch

import nuppl
from nuppl.neural.ode import transport

PEOPLE, TESTED = 1e6, 1000.0
DAYS = 17.0 * torch.arange(10)
STEPS = 68  # between two days of tests


def infected(b, g):
    """The share of the infected on the days of tests with shape (*, 10), for rates per day with shape (*, 1)."""

    def change(time, y):
        caught = b * y[..., :1] * y[..., 1:]
        return torch.cat((-caught, caught - g * y[..., 1:]), -1)

    y = torch.cat((torch.full_like(b, 1.0 - 1.0 / PEOPLE), torch.full_like(b, 1.0 / PEOPLE)), -1)
    grid, shares = torch.linspace(0.0, float(DAYS[1]), STEPS + 1), [y[..., 1:]]
    for _ in DAYS[1:]:
        y, _ = transport(change, y, grid, density=False)
        shares.append(y[..., 1:])
    return torch.cat(shares, -1).clamp(0.0, 1.0)


@nuppl.model(interest=("b", "g"))
def sir():
    """Two parameters, ten counts."""
    b = nuppl.parameter("b", dist.LogNormal(math.log(0.4), 0.5), unit="1/day", label=r"\beta")
    g = nuppl.parameter("g", dist.LogNormal(math.log(0.125), 0.2), unit="1/day", label=r"\gamma")
    with nuppl.plate("day", DAYS, dim=-1, unit="day"):
        nuppl.observe("x", dist.Binomial(TESTED, infected(*map(torch.atleast_1d, (b, g)))))
