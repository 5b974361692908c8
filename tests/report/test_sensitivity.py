"""Other priors by reweighting, against posteriors known in closed form, and where it must refuse."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr
from scipy.stats import gamma

from nuppl.report.figures_prior import information
from nuppl.report.interest import numbers
from nuppl.report.sensitivity import RUN_AGAIN, reweight, sensitivity
from nuppl.report.tables_checks import shift_table

DRAWS = 40_000


def result(values, family="Uniform", unit="", **arguments):
    """The groups of a posterior of one number."""
    attrs = {"distribution": family, "unit": unit, "label": "x", "kind": "parameter", "prior": json.dumps(arguments)}
    if "low" in arguments:
        attrs |= {"lower": arguments["low"], "upper": arguments["high"]}
    posterior = xr.Dataset({"x": (("chain", "draw"), values.reshape(4, -1), attrs)})
    return {"posterior": posterior}


def under(groups, name):
    ((_, rows),) = sensitivity(groups, ["x"], ())
    return next(row for row in rows if row.name == name)


@pytest.mark.parametrize(("name", "shape"), [("flat in log x", 7.0), ("flat in √x", 7.5), ("flat in x²", 9.0)])
def test_reweighted_draws_are_those_of_the_other_posterior(name, shape):
    # Poisson with 7 events: the posterior is Gamma(8) under a flat prior, Gamma(8 + p) under x^p.
    draws = gamma(8.0).rvs(DRAWS, random_state=np.random.default_rng(1))
    got, want = under(result(draws, low=0.0, high=60.0), name), gamma(shape)
    # Errors of the estimates are near sd / sqrt(effective draws) = 0.015.
    assert got.effective > 0.7 * DRAWS
    np.testing.assert_allclose([got.mean, got.sd], [want.mean(), want.std()], atol=0.08)
    np.testing.assert_allclose([got.median, got.lower, got.upper], want.ppf([0.5, 0.158655, 0.841345]), atol=0.1)
    assert got.moved == pytest.approx((shape - 8.0) / np.sqrt(8.0), abs=0.03)


def test_a_posterior_at_zero_has_no_answer_flat_in_the_logarithm():
    draws = gamma(1.0).rvs(DRAWS, random_state=np.random.default_rng(2))
    got = under(result(draws, low=0.0, high=60.0), "flat in log x")
    assert got.mean is None and RUN_AGAIN in got.reason and "Pareto k" in got.reason
    shown = shift_table(numbers(result(draws, low=0.0, high=60.0), ["x"])[0], [got])["rows"][0]
    assert "measurement" not in shown and shown["reason"] == got.reason


def test_too_few_draws_have_no_answer():
    got = reweight("narrow", np.linspace(0.0, 1.0, 200), np.linspace(0.0, 2.0, 200), draws=60.0)
    assert got.mean is None and "effective draws are left" in got.reason
    at_bound = reweight("log", np.array([0.0, 1.0]), np.array([np.inf, 0.0]), draws=1000.0)
    assert at_bound.mean is None and "infinite" in at_bound.reason


def names(groups):
    ((_, rows),) = sensitivity(groups, ["x"], ())
    return [row.name for row in rows]


def test_only_priors_that_make_sense_are_tried():
    draws = np.random.default_rng(3).uniform(0.3, 0.4, DRAWS)
    signed = names(result(draws, low=-1.0, high=1.0))
    assert signed == ["Uniform(low=-1, high=1), as run"]
    assert "flat in arcsin √x" in names(result(draws, low=0.0, high=1.0))
    assert "flat in arcsin √x" not in names(result(draws, unit="eV^2", low=0.0, high=1.0))
    assert "flat in arcsin √x" not in names(result(draws, low=0.0, high=2.0))
    logarithmic = names(result(draws, family="LogUniform", low=0.1, high=1.0))
    assert "flat in x" in logarithmic and "flat in log x" not in logarithmic


def test_a_prior_that_is_not_known_is_left_alone():
    draws = np.random.default_rng(4).uniform(0.3, 0.4, DRAWS)
    assert sensitivity(result(draws, family="Beta", concentration1=2.0), ["x"], ()) == []


def test_the_information_of_a_normal_in_a_flat_range():
    draws = np.random.default_rng(5).normal(5.0, 0.1, DRAWS)
    (number,) = numbers(result(draws, low=0.0, high=10.0), ["x"])
    want = np.log2(10.0 / (0.1 * np.sqrt(2.0 * np.pi * np.e)))
    assert information(number) == pytest.approx(want, abs=0.02)


def test_the_information_does_not_depend_on_the_scale():
    draws = np.exp(np.random.default_rng(6).uniform(np.log(1e-4), np.log(1.0), DRAWS))
    (number,) = numbers(result(draws, family="LogUniform", low=1e-4, high=1.0), ["x"])
    assert number.is_log and number.axis.startswith(r"$\log_{10}$")
    # The posterior is the prior: nothing was gained.
    assert information(number) == pytest.approx(0.0, abs=0.02)
