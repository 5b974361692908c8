"""Predators and prey over twenty units of time, each counted ten times to ten per cent.

    d log u / dt = a - b v,   d log v / dt = d u - c,   u(0) = 30,  v(0) = 1,   log x ~ N(log (u, v), 0.1)

Lueckmann et al., Benchmarking Simulation-Based Inference, arXiv:2101.04653, after Lotka (1920).
"""

import math

import pyro.distributions as dist
import torch

import nuppl
from nuppl.neural.ode import transport

START = (30.0, 1.0)
TIMES = 2.1 * torch.arange(10)
STEPS = 100  # between two counts


def logarithms(a, b, c, d):
    """log u and log v at all times with shape (*, 2, 10), for rates with shape (*, 1, 1)."""

    start, slope = torch.cat((a, -c), -2), torch.cat((-b, d), -2)

    def change(time, y):
        return start + slope * y.flip(-2).exp()

    y = torch.cat([torch.full_like(a, math.log(number)) for number in START], -2)
    grid, values = torch.linspace(0.0, float(TIMES[1]), STEPS + 1), [y]
    for _ in TIMES[1:]:
        y, _ = transport(change, y, grid, density=False)
        values.append(y)
    return torch.cat(values, -1).clamp(math.log(1e-10), math.log(1e4))


@nuppl.model(interest=("a", "b", "c", "d"))
def lotka_volterra():
    """Four parameters, twenty positive numbers."""
    middles = {"a": -0.125, "b": -3.0, "c": -0.125, "d": -3.0}
    rates = [nuppl.parameter(name, dist.LogNormal(middle, 0.5), label=name) for name, middle in middles.items()]
    y = logarithms(*map(torch.atleast_2d, rates))
    with nuppl.plate("species", ["prey", "predator"], dim=-2), nuppl.plate("time", TIMES, dim=-1):
        nuppl.observe("x", dist.LogNormal(y, 0.1))
