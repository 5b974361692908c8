"""A toy of a search for a sterile neutrino: a near and a far detector at one source.

    mu_db = N_d s_b (1 + 0.03 rate + 0.02 far_rate [d = far] + 0.02 slope t_b) (1 - sin2_2theta14 sin^2(phase_db))

The numbers are invented, the statistics those of the real thing: a boundary at no mixing, many minima in the
splitting, and p-values that Wilks' theorem gets wrong. The counts are pseudo-data without oscillation, drawn once:
`simulate(two_detector.bind(fixed={"sin2_2theta14": 0.0, "dm2_41": 1.0}), 1, seed=1)`.
"""

import pyro.distributions as dist
import torch

import nuppl
from nuppl.units import OSCILLATION_PHASE

BASELINES = torch.tensor([[8.0], [16.0]])  # in metres
ENERGIES = torch.linspace(2.25, 6.75, 10)  # centres of the bins, in MeV
EVENTS = torch.tensor([[4000.0], [2000.0]])  # expected without oscillation
SPECTRUM = torch.exp(-0.5 * ((ENERGIES - 3.6) / 1.4) ** 2)
TILT = (ENERGIES - 4.5) / 2.25
FAR = torch.tensor([[0.0], [1.0]])  # marks the far detector
# fmt: off
COUNTS = torch.tensor([
    [390.0, 522.0, 706.0, 617.0, 629.0, 468.0, 316.0, 196.0, 117.0, 53.0],
    [205.0, 263.0, 323.0, 334.0, 286.0, 274.0, 161.0, 108.0, 59.0, 24.0],
])
# fmt: on


@nuppl.model(interest=("sin2_2theta14", "dm2_41"))
def two_detector():
    """Twenty bins, two parameters, three pulls."""
    mixing = nuppl.parameter("sin2_2theta14", dist.Uniform(0.0, 1.0), nominal=0.0, label=r"\sin^2 2\theta_{14}")
    splitting = nuppl.parameter("dm2_41", nuppl.LogUniform(0.1, 10.0), unit="eV^2", label=r"\Delta m^2_{41}")
    rate = nuppl.pull("rate", label=r"\eta_\mathrm{rate}")
    far = nuppl.pull("far_rate", label=r"\eta_\mathrm{far}")
    slope = nuppl.pull("slope", label=r"\eta_\mathrm{slope}")
    survival = 1.0 - mixing * torch.sin(OSCILLATION_PHASE * splitting * BASELINES / ENERGIES).square()
    systematics = (1.0 + 0.03 * rate + 0.02 * far * FAR + 0.02 * slope * TILT).clamp(min=0.0)
    expected = EVENTS * SPECTRUM / SPECTRUM.sum() * systematics * survival
    with (
        nuppl.plate("detector", ("near", "far"), dim=-2),
        nuppl.plate("energy", ENERGIES, dim=-1, unit="MeV"),
    ):
        nuppl.observe("counts", dist.Poisson(expected), COUNTS, unit="events")
