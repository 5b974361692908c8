"""A normal mean with a uniform prior in ten dimensions: t ~ U(-1, 1), x ~ N(t, 0.1), the last number a variance.

Lueckmann et al., Benchmarking Simulation-Based Inference, arXiv:2101.04653. The prior cuts the posterior.
"""

import math

import pyro.distributions as dist

import nuppl

SPREAD = math.sqrt(0.1)


@nuppl.model(interest="t")
def gaussian_linear_uniform():
    """Ten parameters, ten numbers, a normal posterior with edges."""
    with nuppl.plate("component", 10, dim=-1):
        t = nuppl.parameter("t", dist.Uniform(-1.0, 1.0), label="t")
        nuppl.observe("x", dist.Normal(t, SPREAD))
