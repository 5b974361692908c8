"""Inner latents drawn as was learned from the closed form, and a closed form that belongs to the data asked about."""

from __future__ import annotations

import math
from dataclasses import replace

import pyro.distributions as dist
import pytest
import torch

import nuppl
from nuppl.language.density import Whitened
from nuppl.language.precision import double_precision
from nuppl.learning.neural_guide import NeuralGuide
from nuppl.learning.retaken import retaken
from nuppl.learning.simulated import flat_data
from nuppl.sampling.conditional import Conditional, conditional
from nuppl.sampling.guides import GaussianGuide

RESPONSE = 0.4 * torch.sin(torch.arange(60.0, dtype=torch.float64).reshape(20, 3))
X = torch.tensor([1.2, -0.4, 0.7], dtype=torch.float64)
WIDTH = 0.05


@pytest.fixture(autouse=True)
def double():
    with double_precision():
        yield


@nuppl.model(interest="mean")
def linear(size: int = 2):
    """Means that pulls move linearly; all posteriors are normal."""
    with nuppl.plate("part", size, dim=-3):
        mean = nuppl.parameter("mean", dist.Normal(0.0, 2.0)).sum(-3, keepdim=True)
    with nuppl.plate("source", 20, dim=-2):
        pull = nuppl.pull("pull")
    with nuppl.plate("bin", 3, dim=-1):
        nuppl.observe("x", dist.Normal(mean + (pull * RESPONSE).sum(-2, keepdim=True), 1.0), X)


@nuppl.model(interest="bend")
def bent():
    """A gauge sees how strongly the pulls act, and that changes exponentially."""
    bend = nuppl.pull("bend")
    nuppl.observe("gauge", dist.Normal(bend, WIDTH), 0.0)
    with nuppl.plate("source", 20, dim=-2):
        pull = nuppl.pull("pull")
    with nuppl.plate("bin", 3, dim=-1):
        nuppl.observe("x", dist.Normal((0.7 * bend).exp() * (pull * RESPONSE).sum(-2, keepdim=True), 0.1), X)


def test_where_the_closed_form_is_exact_so_is_what_is_learned_from_it():
    marginal = nuppl.marginalize(linear.bind(), ["pull"])
    guide = GaussianGuide(torch.tensor([0.2, -0.1]), 0.3 * torch.eye(2))
    learned = conditional(marginal, guide, seed=1)
    assert isinstance(learned, Conditional)
    x, _ = guide.sample(300, 1, 5)
    u, log_q = learned.draw(x, 1, 6)
    # p(x, y) = p(x) p(y | x): nothing is left to weigh.
    left = marginal.whitened.log_prob(u) - log_q - marginal.log_prob(x)
    assert float(left.abs().max()) < 1e-6
    assert torch.equal(u[:, marginal.outer], x)


def test_with_more_coefficients_than_points_can_tell_the_closed_form_stays():
    marginal = nuppl.marginalize(linear.bind({"size": 25}), ["pull"])
    assert conditional(marginal, GaussianGuide(torch.zeros(25), torch.eye(25)), seed=1) is marginal


def test_what_polynomials_cannot_follow_stays_in_closed_form():
    marginal = nuppl.marginalize(bent.bind(), ["pull"])
    x = torch.zeros(1)
    near, far = (conditional(marginal, GaussianGuide(x, torch.tensor([[width]])), 1) for width in (0.01, 40.0))
    assert isinstance(near, Conditional) and far is marginal


class Normals:
    """A network that answers with a standard normal whatever the data."""

    def sample(self, x, n, generator):
        return torch.randn(n, 1, generator=generator)

    def sample_with_log_prob(self, x, n, generator):
        z = self.sample(x, n, generator)
        return z, self.log_prob(z, x)

    def log_prob(self, theta, x):
        return -0.5 * theta.square().sum(-1) - 0.5 * math.log(2 * math.pi)


def test_data_elsewhere_get_a_response_of_their_own():
    here = nuppl.marginalize(bent.bind(), ["pull"])
    program = bent.bind(data={"gauge": 1.5})
    moved = replace(here, whitened=Whitened(program), data=flat_data(program))

    def network(at: float) -> NeuralGuide:
        return NeuralGuide(Normals(), torch.zeros(0), torch.tensor([at]), torch.tensor([[WIDTH]]))

    assert retaken(here, network(0.0), 1) is here
    anew = retaken(moved, network(1.5), 1)
    point = torch.tensor([[1.5]])
    errors = [some.measured(point, 1, 3).error for some in (moved, anew)]
    assert errors[0] > 0.8 and errors[1] < 0.1
