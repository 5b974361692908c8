"""A result like that of a reactor experiment: eight detectors, 26 bins, thirty pulls and a vector of eighty more."""

from __future__ import annotations

import pyro.distributions as dist
import pytest
import torch

import nuppl
from nuppl.results.draws import Draws
from nuppl.results.schema import inferred

NAMES = ("AD11", "AD12", "AD21", "AD22", "AD31", "AD32", "AD33", "AD34")
ENERGIES = tuple(round(1.0 + 0.25 * i, 2) for i in range(26))
LONG = 80


@nuppl.model(
    interest=("sin2_2theta13", "dm2_32"),
    reference={"sin2_2theta13": 0.0},
    panels={"near": NAMES[:4], "far": NAMES[4:]},
    sources=("A & B <i>Collaboration</i>, doi:10.1000/182", "C., arXiv:2211.14988"),
)
def reactor(flux: str = "<HM> & more"):
    """Disappearance in eight detectors, with a <b>hostile</b> docstring."""
    depth = nuppl.parameter("sin2_2theta13", dist.Uniform(0.0, 0.2), label=r"\sin^2 2\theta_{13}")
    dm2 = nuppl.parameter("dm2_32", dist.Uniform(2.0e-3, 3.0e-3), unit="eV^2", label=r"\Delta m^2_{32}")
    broken = nuppl.pull("broken_label", label=r"\no{such")
    rate = 1.0 + 0.002 * broken
    for i in range(20):
        rate = rate + 0.001 * nuppl.pull(f"background_{i}")
    with nuppl.plate("core", ["D1", "D2", "L1", "L2", "L3", "$4"], dim=-3):
        power = nuppl.pull("thermal_power", label=r"P_\mathrm{th}")
    with nuppl.plate("antineutrino_energy", [1.8 + 0.1 * i for i in range(LONG)], dim=-3):
        shape = nuppl.pull("spectrum_shape")
    if power.dim():
        rate = rate + 0.001 * power.sum(-3, keepdim=True) + 1e-4 * shape.sum(-3, keepdim=True)
    energy, length = torch.tensor(ENERGIES), torch.tensor([500.0] * 4 + [1650.0] * 4)[:, None]
    spectrum = torch.where(length < 1000.0, 4e4, 5e3) * torch.exp(-(((energy - 3.6) / 2.2) ** 2))
    survival = 1.0 - depth * torch.sin(1.267 * dm2 * length / (energy + 0.8)) ** 2
    with nuppl.plate("detector", NAMES, dim=-2), nuppl.plate("prompt_energy", ENERGIES, dim=-1):
        truth = spectrum * (1.0 - 0.085 * torch.sin(1.267 * 2.45e-3 * length / (energy + 0.8)) ** 2)
        nuppl.observe("counts", dist.Poisson(spectrum * survival * rate), truth.round(), label="N")
    nuppl.observe("livetime", dist.Normal(3158.0 * rate, 10.0), 3158.0, unit="d")


@pytest.fixture(scope="session")
def groups():
    generator = torch.Generator().manual_seed(4)

    def noise(*shape):
        return torch.randn(2, 400, *shape, generator=generator, dtype=torch.float64)

    program = reactor.bind()
    values = {name: 0.5 * noise(*site.shape) for name, site in program.latents.items() if site.kind == "pull"}
    values |= {"sin2_2theta13": 0.085 + 0.0024 * noise(), "dm2_32": 2.45e-3 + 6e-5 * noise()}
    return inferred(program, Draws(values, attrs={"failures": 0}, engine="nuts"), seed=9, prior_draws=64)
