"""The JAX twins that benchmarks compare samplers on: the same posterior density as nuppl's, gradient included."""

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
POINTS = 20
CASES = {"near_far": "examples/near_far.py", "reactor": "models/reactor.py"}

pytest.importorskip("numpyro", reason="the twins need numpyro and jax: pip install -e '.[peers]'")


@pytest.fixture(params=CASES)
def pair(request, monkeypatch):
    """nuppl's whitened posterior and its twin."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    twin = getattr(importlib.import_module(f"jax_{request.param}"), request.param)()
    with double_precision():
        return Whitened(load_model(str(ROOT / CASES[request.param]))[0].bind()), twin


def points(twin, jax, density):
    """Ten points between the prior's centre and the prior, then ten of the posterior, each with shape (10, D)."""
    noise = np.random.default_rng(1).normal(size=(POINTS, twin.dim))
    wide = np.linspace(0.1, 1.0, POINTS // 2)[:, None] * noise[: POINTS // 2]
    best, factor = gaussian(twin, jax, density)
    return wide, best + np.linalg.solve(factor.T, noise[POINTS // 2 :].T).T


def gaussian(twin, jax, density):
    """The mode by Fisher scoring, and the Cholesky factor of the information there."""
    expected = jax.jit(lambda u: twin.expected(density.values_of(twin, density.blocks(twin, u))).reshape(-1))
    slopes = jax.jit(jax.jacrev(expected))
    data, u = np.asarray(twin.counts).reshape(-1), np.zeros(twin.dim)
    for _ in range(8):
        mu, slope = np.asarray(expected(u)), np.asarray(slopes(u))
        information = np.eye(twin.dim) + slope.T @ (slope / mu[:, None])
        u = u + np.linalg.solve(information, slope.T @ (data / mu - 1.0) - u)
    return u, np.linalg.cholesky(information)


def test_the_twin_has_the_same_sites(pair):
    whitened, twin = pair
    sites = {name: tuple(site.shape) for name, site in whitened.program.latents.items()}
    assert {name: tuple(prior.batch_shape) for name, prior in twin.priors.items()} == sites
    assert list(twin.priors) == list(sites)


def test_the_twin_has_the_same_density_and_gradient(pair):
    whitened, twin = pair
    jax, density = sys.modules["jax"], sys.modules["jax_density"]
    wide, near = points(twin, jax, density)
    u = torch.from_numpy(np.concatenate([wide, near])).requires_grad_()
    value = whitened.log_prob(u)
    (gradient,) = torch.autograd.grad(value.sum(), u)
    value, gradient = value.detach().numpy(), gradient.numpy()
    assert np.isfinite(value).all()
    assert value[len(wide) :].min() > value[: len(wide)].max() + twin.dim  # the posterior's points deserve the name
    twin_density = jax.value_and_grad(lambda u: density.log_density(twin)(density.blocks(twin, u)))
    theirs, their_gradient = (np.asarray(part) for part in jax.jit(jax.vmap(twin_density))(u.detach().numpy()))
    assert (np.abs(theirs - value) / np.maximum(1.0, np.abs(value))).max() < 1e-8
    assert (np.abs(their_gradient - gradient) / np.maximum(1.0, np.abs(gradient))).max() < 1e-7
