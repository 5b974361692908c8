"""Where toys come from: the program itself, and its nuisances as asked for."""

from __future__ import annotations

from pathlib import Path

import pyro.distributions as dist
import pytest
import torch

import nuppl
from nuppl.errors import InputError
from nuppl.frequentist.grid import Grid
from nuppl.frequentist.nuisances import NUISANCES, Nuisances
from nuppl.frequentist.profile import profile
from nuppl.frequentist.scan import scan
from nuppl.frequentist.throwing import simulator, throw
from nuppl.frequentist.toys import TILE, Thrower
from nuppl.language.loading import load_model
from nuppl.language.precision import double_precision
from nuppl.learning.likelihoods import learn
from nuppl.learning.surrogate import stand_in
from nuppl.sampling.settings import Settings

COUNTING = Path(__file__).parents[2] / "models" / "counting.py"
X = torch.tensor([0.4, -0.1], dtype=torch.float64)


@pytest.fixture(autouse=True)
def double():
    with double_precision():
        yield


@nuppl.model(interest="mu")
def drawn_only():
    """Two measurements of mu that can be drawn, but whose density is not known."""
    mu = nuppl.parameter("mu", dist.Uniform(-3.0, 3.0))
    noisy = nuppl.Simulator(lambda m: m[..., None] + 0.5 * torch.randn(*m.shape, 2), mu, event_shape=(2,))
    nuppl.observe("x", noisy, X)


@nuppl.model(interest="mu")
def with_calibration():
    """The same with an unknown offset that is in the simulation alone."""
    mu = nuppl.parameter("mu", dist.Uniform(-3.0, 3.0))
    offset = nuppl.pull("offset")
    noisy = nuppl.Simulator(lambda m: m[..., None] + 0.5 * torch.randn(*m.shape, 2), mu + offset, event_shape=(2,))
    nuppl.observe("x", noisy, X)


@pytest.fixture(scope="module")
def ratio():
    with double_precision():
        return learn(drawn_only.bind(), "nre", Settings(seed=3, simulations=2000, epochs=15))


@pytest.fixture(scope="module")
def scanned(ratio):
    with double_precision():
        program = stand_in(drawn_only.bind(), ratio)
        return profile(program, Grid.over(program, ["mu=-1.5:1.5"], [7]))


def test_a_learned_ratio_is_scanned_with_toys_of_the_program(scanned):
    assert simulator(scanned.likelihoods.natural.program).model is drawn_only
    found = scan(scanned, [0.6827, 0.9], 2 * TILE, seed=1)
    assert int(found.failed.sum()) <= 0.02 * found.statistic.numel()
    # Two measurements with error 0.5: the mean is 0.15 +- 0.354, and t = ((mean - mu) / 0.354)^2.
    mu = scanned.grid.points[:, 0]
    exact = 2.0 * (1.0 - torch.distributions.Normal(0.0, 1.0).cdf((0.15 - mu).abs() / 0.125**0.5))
    # The ratio is only roughly right, the p-value of a statistic as good as its toys: 512 of them, and a weaker test.
    assert float((found.p_value[0] - exact).abs().max()) < 0.15
    assert float(found.p_value[0][0]) < 0.02 and float(found.p_value[0][3]) > 0.4


def test_toys_of_a_stand_in_have_the_spread_of_the_program(scanned):
    program = scanned.likelihoods.natural.program
    thrown = throw(program, 4000, seed=5, at={"mu": torch.tensor(1.0)})
    assert thrown.data["x"].shape == (4000, 2) and not thrown.centers
    assert thrown.data["x"].mean(0).tolist() == pytest.approx([1.0, 1.0], abs=0.035)
    assert thrown.data["x"].std(0).tolist() == pytest.approx([0.5, 0.5], abs=0.025)


def test_latents_that_nobody_asks_for_are_drawn_from_their_priors():
    thrown = throw(with_calibration.bind(), 4000, seed=5, at={"mu": torch.tensor(1.0)}, predictive=True)
    assert thrown.data["x"].std(0).tolist() == pytest.approx([1.25**0.5] * 2, abs=0.06)
    assert bool((thrown.centers["offset"] == 0.0).all())
    with pytest.raises(InputError, match="missing offset"):
        throw(with_calibration.bind(), 10, seed=5, at={"mu": torch.tensor(1.0)})


def test_a_simulator_that_fails_is_an_error():
    @nuppl.model(interest="mu")
    def broken():
        mu = nuppl.parameter("mu", dist.Uniform(-3.0, 3.0))
        nuppl.observe("x", nuppl.Simulator(lambda m: m.log() + torch.randn(m.shape), mu), torch.tensor(0.1))

    with pytest.raises(InputError, match="simulator of 'x' failed in 16 of 16"):
        throw(broken.bind(), 16, seed=1, at={"mu": torch.tensor(-1.0)})


@pytest.fixture(scope="module")
def counting():
    with double_precision():
        program = load_model(COUNTING)[0].bind()
        return profile(program, Grid.over(program, ["signal=0:12"], [4]))


def test_each_construction_throws_what_it_says(counting):
    """Counts vary by Poisson alone around the profiled background, and by its uncertainty too where it is drawn."""
    size = 64
    for name in NUISANCES:
        thrower = Thrower.of(counting, 1, nuisances=Nuisances(name))
        tiles = [thrower.at(2, number) for number in range(size)]
        counts = torch.cat([tile.data["counts"] for tile in tiles])
        centers = torch.cat([tile.centers["background_shift"] for tile in tiles])
        mean = float(counts.mean())
        if name == "prior":
            assert bool((centers == 0.0).all()) and mean == pytest.approx(11.0, abs=0.12)
            assert float(counts.var()) == pytest.approx(11.25, abs=0.6)
        if name == "profile":
            pull = float(counting.likelihoods.natural.values(counting.minima.point)["background_shift"][2])
            assert mean == pytest.approx(11.0 + 0.5 * pull, abs=0.12)
            assert float(centers.mean()) == pytest.approx(pull, abs=0.04)
            assert float(centers.std()) == pytest.approx(1.0, abs=0.04)
        if name == "berger-boos":
            means = {round(float(tile.centers["background_shift"].mean()), 0) for tile in tiles[:5]}
            assert len(means) >= 3  # the profiled pull, and both ends of its region


def test_berger_boos_is_never_below_the_profile_construction(counting):
    toys = 5 * TILE
    wide = scan(counting, [0.9], toys, nuisances=Nuisances("berger-boos"))
    narrow = scan(counting, [0.9], toys)
    assert bool((wide.critical[0] >= narrow.critical[0] - 3.0 * narrow.critical[1]).all())
    assert bool((wide.p_value[0] >= narrow.p_value[0] - 4.0 * narrow.p_value[1]).all())
    with pytest.raises(InputError, match="at least 1280 per point"):
        scan(counting, [0.9], TILE, nuisances=Nuisances("berger-boos"))
    with pytest.raises(InputError, match=r"levels below 0\.999"):
        _ = scan(counting, [0.9995], toys, nuisances=Nuisances("berger-boos")).critical


def test_an_unknown_construction_is_refused():
    with pytest.raises(InputError, match="construction of nuisances 'profil'"):
        Nuisances("profil")
