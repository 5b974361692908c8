"""Likelihoods of counts, labels and mixed data are probabilities, and learn them."""

import math

import pytest
import torch

from nuppl.errors import InputError
from nuppl.neural import registry, seeds
from nuppl.neural.fields import Field
from nuppl.neural.settings import Training
from nuppl.neural.simulations import Fixed
from nuppl.neural.training import train

DATA = (Field("n", (2,), "count"), Field("passed", (), "category", labels=3), Field("energy", (), "positive"))


def simulated(n, seed=1):
    """Counts of mean exp(theta) and three times that, a label that follows the first count, a log-normal energy."""
    randomness = seeds.generator(seed)
    theta = torch.randn(n, 1, generator=randomness, dtype=torch.float64)
    counts = torch.poisson(theta.exp() * torch.tensor([1.0, 3.0], dtype=torch.float64), generator=randomness)
    label = counts[:, :1].clamp(max=2)
    energy = (theta + 0.3 * torch.randn(n, 1, generator=randomness, dtype=torch.float64)).exp()
    return theta, torch.cat((counts, label, energy), 1)


@pytest.fixture(scope="module")
def likelihood():
    config = registry.Config("nle", (Field("theta", (1,)),), DATA, options={"width": 32, "components": 3})
    settings = Training(epochs=20, least_steps=0, rate=5e-3)
    return train(registry.build(config), Fixed(*simulated(4000)), settings).estimator


def test_probabilities_add_up_to_one(likelihood):
    """Over all counts and labels, and a line of energies."""
    log_energy = torch.linspace(-3.0, 4.0, 141, dtype=torch.float64)
    line = torch.arange(25, dtype=torch.float64)
    labels = torch.arange(3, dtype=torch.float64)
    counts = torch.cartesian_prod(line, torch.arange(45, dtype=torch.float64), labels)
    rows = counts.repeat_interleave(len(log_energy), 0)
    energy = log_energy.exp().repeat(len(counts)).unsqueeze(1)
    theta = torch.tensor([0.5], dtype=torch.float64)
    with torch.no_grad():
        density = likelihood.log_prob(torch.cat((rows, energy), 1), theta).exp()
    step = float(log_energy[1] - log_energy[0])
    assert float((density * energy[:, 0]).sum() * step) == pytest.approx(1.0, abs=0.01)


def test_draws_have_the_right_values_and_means(likelihood):
    theta = torch.tensor([0.5], dtype=torch.float64)
    x = likelihood.sample(theta.expand(4000, 1), seeds.generator(3))
    assert (x[:, :3] == x[:, :3].round()).all() and (x >= 0).all() and (x[:, 2] < 3).all() and (x[:, 3] > 0).all()
    mean = math.exp(0.5)
    assert float(x[:, 0].mean()) == pytest.approx(mean, abs=0.15)
    assert float(x[:, 1].mean()) == pytest.approx(3 * mean, abs=0.3)
    # The label follows the first count, which a product of independent factors would not know.
    assert float((x[:, 2] == x[:, 0].clamp(max=2)).double().mean()) > 0.95
    assert float(x[:, 3].log().std()) == pytest.approx(0.3, abs=0.06)


def test_it_learns_the_counts(likelihood):
    theta, x = simulated(1000, 9)
    mean = theta.exp() * torch.tensor([1.0, 3.0], dtype=torch.float64)
    exact = torch.distributions.Poisson(mean).log_prob(x[:, :2]).sum(-1)
    exact = exact + torch.distributions.LogNormal(theta[:, 0], 0.3).log_prob(x[:, 3])
    with torch.no_grad():
        assert float((exact - likelihood.log_prob(x, theta)).mean()) < 0.12


def test_counts_far_away_keep_a_finite_density(likelihood):
    theta = torch.tensor([0.0], dtype=torch.float64)
    far = torch.tensor([[1e6, 0.0, 0.0, 1.0], [0.0, 5e4, 2.0, 1e3]], dtype=torch.float64)
    assert likelihood.log_prob(far, theta).isfinite().all()


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        (0, -1.0, "field 'n' is of kind 'count': expected counts of zero or more"),
        (2, 3.0, "field 'passed' is of kind 'category': expected labels 0 to 2"),
        (3, 0.0, "field 'energy' is of kind 'positive': expected numbers above zero"),
    ],
)
def test_values_that_a_kind_cannot_take_are_refused(likelihood, column, value, message):
    theta, x = simulated(4)
    likelihood.log_prob(x, theta)
    x[1, column] = value
    with pytest.raises(InputError, match=message):
        likelihood.log_prob(x, theta)


def test_sets_have_no_likelihood():
    config = registry.Config("nle", (Field("theta", (1,)),), (Field("events", (4, 2), ragged=True),))
    with pytest.raises(InputError, match="'events' is a set of variable size: a likelihood estimator needs"):
        registry.build(config)
