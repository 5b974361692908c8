"""Effective draws from the scatter of means, on chains whose answer is known."""

import importlib
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
CHAINS, DRAWS = 800, 50


@pytest.fixture
def effective(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("posterior_effective")


def scored(effective, correlation, offset=0.0):
    """The score of stationary first-order autoregressive chains N(2, 0.5), two parameters, four chains a run."""
    noise = np.random.default_rng(3).normal(size=(DRAWS, CHAINS, 2))
    state = noise[0]
    total = state.copy()
    for step in noise[1:]:
        state = correlation * state + np.sqrt(1.0 - correlation**2) * step
        total += state
    means = 2.0 + offset + 0.5 * total / DRAWS
    series = effective.Series(means, chains=4, draws=DRAWS, seconds=1.0)
    return effective.score(series, np.full(2, 2.0), np.full(2, 0.5), [1], group=CHAINS)


def variance_of_mean(correlation):
    """Of DRAWS steps of a unit autoregressive chain, exactly."""
    lags = np.arange(1, DRAWS)
    return (1.0 + 2.0 * ((1.0 - lags / DRAWS) * correlation**lags).sum()) / DRAWS


@pytest.mark.parametrize("correlation", [0.0, 0.8, -0.5])
def test_effective_draws_of_known_chains(effective, correlation):
    found, expected = scored(effective, correlation), 4.0 / variance_of_mean(correlation)
    # The variance of 800 means is known to 5 %: 20 % is four standard deviations.
    for value in (found.least, found.harmonic, found.interest):
        assert value == pytest.approx(expected, rel=0.2)
    assert found.offset < 0.05


def test_more_chains_do_not_raise_the_minimum(effective):
    """Of 200 parameters, with 12 chains or 1200: biased low alike, and the harmonic mean not at all."""
    means = np.random.default_rng(4).normal(size=(1200, 200))
    few, many = (
        effective.score(effective.Series(part, 1, 1, 1.0), np.zeros(200), np.ones(200), [0], group=12)
        for part in (means[:12], means)
    )
    assert many.least < 0.5
    assert few.least == pytest.approx(many.least, rel=0.25)
    assert many.harmonic == pytest.approx(1.0, rel=0.02)


def test_a_wrong_mean_is_seen(effective):
    found = scored(effective, 0.0, offset=0.1)
    assert found.typical == pytest.approx(0.2, abs=0.02)
    assert found.offset >= found.typical


def test_columns_follow_the_order_of_sites(effective):
    values = {"a": np.zeros((2, 3)), "b": np.ones((2, 3, 2, 2)), "c": np.full((2, 3), 5.0)}
    assert effective.flat(values).shape == (2, 3, 6)
    assert effective.columns(values, ("a", "c")) == [0, 5]
    assert (effective.flat(values)[..., [0, 5]] == [0.0, 5.0]).all()
