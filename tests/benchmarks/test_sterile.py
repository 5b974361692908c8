"""The sterile benchmark: its JAX twin has nuppl's density, and its distances of marginals are right."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from nuppl.language.density import Whitened
from nuppl.language.loading import load_model
from nuppl.language.precision import double_precision

ROOT = Path(__file__).parents[2]
POINTS = 10
BINS = 20


@pytest.fixture
def marginals(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("sterile_marginals")


@pytest.fixture(params=["uniform", "log"])
def pair(request, monkeypatch):
    """nuppl's whitened posterior, and its twin as NumPyro's user writes it."""
    pytest.importorskip("numpyro", reason="the twin needs numpyro and jax: pip install -e '.[peers]'")
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    twin = importlib.import_module("jax_sterile").sterile(request.param)
    model, _ = load_model(str(ROOT / "models" / "reactor_sterile.py"))
    with double_precision():
        return Whitened(model.bind({"mixing_prior": request.param})), twin


def points(twin):
    """Half a prior deviation around its centre, with dm2_41 from end to end of its prior, shape (10, D)."""
    u = 0.5 * np.random.default_rng(1).normal(size=(POINTS, twin.dim))
    u[:, list(twin.priors).index("dm2_41")] = np.linspace(-4.0, 4.0, POINTS)
    return u


def test_the_twin_has_the_same_density_and_gradient_at_all_splittings(pair):
    whitened, twin = pair
    assert list(twin.priors) == list(whitened.program.latents)
    u = torch.from_numpy(points(twin)).requires_grad_()
    dm2_41 = whitened.values(u.detach())["dm2_41"]
    assert dm2_41.min() < 1.001e-3
    assert dm2_41.max() > 9.99
    value = whitened.log_prob(u)
    (gradient,) = torch.autograd.grad(value.sum(), u)
    value, gradient = value.detach().numpy(), gradient.numpy()
    assert np.isfinite(value).all()
    theirs, their_gradient = evaluated(twin, u.detach().numpy())
    assert np.abs(theirs / value - 1.0).max() < 1e-8
    error = np.abs(their_gradient - gradient) / np.abs(gradient).max(-1, keepdims=True)
    splitting = list(twin.priors).index("dm2_41")
    assert np.delete(error, splitting, axis=1).max() < 1e-6
    # The slope of a table is a difference of its rows, in single precision on both sides: 2e-5 here, 1e-8 were the
    # tables in double precision.
    assert error[:, splitting].max() < 1e-4


def evaluated(twin, u):
    """The twin's log density and gradient at points u with shape (n, D)."""
    jax, density = sys.modules["jax"], sys.modules["jax_density"]
    twin = sys.modules["jax_sterile"].without_log_uniform(twin)
    log_density = density.log_density(twin)
    both = jax.jit(jax.value_and_grad(lambda u: log_density(density.blocks(twin, u))))
    values, gradients = zip(*map(both, u), strict=True)
    return np.array(values), np.array(gradients)


def test_the_total_variation_of_known_laws(marginals):
    """Exponentials: TV is e^{-at} - e^{-bt} where the densities meet, at t = log(b / a) / (b - a)."""
    one, other = (np.random.default_rng(seed).exponential(1.0 / rate, 400_000) for seed, rate in ((1, 1.0), (2, 1.3)))
    at = marginals.edges(one)
    assert len(at) == BINS + 1
    meet = np.log(1.3) / 0.3
    expected = np.exp(-meet) - np.exp(-1.3 * meet)
    # The bin in which the densities meet loses up to 0.003; chance adds at most as much.
    found = marginals.total_variation(marginals.shares(one, at), marginals.shares(other, at))
    assert found == pytest.approx(expected, abs=0.004)


def test_what_lies_outside_counts_in_the_end_bins(marginals):
    at = marginals.edges(np.linspace(1.0, 100.0, 1000), logarithmic=True)
    share = marginals.shares(np.array([0.01, 1e4, 1e4, 10.0]), at)
    assert share[[0, -1]].tolist() == [0.25, 0.5]
    assert share.sum() == 1.0
    assert np.allclose(np.diff(np.log(at)), np.log(at[-1] / at[0]) / BINS)


def test_chance_alone_makes_the_distance_that_is_stated(marginals):
    """The mean over 200 pairs of samples; its error is 1 %."""
    noise = np.random.default_rng(3)
    at = np.linspace(-3.0, 3.0, BINS + 1)
    sizes = 2_000, 8_000
    pairs = [[marginals.shares(noise.normal(size=size), at) for size in sizes] for _ in range(200)]
    measured = np.mean([marginals.total_variation(*pair) for pair in pairs])
    share = np.mean([second for _, second in pairs], axis=0)
    assert marginals.by_chance(share, *sizes) == pytest.approx(measured, rel=0.04)
