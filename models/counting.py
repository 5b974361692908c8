"""A counting experiment: a Poisson signal over a background that a sideband measured."""

import pyro.distributions as dist

import nuppl


@nuppl.model(interest="signal")
def counting(background: float = 3.0, background_error: float = 0.5):
    """Signal over a background of 3.0 +- 0.5 expected events; 7 events were seen."""
    signal = nuppl.parameter("signal", dist.Uniform(0.0, 30.0), unit="events", label="s", nominal=4.0)
    shift = nuppl.pull("background_shift", label=r"\Delta b / \sigma_b")
    expected = signal + (background + background_error * shift).clamp(min=0.0)
    nuppl.observe("counts", dist.Poisson(expected), 7.0, unit="events", label="n")
