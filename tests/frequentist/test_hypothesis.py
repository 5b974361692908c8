"""A hypothesis and the sensitivity of the bounded Gaussian, of which everything is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import norm

from nuppl.errors import InputError
from nuppl.frequentist.critical import p_value
from nuppl.frequentist.grid import Grid
from nuppl.frequentist.hypothesis import hypothesis
from nuppl.frequentist.profile import profile
from nuppl.frequentist.refined import refined
from nuppl.frequentist.scan import null_toys
from nuppl.frequentist.sensitivity import pseudo_data, sensitivity
from nuppl.frequentist.toys import Thrower
from nuppl.language.loading import load_model

MODELS = Path(__file__).parents[2] / "models"


@pytest.fixture(scope="module")
def gaussian():
    program = load_model(str(MODELS / "bounded_gaussian.py"))[0].bind()
    return profile(program, Grid.over(program, ["mu=0:4"], [9]))


def test_the_p_value_of_the_bound_is_that_of_half_a_chi_squared(gaussian):
    found = hypothesis(gaussian, {"mu": 0.0})
    assert found.statistic == pytest.approx(1.0, abs=1e-6) and found.converged
    t, failed = null_toys(found, Thrower.of(gaussian, 1), 4096)
    p, error = p_value(t, torch.tensor(found.statistic, dtype=t.dtype))
    # x = 1 was measured: t = x^2 of positive x, P(x >= 1).
    assert not failed.any() and float(p) == pytest.approx(norm.sf(1.0), abs=4 * float(error))
    assert float((t < 1e-9).double().mean()) == pytest.approx(0.5, abs=0.03)
    again, _ = null_toys(found, Thrower.of(gaussian, 1), 300)
    assert torch.equal(again, t[:512])


def test_experiments_at_the_bound_have_the_statistic_that_algebra_gives(gaussian):
    truth = {"mu": torch.tensor(0.0, dtype=torch.float64)}
    found = sensitivity(gaussian, truth, 400, seed=2)
    mu = gaussian.grid.axes[0].values
    torch.testing.assert_close(found.asimov, mu.square(), atol=1e-6, rtol=1e-6)
    # t(mu) = (x - mu)^2 - min(x, 0)^2 falls with x below mu: its quantiles are those of x.
    for share in (0.16, 0.5, 0.84):
        x = norm.ppf(1.0 - share)
        expected = (x - mu[4:]).square() - min(x, 0.0) ** 2
        spread = 2.0 * (mu[4:] - min(x, 0.0)) * np.sqrt(share * (1 - share) / 400) / norm.pdf(x)
        at = found.experiments[:, 4:].quantile(share, dim=0)
        assert bool(((at - expected).abs() < 4.0 * spread).all()), share
    assert found.experiments.shape == (400, 9) and not found.failed


def test_a_coarse_grid_does_not_lower_the_p_value():
    """A finer grid is looked at for the free minimum: with many minima a coarse one misses some."""
    program = load_model(str(MODELS / "two_detector.py"))[0].bind()
    shares = []
    for points in ((10, 10), (10, 60)):
        scanned = profile(program, Grid.over(program, ["sin2_2theta14=0:0.3", "dm2_41"], points))
        found = hypothesis(scanned, {"sin2_2theta14": 0.0})
        t, _ = null_toys(found, Thrower.of(refined(scanned), 0), 256)
        shares.append(float((t > found.statistic).double().mean()))
        assert min(refined(scanned).grid.shape) >= 90
    assert abs(shares[0] - shares[1]) < 0.05 and min(shares) > 0.25


def test_a_hypothesis_may_hold_what_is_not_scanned(gaussian):
    program = load_model(str(MODELS / "two_detector.py"))[0].bind()
    scanned = profile(program, Grid.over(program, ["dm2_41"], [12]))
    free = hypothesis(scanned, {"sin2_2theta14": 0.0})
    pulled = hypothesis(scanned, {"sin2_2theta14": 0.0, "rate": 2.0})
    assert 3.0 < free.statistic < pulled.statistic
    with pytest.raises(InputError, match="unknown parameter of the null 'nu'"):
        hypothesis(gaussian, {"nu": 1.0})


def test_pseudo_data_are_as_expected_or_drawn(gaussian):
    program = gaussian.likelihoods.natural.program
    truth = {"mu": torch.tensor(2.5, dtype=torch.float64)}
    assert float(pseudo_data(program, "asimov", truth, 0)["x"]) == pytest.approx(2.5)
    drawn = [float(pseudo_data(program, "toy", truth, seed)["x"]) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2] and abs(drawn[0] - 2.5) < 5.0
    with pytest.raises(InputError, match="asimov or toy"):
        pseudo_data(program, "all", truth, 0)
