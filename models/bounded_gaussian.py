"""A measurement of a quantity that cannot be negative: the classical bounded Gaussian (Feldman and Cousins 1998)."""

import pyro.distributions as dist

import nuppl


@nuppl.model(interest="mu")
def bounded_gaussian(width: float = 1.0):
    """x was measured with a known width; mu is at least zero."""
    mu = nuppl.parameter("mu", dist.Uniform(0.0, 10.0), label=r"\mu", nominal=1.0)
    nuppl.observe("x", dist.Normal(mu, width), 1.0, label="x")
