"""Fits against closed forms, against iminuit, at bounds and among many minima."""

from __future__ import annotations

import math

import pyro.distributions as dist
import pytest
import torch

import nuppl
from nuppl.errors import InputError
from nuppl.language.density import Natural
from nuppl.optimize.fit import MINIMIZERS, fit
from nuppl.optimize.objective import natural_objective

TEMPLATES = torch.tensor([[1.0, 2.0, 4.0, 2.0, 1.0], [1.0, 1.0, 1.0, 1.0, 1.0]], dtype=torch.float64)
SHIFTS = torch.tensor([[0.3, 0.0, -0.3, 0.0, 0.1], [0.1, 0.2, 0.1, 0.0, 0.0]], dtype=torch.float64)
SIGMA = torch.tensor([0.5, 0.4, 0.6, 0.5, 0.3], dtype=torch.float64)
SEEN = torch.tensor([4.3, 7.1, 14.2, 7.5, 3.8], dtype=torch.float64)


@nuppl.model(interest=("signal", "background"))
def linear_gaussian():
    """Linear in everything with Gaussian data: the fit is generalised least squares."""
    signal = nuppl.parameter("signal", dist.Normal(2.0, 5.0), nominal=1.0)
    background = nuppl.parameter("background", dist.Normal(0.0, 5.0))
    with nuppl.plate("source", ["scale", "tilt"], dim=-2):
        pulls = nuppl.pull("shift")
    expected = signal * TEMPLATES[0] + background * TEMPLATES[1] + (pulls * SHIFTS).sum(-2, keepdim=True)
    with nuppl.plate("bin", 5, dim=-1):
        nuppl.observe("spectrum", dist.Normal(expected, SIGMA), SEEN)


def least_squares() -> tuple[torch.Tensor, torch.Tensor, float]:
    """Best fit, covariance and minimum of chi2 with the pulls folded into the data's covariance."""
    weight = torch.linalg.inv(SIGMA.square().diag() + SHIFTS.T @ SHIFTS)
    covariance = torch.linalg.inv(TEMPLATES @ weight @ TEMPLATES.T)
    best = covariance @ TEMPLATES @ weight @ SEEN
    residual = SEEN - best @ TEMPLATES
    return best, covariance, float(residual @ weight @ residual)


@nuppl.model(interest="rate")
def poisson(seen: float = 7.0):
    rate = nuppl.parameter("rate", dist.Uniform(0.0, 50.0))
    nuppl.observe("n", dist.Poisson(rate), seen)


@nuppl.model(interest="mu")
def bounded(seen: float = -1.5):
    mu = nuppl.parameter("mu", dist.Uniform(0.0, 10.0), nominal=1.0)
    nuppl.observe("x", dist.Normal(mu, 1.0), seen)


@nuppl.model(interest="phase")
def wavy():
    """A minimum at every odd phase; the lowest, at 7, is far from the nominal point."""
    phase = nuppl.parameter("phase", dist.Uniform(0.0, 10.0), nominal=1.14)
    nuppl.observe("wave", dist.Normal(torch.cos(math.pi * phase), 0.1), -0.9)
    nuppl.observe("slope", dist.Normal(phase - 7.0, 1.0), 0.0)


@pytest.mark.parametrize("minimizer", MINIMIZERS)
def test_a_linear_gaussian_fit_is_generalised_least_squares(minimizer):
    best, covariance, chi2 = least_squares()
    result = fit(linear_gaussian.bind(), minimizer=minimizer)
    assert result.converged and result.is_deviance
    assert result.statistic == pytest.approx(chi2, abs=1e-5)
    torch.testing.assert_close(result.covariance, covariance, rtol=1e-8, atol=0)
    for name, value, variance in zip(("signal", "background"), best, covariance.diagonal(), strict=True):
        estimate, error = result.parameters[name], float(variance.sqrt())
        assert estimate.value == pytest.approx(float(value), abs=1e-3 * error)
        assert estimate.error == pytest.approx(error, rel=1e-8)
        assert estimate.lower == pytest.approx(float(value) - error, abs=3e-3 * error)
        assert estimate.upper == pytest.approx(float(value) + error, abs=3e-3 * error)


def test_minos_of_a_poisson_count_solves_its_equation():
    estimate = fit(poisson.bind()).parameters["rate"]
    for end in (estimate.lower, estimate.upper):
        rise = (end - 7.0) - 7.0 * math.log(end / 7.0)
        assert rise == pytest.approx(0.5, abs=2e-3)
    assert estimate.error == pytest.approx(math.sqrt(7.0), rel=1e-4)


def test_a_minimum_at_a_bound_is_held_there_and_says_so():
    estimate = fit(bounded.bind()).parameters["mu"]
    assert estimate.at_bound and estimate.value == pytest.approx(0.0, abs=1e-12)
    assert math.isnan(estimate.error)
    # The profile rises by 1/2 where (mu + 1.5)^2 = 1.5^2 + 1.
    assert estimate.upper == pytest.approx(math.sqrt(3.25) - 1.5, abs=2e-3)
    assert estimate.lower == pytest.approx(0.0, abs=1e-12)


def test_the_same_minimum_inside_is_not_at_a_bound():
    estimate = fit(bounded.bind({"seen": 1.5})).parameters["mu"]
    assert not estimate.at_bound and estimate.value == pytest.approx(1.5, abs=1e-3)


def test_many_starts_find_the_lowest_of_many_minima():
    single = fit(wavy.bind(), starts=0, minos=False)
    many = fit(wavy.bind(), starts=4, minos=False)
    assert single.parameters["phase"].value < 3.0, "the nominal start ends in a local minimum"
    assert many.parameters["phase"].value == pytest.approx(7.0, abs=0.2)
    assert many.minima, "the other minima are reported"


def test_starts_of_the_model_are_used():
    told = nuppl.model(interest="phase", starts=[{"phase": 6.9}])(wavy.function)
    assert fit(told.bind(), starts=0, minos=False).parameters["phase"].value == pytest.approx(7.0, abs=0.2)


def test_log_uniform_parameters_are_fitted_in_their_logarithm():
    @nuppl.model
    def scale():
        mass = nuppl.parameter("mass", nuppl.LogUniform(1e-4, 1e2))
        nuppl.observe("log_mass", dist.Normal(mass.log(), 0.5), math.log(3.0))

    estimate = fit(scale.bind()).parameters["mass"]
    assert estimate.value == pytest.approx(3.0, rel=1e-3)
    assert estimate.upper == pytest.approx(3.0 * math.exp(0.5), rel=3e-3)
    assert estimate.lower == pytest.approx(3.0 * math.exp(-0.5), rel=3e-3)


def test_curvature_is_the_hessian_where_the_model_is_linear():
    objective = natural_objective(Natural(linear_gaussian.bind()))
    point = torch.linspace(-1.0, 1.0, objective.dim, dtype=torch.float64)
    torch.testing.assert_close(objective.curvature(point), objective.hessian(point), rtol=1e-9, atol=1e-9)


def test_fixed_sites_stay_and_drop_out():
    result = fit(linear_gaussian.bind(fixed={"background": 1.0}), minos=False)
    assert "background" not in result.parameters
    assert result.statistic > least_squares()[2]


def test_everything_fixed_is_refused():
    program = poisson.bind(fixed={"rate": 3.0})
    with pytest.raises(InputError, match="every latent is fixed"):
        fit(program)


def test_impossible_data_are_refused():
    @nuppl.model
    def empty():
        rate = nuppl.parameter("rate", dist.Uniform(0.0, 1.0))
        nuppl.observe("n", dist.Poisson(0.0 * rate), 3.0)

    with pytest.raises(InputError, match=r"zero at all of 256 points tried .* where its Poisson has rate = 0"):
        fit(empty.bind())


def test_a_fit_that_does_not_describe_the_data_is_not_trusted():
    @nuppl.model
    def flat():
        level = nuppl.parameter("level", dist.Uniform(0.0, 200.0))
        with nuppl.plate("bin", 5, dim=-1):
            nuppl.observe("counts", dist.Poisson(level), torch.tensor([20.0, 40.0, 60.0, 80.0, 100.0]))

    result = fit(flat.bind())
    assert result.freedom == 4 and result.p_value < 1e-6
    assert result.converged and not result.trusted and "does not describe" in result.warnings[-1]
    assert fit(linear_gaussian.bind()).trusted


def test_a_parameter_that_no_data_know_has_no_error():
    @nuppl.model(interest=("rate", "nowhere"))
    def unknown():
        rate = nuppl.parameter("rate", dist.Uniform(0.0, 50.0))
        nuppl.parameter("nowhere", dist.Normal(0.0, 1.0))
        nuppl.observe("n", dist.Poisson(rate), 7.0)

    result = fit(unknown.bind())
    assert not result.converged and "do not determine" in result.warnings[0]
    assert math.isnan(result.parameters["nowhere"].error)
