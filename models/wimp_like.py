"""A search like that for dark matter with liquid xenon: nuclear recoils among electron recoils, in six bins.

    expected_b = signal s_b + B_b,   b a bin in the ratio of charge to light, away from the electron recoils

A small stand-in for the example of arXiv:2507.17831, for statistics that are focused on no signal; shapes and
background are invented, and such that a signal of three events is one standard deviation. The counts are pseudo-data
without signal, drawn once: `simulate(wimp_like.bind(fixed={"signal": 0.0}), 1, seed=1)`.
"""

import pyro.distributions as dist
import torch

import nuppl

SHAPE = torch.tensor([0.30, 0.25, 0.20, 0.12, 0.08, 0.05])  # of the recoils of nuclei
BACKGROUND = torch.tensor([1.2, 2.8, 8.0, 32.0, 160.0, 600.0])  # electrons, leaking into the bins of nuclei
COUNTS = torch.tensor([0.0, 3.0, 12.0, 29.0, 149.0, 610.0])


@nuppl.model(interest="signal")
def wimp_like():
    """Six bins, one parameter."""
    signal = nuppl.parameter("signal", dist.Uniform(0.0, 30.0), unit="events", label="s", nominal=0.0)
    with nuppl.plate("charge_to_light", 6, dim=-1):
        nuppl.observe("counts", dist.Poisson(signal * SHAPE + BACKGROUND), COUNTS, unit="events")
