"""Pulls integrated in closed form: exact for Gaussian data, by weights for Poisson data, drawn back as they were."""

from __future__ import annotations

import math

import pyro.distributions as dist
import pytest
import torch

import nuppl
from nuppl.errors import InputError
from nuppl.inference.registry import engine
from nuppl.language.density import Whitened
from nuppl.language.precision import double_precision
from nuppl.sampling.marginal import Marginal
from nuppl.sampling.settings import Settings
from nuppl.sampling.structure import target_of
from nuppl.sampling.target import Direct
from nuppl.typing import silent

SEEN = torch.tensor([1.2, -0.4, 0.7, 2.0, 0.1], dtype=torch.float64)
TEMPLATES = torch.tensor([[0.5, 0.1, -0.3, 0.2, 0.0], [0.0, 0.4, 0.4, -0.2, 0.6]], dtype=torch.float64)


def gaussian_model(size: float = 1.0):
    @nuppl.model(interest="mu")
    def model():
        mu = nuppl.parameter("mu", dist.Normal(0.0, 2.0))
        with nuppl.plate("k", 2, dim=-2):
            shape = nuppl.pull("shape")
        mean = mu + size * (shape * TEMPLATES).sum(-2, keepdim=True)
        with nuppl.plate("bin", 5, dim=-1):
            nuppl.observe("x", dist.Normal(mean, 1.0), SEEN)

    return model


def poisson_model(counts: float):
    """A signal over a background with twenty pulls, `counts` expected per bin."""
    generator = torch.Generator().manual_seed(3)
    templates = 0.05 * torch.randn(20, 8, generator=generator, dtype=torch.float64)
    rise = torch.linspace(0.5, 1.5, 8, dtype=torch.float64)
    data = torch.poisson(counts * (1.0 + 0.1 * rise), generator=generator)

    @nuppl.model(interest="signal")
    def model():
        signal = nuppl.parameter("signal", dist.Uniform(0.0, 1.0))
        with nuppl.plate("k", 20, dim=-2):
            shape = nuppl.pull("shape")
        change = (shape * templates).sum(-2, keepdim=True)
        with nuppl.plate("bin", 8, dim=-1):
            nuppl.observe("n", dist.Poisson((counts * (1.0 + signal * rise + change)).clamp(min=1e-6)), data)

    return model


def test_linear_pulls_of_gaussian_data_become_a_covariance():
    marginal = nuppl.marginalize(gaussian_model().bind(), ["shape"])
    mu = torch.tensor([-1.0, 0.3, 2.5], dtype=torch.float64)
    covariance = torch.eye(5).double() + TEMPLATES.T @ TEMPLATES
    exact = dist.MultivariateNormal(mu[:, None].expand(-1, 5), covariance).log_prob(SEEN)
    prior = dist.Normal(torch.zeros(()).double(), 1.0).log_prob(mu / 2.0)
    with double_precision():
        found = marginal.log_prob(mu[:, None] / 2.0)
        _, log_w = marginal.complete(mu[:, None] / 2.0, found, 1, 1)
    assert torch.allclose(found, exact + prior, atol=1e-10)
    assert torch.allclose(log_w, torch.zeros(3).double(), atol=1e-10)
    assert marginal.error < 1e-9


def test_the_drawn_pulls_follow_their_conditional_distribution():
    marginal = nuppl.marginalize(gaussian_model().bind(), ["shape"])
    precision = torch.eye(2).double() + TEMPLATES @ TEMPLATES.T
    mean = torch.linalg.solve(precision, TEMPLATES @ (SEEN - 0.6))
    with double_precision():
        u, _ = marginal.draw(torch.full((20_000, 1), 0.3), 1, 1)
    drawn = u[:, marginal.inner]
    # Five standard errors of 20 000 independent draws.
    assert torch.allclose(drawn.mean(0), mean, atol=5.0 / math.sqrt(20_000))
    assert torch.allclose(drawn.T.cov(), torch.linalg.inv(precision), atol=5.0 * math.sqrt(2.0 / 20_000))


@pytest.mark.parametrize("counts", [1000.0, 30.0])
def test_the_weights_make_poisson_data_exact(counts):
    """Evidence with the pulls integrated equals that of the plain posterior, and the error of doing it is stated."""
    program = poisson_model(counts).bind()
    plain = engine("smc")(program, Settings(seed=1, marginalize="none"))
    integrated = engine("importance")(program, Settings(seed=2, marginalize="shape"))
    error = math.hypot(plain.attrs["log_evidence_error"], integrated.attrs["log_evidence_error"])
    assert error < 0.1
    assert integrated.attrs["log_evidence"] == pytest.approx(plain.attrs["log_evidence"], abs=5.0 * error)
    assert integrated.values["shape"].shape == (4, 1000, 20)
    assert float(plain.values["signal"].mean()) == pytest.approx(float(integrated.values["signal"].mean()), abs=0.01)
    assert nuppl.marginalize(program, ["shape"]).error < 6.0 / math.sqrt(counts)


def test_forces_are_the_slope_of_the_density():
    with double_precision():
        marginal = nuppl.marginalize(poisson_model(100.0).bind(), ["shape"])
        x = torch.tensor([[-1.2], [-0.8]])
        _, force = marginal.forces(x)
        slope = (marginal.log_prob(x + 1e-4) - marginal.log_prob(x - 1e-4)) / 2e-4
    assert torch.allclose(force[:, 0], slope, rtol=0.02, atol=0.05)


def test_a_curved_pull_stays_outside():
    @nuppl.model(interest="mu")
    def bent():
        mu = nuppl.parameter("mu", dist.Normal(0.0, 2.0))
        width = nuppl.pull("width")
        with nuppl.plate("k", 20, dim=-2):
            shape = nuppl.pull("shape")
        with nuppl.plate("bin", 5, dim=-1):
            mean = mu + (1.5 * width).exp() * SEEN + 0.1 * shape.sum(-2, keepdim=True)
            nuppl.observe("x", dist.Normal(mean, 1.0), SEEN)

    program = bent.bind()
    whitened = Whitened(program)
    with double_precision():
        target = target_of(whitened, Settings())
    assert isinstance(target, Marginal)
    kept = [whitened.layout.names()[column] for column in target.outer.tolist()]
    assert kept == ["mu", "width"]


def test_few_latents_are_sampled_as_they_are():
    with double_precision():
        assert isinstance(target_of(Whitened(gaussian_model().bind()), Settings()), Direct)


@pytest.mark.parametrize(
    ("sites", "message"), [(["shap"], "did you mean 'shape'"), (["shape", "mu"], "some to keep"), ([], "to integrate")]
)
def test_wrong_sites_are_refused(sites, message):
    with pytest.raises(InputError, match=message):
        nuppl.marginalize(gaussian_model().bind(), sites)


def two_signs(shift: float):
    """y = x^2 + shift * x and twenty linear pulls: two modes, of known weights once the pulls are a covariance."""
    generator = torch.Generator().manual_seed(4)
    templates = 0.2 * torch.randn(20, 6, generator=generator, dtype=torch.float64)
    seen = torch.tensor([1.0, 1.3, 0.8, 1.1, 1.2, 0.9], dtype=torch.float64)

    @nuppl.model(interest="x")
    def model():
        x = nuppl.parameter("x", dist.Normal(0.0, 1.5))
        with nuppl.plate("k", 20, dim=-2):
            pull = nuppl.pull("pull")
        mean = x**2 + shift * x + (pull * templates).sum(-2, keepdim=True)
        with nuppl.plate("bin", 6, dim=-1):
            nuppl.observe("y", dist.Normal(mean, 0.3), seen)

    x = torch.linspace(-5.0, 5.0, 40_001, dtype=torch.float64)
    covariance = 0.09 * torch.eye(6).double() + templates.T @ templates
    mean = (x**2 + shift * x)[:, None].expand(-1, 6)
    log_p = dist.MultivariateNormal(mean, covariance).log_prob(seen) + dist.Normal(0.0, 1.5).log_prob(x)
    weight = (log_p - log_p.max()).exp()
    positive = float(weight[x > 0].sum() / weight.sum())
    return model, positive, float(log_p.logsumexp(0) + (x[1] - x[0]).log())


@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_a_second_mode_of_a_marginal_is_covered_by_tempered_particles(shift):
    model, positive, log_evidence = two_signs(shift)
    program = model.bind()
    with double_precision():
        assert isinstance(target_of(Whitened(program), Settings()), Marginal)
    drawn = engine("importance")(program, Settings(seed=2), silent)
    assert drawn.attrs["modes_missed"] == 0 and drawn.attrs["pareto_k"] < 0.5
    assert drawn.attrs["efficiency"] > 0.3
    share = float((drawn.values["x"] > 0).double().mean())
    # Five standard errors.
    effective = drawn.attrs["effective_draws"]
    assert share == pytest.approx(positive, abs=5.0 * math.sqrt(positive * (1.0 - positive) / effective))
    assert drawn.attrs["log_evidence"] == pytest.approx(log_evidence, abs=5.0 * drawn.attrs["log_evidence_error"])
