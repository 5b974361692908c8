"""The rate of a source from what a counter with (paralysable) dead time recorded, which can only be simulated.

Events of rate r are recorded if the last one, recorded or not, is longer ago than the dead time t: r exp(-r t) on
average, so that a low and a high rate look nearly alike. Only the scatter of the counts, below
Poisson's, tells them apart.

    nuppl infer examples/dead_time.py:dead_time --engine nle --out runs/dead_time-nle
    nuppl infer examples/dead_time.py:learned --engine hmc

The first learns the density of the counts from simulations, the second runs any engine on what was learned.
"""

import torch

import nuppl

WINDOW, WINDOWS = 0.1, 8  # of counting: length in s, and how many
DEAD_TIME, DEAD_TIME_ERROR = 1.0e-3, 0.05e-3  # in s
HIGHEST = 5000.0  # rate in 1/s
EVENTS = 650  # more than come in a window at that rate, by six standard deviations
RECORDED = torch.tensor([27.0, 24.0, 30.0, 26.0, 31.0, 25.0, 28.0, 24.0])


def counter(rate, dead_time):
    """Recorded counts with shape (*, 8), at rates and dead times with shape (*)."""
    gaps = torch.empty(*rate.shape, WINDOWS, EVENTS).exponential_() / rate[..., None, None]
    seen = (gaps > dead_time[..., None, None]) & (gaps.cumsum(-1) < WINDOW)
    return seen.sum(-1).double()


@nuppl.model(interest="rate")
def dead_time():
    """The dead time was measured to 5 %."""
    rate = nuppl.parameter("rate", nuppl.LogUniform(50.0, HIGHEST), unit="1/s", label="r", nominal=400.0)
    shift = nuppl.pull("dead_time_shift", label=r"\Delta t / \sigma_t")
    live = (DEAD_TIME + DEAD_TIME_ERROR * shift).clamp(min=0.0)
    nuppl.observe("recorded", nuppl.Simulator(counter, rate, live, event_shape=(WINDOWS,)), RECORDED)


learned = nuppl.surrogate(dead_time, "recorded", "runs/dead_time-nle", name="learned")
