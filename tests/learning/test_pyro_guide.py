"""A trained network as a Pyro guide: its density is right, and SVI, Predictive and Importance take it as it is."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Importance, Predictive, Trace_ELBO

import nuppl
from nuppl.errors import InputError
from nuppl.inference.registry import engine
from nuppl.language.loading import load_model
from nuppl.language.precision import double_precision
from nuppl.sampling.settings import Settings

COUNTING = Path(__file__).parents[2] / "models" / "counting.py"
SMALL = Settings(seed=3, simulations=1500, epochs=10, proposals=500, draws=200, chains=2)
X = torch.tensor([1.2, -0.4, 0.7], dtype=torch.float64)
RESPONSE = 0.1 * torch.sin(torch.arange(60.0, dtype=torch.float64).reshape(20, 3))


@nuppl.model(interest="mean")
def many(shift: float = 0.0):
    """mean ~ N(0, 2), twenty pulls that act linearly: all but the mean are integrated in closed form."""
    mean = nuppl.parameter("mean", dist.Normal(0.0, 2.0))
    with nuppl.plate("source", 20, dim=-2):
        pull = nuppl.pull("pull")
    with nuppl.plate("bin", 3, dim=-1):
        nuppl.observe("x", dist.Normal(mean + (pull * RESPONSE).sum(-2, keepdim=True), 1.0), X + shift)


@nuppl.model
def simulator():
    """A rate whose prior is not normal, and a vector that depends on it, seen by what can only be drawn."""
    rate = nuppl.parameter("rate", dist.Gamma(2.0, 1.0))
    with nuppl.plate("part", 2, dim=-2):
        share = nuppl.random_effect("share", dist.Uniform(0.0, rate))
        noisy = nuppl.Simulator(lambda s: s + 0.1 * torch.randn(s.shape), share)
        nuppl.observe("x", noisy, torch.tensor([[0.9], [0.4]]))


@pytest.fixture(autouse=True)
def clean():
    pyro.clear_param_store()
    pyro.set_rng_seed(1)


def kept(model, folder, **asked):
    """A network trained on a model, in a folder, and the engine's result."""
    with double_precision():
        return engine("npe")(model.bind(), replace(SMALL, kept=folder, **asked))


@pytest.fixture(scope="module")
def counting(tmp_path_factory):
    folder = tmp_path_factory.mktemp("counting")
    model, _ = load_model(str(COUNTING))
    return model, folder, kept(model, folder)


@pytest.fixture(scope="module")
def linear(tmp_path_factory):
    folder = tmp_path_factory.mktemp("linear")
    kept(many, folder, ensemble=2)
    return folder


def weights(model, guide, n, dim, **options):
    """Log weights of n lanes that lie on one axis, with shape (n,)."""

    def lanes(function):
        def inside():
            with pyro.plate("lanes", n, dim=dim):
                return function(**options)

        return inside

    drawn = poutine.trace(lanes(guide)).get_trace()
    seen = poutine.trace(poutine.replay(lanes(model), drawn)).get_trace()
    total = torch.zeros(n, dtype=torch.float64)
    for trace, sign in ((seen, 1.0), (drawn, -1.0)):
        trace.compute_log_prob()
        for name, node in trace.nodes.items():
            if node["type"] == "sample" and name != "lanes":
                total = total + sign * node["log_prob"].reshape(n, -1).sum(1)
    return total


def evidence(log_w):
    """Log evidence and its error."""
    log_w = log_w.detach()
    log_z = float(log_w.logsumexp(0)) - math.log(len(log_w))
    return log_z, float((log_w - log_z).exp().std()) / math.sqrt(len(log_w))


def test_importance_finds_the_evidence_of_the_engine(counting):
    model, folder, drawn = counting
    found = Importance(model, nuppl.guide(model, folder), num_samples=100).run()
    log_z, error = evidence(torch.tensor(found.log_weights, dtype=torch.float64))
    assert float(found.get_ESS()) > 75
    assert log_z == pytest.approx(drawn.attrs["log_evidence"], abs=5 * (error + drawn.attrs["log_evidence_error"]))


@pytest.mark.parametrize("shift", [0.0, 1.0], ids=["its data", "other data"])
@pytest.mark.parametrize("dim", [-3, -8])
def test_the_density_is_that_of_the_draws(linear, dim, shift):
    guide = nuppl.guide(many, linear)
    log_w = weights(many, guide, 500, dim, shift=shift)
    covariance = torch.eye(3, dtype=torch.float64) + RESPONSE.T @ RESPONSE + 4.0
    exact = dist.MultivariateNormal(torch.zeros(3, dtype=torch.float64), covariance).log_prob(X + shift)
    log_z, error = evidence(log_w)
    assert error < 0.1 and log_z == pytest.approx(float(exact), abs=5 * error)


def test_priors_that_depend_on_latents_and_data_without_density(tmp_path):
    kept(simulator, tmp_path, epochs=3)
    guide = nuppl.guide(simulator, tmp_path)
    with torch.no_grad():
        traced = poutine.trace(guide).get_trace()
        traced.compute_log_prob()
        rate, share = traced.nodes["rate"]["value"], traced.nodes["share"]["value"]
        # The same density by hand: u is the point, and values are quantiles of their priors.
        point = traced.nodes["_simulator_point"]
        slope = -share.shape[0] * rate.log() - torch.special.ndtri(share / rate).square().sum() / -2
    assert traced.nodes["share"]["log_prob"].shape == (2, 1) and bool((share < rate).all())
    expected = slope + math.log(2 * math.pi)
    assert float(traced.nodes["share"]["log_prob"].sum()) == pytest.approx(float(expected), rel=1e-9)
    with pytest.raises(InputError, match="left of its own, with dim below -2"), pyro.plate("lanes", 4, dim=-1):
        guide()
    assert torch.allclose(point["value"][1:], torch.special.ndtri(share / rate)[:, 0])


@pytest.mark.parametrize("parallel", [False, True])
def test_predictive_draws_every_site_with_the_shapes_of_the_model(linear, parallel):
    found = Predictive(many, guide=nuppl.guide(many, linear), num_samples=6, parallel=parallel)()
    assert {name: tuple(value.shape) for name, value in found.items()} == {
        "mean": (6, 1, 1),
        "pull": (6, 20, 1),
        "x": (6, 3),
    }
    alone = nuppl.guide(many, linear)()
    assert {name: tuple(value.shape) for name, value in alone.items()} == {"mean": (), "pull": (20, 1)}


def test_svi_goes_on_training_the_network(tmp_path):
    kept(many, tmp_path, epochs=1)
    guide = nuppl.guide(many, tmp_path)
    elbo = Trace_ELBO(num_particles=200, vectorize_particles=True)
    svi = SVI(many, guide, pyro.optim.Adam({"lr": 3e-3}), elbo)
    before = [weight.detach().clone() for weight in guide.parameters()]
    first = svi.evaluate_loss()
    for _ in range(15):
        svi.step()
    assert set(pyro.get_param_store()) == {f"many_guide$$${name}" for name, _ in guide.networks.named_parameters()}
    assert any(bool((old != new).any()) for old, new in zip(before, guide.parameters(), strict=True))
    assert svi.evaluate_loss() < first - 0.01


def test_other_data_of_the_model_without_training(linear):
    guide = nuppl.guide(many, linear).given({"x": X + 1.0})
    moved = Predictive(many, guide=guide, num_samples=400, parallel=True)()["mean"]
    alone = Predictive(many, guide=nuppl.guide(many, linear), num_samples=400, parallel=True)()["mean"]
    precision = torch.linalg.inv(torch.eye(3, dtype=torch.float64) + RESPONSE.T @ RESPONSE).sum()
    shift = float(precision / (0.25 + precision))
    assert float(moved.mean() - alone.mean()) == pytest.approx(shift, abs=5 * float(alone.std()) * math.sqrt(2 / 400))


def test_guides_of_other_data_share_their_weights(linear):
    guide = nuppl.guide(many, linear)
    pairs = zip(guide.parameters(), guide.given({"x": X + 1.0}).parameters(), strict=True)
    assert all(mine is theirs for mine, theirs in pairs)


def test_a_network_of_another_model_is_refused(linear, counting):
    with pytest.raises(InputError, match="another model"):
        nuppl.guide(counting[0], linear)
