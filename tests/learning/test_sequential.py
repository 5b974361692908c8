"""Networks that learn round by round near one data set: where they simulate, what they give, whom they serve."""

from __future__ import annotations

import math
from dataclasses import replace

import pyro.distributions as dist
import pytest
import torch

import nuppl
from nuppl.errors import InputError
from nuppl.inference.registry import engine
from nuppl.language.precision import double_precision
from nuppl.learning.neural_guide import NeuralGuide
from nuppl.learning.sequential import Region
from nuppl.results.checkpoints import Checkpoints
from nuppl.sampling.settings import Settings

SEEN = torch.tensor([0.9, 0.4, 0.6, 0.5], dtype=torch.float64)
ROUNDS = Settings(seed=5, simulations=900, epochs=6, draws=200, chains=2, rounds=3, proposals=500)


@pytest.fixture(autouse=True)
def double():
    with double_precision():
        yield


@nuppl.model(interest="mu")
def simulator(scatter: float = 0.05):
    """Noisy copies of mu, far narrower than its prior, that can only be drawn."""
    mu = nuppl.parameter("mu", dist.Uniform(-3.0, 3.0))
    noisy = nuppl.Simulator(lambda m: m[..., None] + scatter * torch.randn(*m.shape, 4), mu, event_shape=(4,))
    nuppl.observe("x", noisy, SEEN)


@nuppl.model(interest="mean")
def tractable():
    """The same with a density, and another prior, so that draws are weighted."""
    mean = nuppl.parameter("mean", dist.Normal(0.0, 2.0))
    with nuppl.plate("bin", 4, dim=-1):
        nuppl.observe("x", dist.Normal(mean, 0.1), SEEN)


class Normals:
    """A network that answers with standard normals whatever the data."""

    def sample(self, x, n, generator):
        return torch.randn(n, 2, generator=generator)

    def sample_with_log_prob(self, x, n, generator):
        z = self.sample(x, n, generator)
        return z, self.log_prob(z, x)

    def log_prob(self, theta, x):
        return -0.5 * theta.square().sum(-1) - math.log(2 * math.pi)


@nuppl.model
def plane(narrow: bool = False):
    """Two latents with standard normal priors, or one that no transport makes normal."""
    nuppl.parameter("a", dist.Normal(0.0, 1.0))
    nuppl.parameter("b", dist.Gamma(2.0, 1.0) if narrow else dist.Normal(0.0, 1.0))
    nuppl.observe("x", dist.Normal(0.0, 1.0), 0.0)


def region(width: float) -> Region:
    loc = torch.tensor([1.0, -0.5])
    return Region.of(NeuralGuide(Normals(), torch.zeros(0), loc, width * torch.eye(2)), seed=3)


def test_a_region_holds_all_but_a_ten_thousandth_of_its_guide():
    found = region(0.2)
    radius = math.sqrt(2 * math.log(1e4))  # of a normal in the plane
    u, _ = found.guide.bare(20_000, 4, 1 << 24)
    outside = int((~found.contains(u)).sum())
    assert outside <= 12  # two expected; and the threshold itself scatters
    distance = (u - found.guide.loc).norm(dim=1) / 0.2
    assert float(distance[found.contains(u)].max()) == pytest.approx(radius, rel=0.1)


@pytest.mark.parametrize("width", [0.5, 0.02], ids=["rejected", "resampled"])
def test_simulations_follow_the_prior_inside_the_region(width):
    found = region(width)
    drawn = found.prior(2000, plane.bind(), torch.arange(2), seed=7)
    assert drawn.shape == (2000, 2) and bool(found.contains(drawn).all())
    # The prior within a disc: by quadrature over a fine grid of it.
    axis = torch.linspace(-4.5, 4.5, 401) * width
    grid = found.guide.loc + torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    weight = torch.where(found.contains(grid), (-0.5 * grid.square().sum(1)).exp(), 0.0)
    weight = weight / weight.sum()
    mean = weight @ grid
    sd = (weight @ (grid - mean).square()).sqrt()
    assert bool(((drawn.mean(0) - mean).abs() < 6 * sd / math.sqrt(2000)).all())
    assert drawn.std(0).tolist() == pytest.approx(sd.tolist(), rel=0.1)


def test_a_prior_that_is_not_normal_is_weighted(tmp_path):
    found = region(0.02)
    drawn = found.prior(500, plane.bind({"narrow": True}), torch.arange(2), seed=7)
    assert drawn.shape == (500, 2) and bool(found.contains(drawn).all())


def test_rounds_sharpen_a_posterior_without_density(tmp_path):
    asked = replace(ROUNDS, epochs=15, draws=1000)
    wide = engine("npe")(simulator.bind(), replace(asked, rounds=1))
    drawn = engine("npe")(simulator.bind(), replace(asked, kept=tmp_path))
    assert drawn.attrs["rounds"] == 3 and drawn.attrs["simulations"] == 900
    sd = 0.05 / 2
    assert float(drawn.values["mu"].mean()) == pytest.approx(0.6, abs=sd)
    # What one round leaves too wide three rounds do not.
    widths = [float(some.values["mu"].std()) / sd for some in (wide, drawn)]
    assert widths[1] < 1.6 and widths[1] < widths[0]
    served = engine("npe")(simulator.bind(), replace(asked, guide=str(tmp_path), rounds=1))
    assert torch.equal(served.values["mu"], drawn.values["mu"])
    with pytest.raises(InputError, match=r"learned in rounds.*serves no other.*--rounds 1"):
        engine("npe")(simulator.bind(data={"x": SEEN + 0.1}), replace(asked, guide=str(tmp_path), rounds=1))


class Interrupted(Exception):
    pass


def test_interrupted_anywhere_rounds_end_with_the_same_draws(tmp_path, monkeypatch):
    monkeypatch.setattr(Checkpoints, "due", lambda self: self.folder is not None)
    asked = replace(ROUNDS, epochs=3)
    whole = engine("npe")(tractable.bind(), asked)
    assert whole.attrs["efficiency"] > 0.5
    lives, again = 0, None
    while again is None:
        left = [3 + lives]

        def progress(done, total, what, left=left):
            left[0] -= 1
            if left[0] < 0:
                raise Interrupted

        try:
            again = engine("npe")(tractable.bind(), replace(asked, scratch=tmp_path), progress)
        except Interrupted:
            lives += 1
    assert lives >= 3
    assert torch.equal(whole.values["mean"], again.values["mean"]) and whole.attrs == again.attrs


@pytest.mark.parametrize(
    ("name", "asked", "message"),
    [
        ("smc", {"rounds": 2}, "rounds: expected 1, as smc has none"),
        ("npe", {"guide": "svi"}, "guide: npe trains a network of its own.*--engine importance"),
        ("nle", {"guide": "prior"}, "guide: nle trains a network of its own"),
    ],
)
def test_settings_that_an_engine_cannot_follow_are_refused(name, asked, message):
    with pytest.raises(InputError, match=message):
        engine(name)(tractable.bind(), Settings(**asked))
