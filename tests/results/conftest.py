"""Two small programs and draws from their posteriors, known in closed form."""

from __future__ import annotations

import pyro.distributions as dist
import pytest
import torch

import nuppl
from nuppl.results.draws import Draws

NAMES = ("near", "far")
ENERGIES = tuple(1.0 + 0.5 * i for i in range(10))
CHAINS, DRAWS = 2, 300


@nuppl.model(interest="mu")
def counting(background: float = 3.0):
    """Signal over background."""
    mu = nuppl.parameter("mu", dist.Uniform(0.0, 60.0), unit="events", label=r"\mu")
    nuppl.observe("n", dist.Poisson(mu + background), 20.0, unit="events")


@nuppl.model(interest=("depth",), reference={"depth": 0.0}, panels={"both": NAMES})
def spectrum(flux: str = "HM", fast: bool = True):
    """Two detectors see a dip of the given depth."""
    depth = nuppl.parameter("depth", dist.Uniform(0.01, 0.5), label="d")
    scale = nuppl.parameter("scale", dist.Normal(1.0, 0.1))
    with nuppl.plate("template", 3, dim=-3):
        shape = nuppl.pull("shape")
    tilt = nuppl.pull("tilt", dist.Normal(2.0, 0.5))
    energy = torch.tensor(ENERGIES)
    templates = torch.stack([energy**0, energy, energy**2])[:, None, :] * 1e-4
    dip = torch.tensor([[0.1], [1.0]]) * torch.exp(-((energy - 3.0) ** 2))
    correction = (shape * templates).sum(-3, keepdim=True) if shape.dim() else 0.0
    expected = 400.0 * scale * (1.0 - depth * dip) * (1.0 + 0.01 * tilt + correction)
    with nuppl.plate("detector", NAMES, dim=-2), nuppl.plate("energy", ENERGIES, dim=-1):
        nuppl.observe("counts", dist.Poisson(expected), torch.full((2, 10), 400.0))


@pytest.fixture
def counting_program():
    return counting.bind()


@pytest.fixture
def counting_draws():
    """n = 20 and a flat prior: mu + 3 is Gamma(21, 1), cut at 3 where next to nothing lies."""
    generator = torch.Generator().manual_seed(1)
    uniform = torch.rand(21, CHAINS, DRAWS, generator=generator, dtype=torch.float64)
    return Draws({"mu": -uniform.log().sum(0) - 3.0}, {"lp": torch.zeros(CHAINS, DRAWS)}, engine="exact")


@pytest.fixture
def spectrum_program():
    return spectrum.bind(fixed={"scale": 1.02})


@pytest.fixture
def spectrum_draws():
    generator = torch.Generator().manual_seed(2)

    def noise(*shape):
        return torch.randn(CHAINS, DRAWS, *shape, generator=generator, dtype=torch.float64)

    values = {"depth": 0.05 + 0.01 * noise().abs(), "shape": noise(3), "tilt": 2.0 + 0.4 * noise()}
    stats = {"diverging": torch.zeros(CHAINS, DRAWS, dtype=torch.bool)}
    return Draws(values, stats, {"failures": 0, "pareto_k": float("nan")}, "nuts")
