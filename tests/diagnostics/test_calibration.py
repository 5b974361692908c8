"""Calibration against a posterior that is known: the exact one passes, each sabotaged one fails where it must.

A right posterior fails one of the tests with a probability of at most 1 % (seeds are fixed, so that it either does or
does not, for ever). Faults are so large that they fail with a probability above 99.9 %, as tried with 20 seeds each.
"""

from __future__ import annotations

import math

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy.stats import binom

import nuppl
from nuppl.diagnostics.calibration import Asked, Problem, calibrate, examined, posed
from nuppl.diagnostics.calibration_local import local_c2st
from nuppl.diagnostics.calibration_observed import among, components
from nuppl.diagnostics.calibration_ranks import ranks, tarp_ranks
from nuppl.diagnostics.calibration_uniformity import band, counts, thresholds, uniformity
from nuppl.diagnostics.checks_calibration import LEVEL, calibration_checks
from nuppl.errors import InputError
from nuppl.learning.posteriors import Drawn

D = 6
ASKED = Asked(datasets=300, draws=63, seed=5, simulations=1000)


@nuppl.model(interest="t")
def gaussian_linear():
    """t ~ N(0, 0.1), x ~ N(t, 0.1) in six dimensions: in whitened coordinates the posterior is N(u/2, 1/2)."""
    with nuppl.plate("component", D, dim=-1):
        t = nuppl.parameter("t", dist.Normal(0.0, math.sqrt(0.1)))
        nuppl.observe("x", dist.Normal(t, math.sqrt(0.1)), 0.4 * torch.sin(torch.arange(1.0 * D)))


class Gaussian:
    """N(slope x + shift, width^2) in whitened coordinates, from data x in units of the prior's width; the exact one by
    default."""

    batch = 128

    def __init__(self, slope=0.5, shift=0.0, width=0.5**0.5, refuses=0.0):
        self.slope, self.shift, self.width, self.refuses = slope, shift, width, refuses

    def __call__(self, data, truth, count, seed, number):
        generator = torch.Generator().manual_seed(seed % 2**40 + number)
        x = data / math.sqrt(0.1)
        mean = self.slope * x + self.shift
        noise = torch.randn(len(x), count, D, generator=generator, dtype=torch.float64)
        u = mean[:, None] + self.width * noise
        own = -0.5 * noise.square().sum(2), -0.5 * ((truth - mean) / self.width).square().sum(1)
        refused = torch.rand(len(x), 1, 1, generator=generator) < self.refuses
        return Drawn(torch.where(refused, torch.nan, u), own, self._log_p(u, truth, x))

    def _log_p(self, u, truth, x):
        def log_p(points, seen):
            return -0.5 * (points.square() + (seen - points).square()).sum(-1)

        return log_p(u, x[:, None]), log_p(truth, x)


@pytest.fixture(scope="module")
def problem() -> Problem:
    torch.set_default_dtype(torch.float64)
    yield posed(gaussian_linear.bind(), ASKED)
    torch.set_default_dtype(torch.float32)


def failures(problem, posteriors):
    """Which tests fail."""
    from nuppl.results.calibration import calibration_group

    method = examined("network", gaussian_linear.bind(), problem, posteriors, ASKED.datasets, ASKED)
    group = calibration_group([method], 0.0, np.zeros(1), 1.0, {"draws": ASKED.draws})
    checks = list(calibration_checks(group))
    return {check.name.split(" of ")[0]: check.advice for check in checks if not check.passed}


def test_the_exact_posterior_is_calibrated(problem):
    assert failures(problem, Gaussian()) == {}
    assert problem.among.p_value > 0.05


@pytest.mark.parametrize(
    ("sabotaged", "must", "says"),
    [
        (Gaussian(width=0.75 * math.sqrt(0.5)), {"ranks", "coverage", "TARP", "local classifier"}, "too narrow"),
        (Gaussian(width=1.35 * math.sqrt(0.5)), {"ranks", "coverage", "TARP"}, "too wide"),
        (Gaussian(shift=0.4), {"ranks", "coverage", "local classifier"}, "too high"),
        # The posterior of a prior N(0.8, 0.7) instead of N(0, 1).
        (Gaussian(0.7**2 / 1.49, 0.8 / 1.49, 0.7 / math.sqrt(1.49)), {"ranks", "coverage", "TARP"}, "too high"),
        # The prior itself: ranks of parameters are uniform, and only what looks at the data sees it.
        (Gaussian(0.0, 0.0, 1.0), {"ranks", "TARP"}, "off the truth"),
    ],
    ids=["narrow", "wide", "biased", "another prior", "the prior"],
)
def test_a_sabotaged_posterior_is_not(problem, sabotaged, must, says):
    found = failures(problem, sabotaged)
    assert must <= found.keys()
    assert says in " ".join(found.values())


def test_data_sets_that_are_refused_are_counted_and_fail(problem):
    found = failures(problem, Gaussian(refuses=0.1))
    assert list(found) == ["data sets without a posterior"]
    with pytest.raises(InputError, match=r"a posterior of only \d+ of 300 simulated data sets"):
        failures(problem, Gaussian(refuses=0.97))


def test_too_few_data_sets_or_draws_are_refused():
    for few in ({"datasets": 19}, {"draws": 19}):
        with pytest.raises(InputError, match=r"(datasets|draws): calibration expected at least 20, got 19"):
            Asked(**few)


def test_p_values_of_uniform_ranks_are_uniform_and_bands_hold():
    # Of 800 sets the share with p below 0.05 is within 3.5 deviations of it, or of what discrete ranks leave of it.
    randomness = np.random.default_rng(2)
    for n, draws in ((60, 99), (200, 24)):
        sets = randomness.integers(0, draws + 1, (800, n))
        below = np.mean([uniformity(each, draws) < 0.05 for each in sets])
        assert 0.05 - 0.027 - 0.01 < below < 0.05 + 0.027
        found = band(n, draws, 0.05)
        shares = np.array([counts(each, draws) for each in sets]) / n
        outside = ((shares < found.lower - 1e-9) | (shares > found.upper + 1e-9)).any(1).mean()
        assert outside == pytest.approx(below, abs=0.01)


def test_one_threshold_is_a_binomial_test():
    # Ranks 0 and 1 have a single threshold: the p-value is that of a fair coin.
    for heads in (30, 38, 50):
        tossed = np.repeat([0, 1], [heads, 60 - heads])
        expected = binom.cdf(min(heads, 60 - heads), 60, 0.5) * 2
        assert thresholds(1).tolist() == [1]
        assert uniformity(tossed, 1) == pytest.approx(min(1.0, expected), rel=1e-9)


def test_ties_are_broken_at_random():
    found = ranks(np.zeros(4000), np.zeros((4000, 3)))
    # Each of four ranks 1000 times, within five deviations.
    assert np.abs(np.bincount(found) - 1000).max() < 5 * math.sqrt(750)


def test_tarp_needs_references_that_know_the_data():
    """The prior as posterior passes with references from the prior: those of a look-alike catch it."""
    randomness = np.random.default_rng(3)
    truth, draws = randomness.standard_normal((500, 4)), randomness.standard_normal((500, 99, 4))
    blind = uniformity(tarp_ranks(truth, draws, randomness.standard_normal((500, 4))), 99)
    seeing = uniformity(tarp_ranks(truth, draws, truth + 0.5 * randomness.standard_normal((500, 4))), 99)
    assert blind > LEVEL and seeing < 1e-9


def test_the_local_test_has_its_level():
    """Of 100 right posteriors at most 13 have p <= 0.05 (a binomial variable exceeds that once in 1500 seeds)."""
    few = 0
    for seed in range(100):
        x, truth, *_ = gaussians(seed, 60)
        draws = 0.5 * x[:, None] + math.sqrt(0.5) * np.random.default_rng(seed + 900).standard_normal((60, 30, 2))
        few += local_c2st(truth, draws, x, draws[0], x[0], permutations=99, seed=seed).p_value <= 0.05
    assert few <= 13


def gaussians(seed, n):
    randomness = np.random.default_rng(seed)
    truth = randomness.standard_normal((n, 2))
    return truth + randomness.standard_normal((n, 2)), truth, randomness


def test_the_local_test_sees_what_is_wrong_on_one_side_only():
    """A posterior that is too narrow where x > 0: the test fails there and passes where it is right."""
    x, truth, randomness = gaussians(1, 800)

    def drawn(seen, n):
        width = math.sqrt(0.5) * np.where(seen[..., :1] > 0, 0.5, 1.0)
        return 0.5 * seen[:, None] + width[:, None] * randomness.standard_normal((len(seen), n, 2))

    draws = drawn(x, 60)
    wrong, right = (
        local_c2st(truth, draws, x, drawn(at[None], 400)[0], at, permutations=999, seed=4)
        for at in (np.array([1.5, 0.0]), np.array([-1.5, 0.0]))
    )
    assert wrong.p_value <= LEVEL and wrong.statistic > 5 * right.statistic


def test_an_observation_among_simulations_has_a_uniform_p_value():
    """Of 200 observations the share with p <= 0.1 is within 3.5 deviations; an outlier is found in 30 dimensions."""
    randomness = np.random.default_rng(6)
    mix = randomness.standard_normal((30, 30))
    cloud = randomness.standard_normal((1000, 30)) @ mix
    # Each in turn is the observation among the next 250.
    p_values = np.array([_p(np.roll(cloud, -5 * i, 0)[:251]) for i in range(200)])
    assert abs((p_values <= 0.1).mean() - 0.1) < 3.5 * math.sqrt(0.1 * 0.9 / 200)
    least = np.linalg.svd(mix)[2][-1] * 6.0 * np.linalg.svd(mix)[1][-1]
    # Six deviations along the axis in which simulations vary the least: nothing to see in any single number.
    assert _p(np.concatenate([(cloud[0] + least)[None], cloud[1:]])) < 0.02


def _p(data):
    scores = components(data)
    return among(scores[0], scores[1:]).p_value


def test_the_observed_data_outside_simulations_fail():
    program = gaussian_linear.bind(data={"x": torch.full((D,), 3.0, dtype=torch.float64)})
    group = calibrate(program, {"network": (Gaussian(), 30)}, Asked(30, 24, 1, 600))
    checks = {check.name: check for check in calibration_checks(group)}
    outside = checks["observed data among simulated, p-value"]
    assert not outside.passed and outside.value == pytest.approx(1 / 601)
    with pytest.raises(InputError, match=r"expected a group 'calibration' .* but among, null is not so"):
        list(calibration_checks(group.drop_vars(["among", "null"])))
