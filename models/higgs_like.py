"""A measurement like that of Higgs bosons to tau pairs: the strength of a known signal, in five bins of a classifier.

    expected_b = mu S_b + B_b,   mu = 1 in the standard model

A small stand-in for the example of arXiv:2507.17831, for statistics that are focused on mu = 1; signal and background
are invented, and such that the strength is measured to 0.21, far from its bound at zero. The counts are pseudo-data,
drawn once: `simulate(higgs_like.bind(fixed={"mu": 1.0}), 1, seed=1)`.
"""

import pyro.distributions as dist
import torch

import nuppl

SIGNAL = torch.tensor([3.0, 8.0, 20.0, 35.0, 40.0])  # expected events at mu = 1
BACKGROUND = torch.tensor([900.0, 700.0, 400.0, 200.0, 60.0])
COUNTS = torch.tensor([830.0, 699.0, 412.0, 241.0, 110.0])


@nuppl.model(interest="mu")
def higgs_like():
    """Five bins, one parameter."""
    mu = nuppl.parameter("mu", dist.Uniform(0.0, 3.0), label=r"\mu", nominal=1.0)
    with nuppl.plate("score", 5, dim=-1):
        nuppl.observe("counts", dist.Poisson(mu * SIGNAL + BACKGROUND), COUNTS, unit="events")
