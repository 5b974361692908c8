"""A normal mean with a normal prior in ten dimensions: t ~ N(0, 0.1), x ~ N(t, 0.1), both numbers variances.

Lueckmann et al., Benchmarking Simulation-Based Inference, arXiv:2101.04653.
"""

import math

import pyro.distributions as dist

import nuppl

SPREAD = math.sqrt(0.1)


@nuppl.model(interest="t")
def gaussian_linear():
    """Ten parameters, ten numbers, a normal posterior."""
    with nuppl.plate("component", 10, dim=-1):
        t = nuppl.parameter("t", dist.Normal(0.0, SPREAD), label="t")
        nuppl.observe("x", dist.Normal(t, SPREAD))
