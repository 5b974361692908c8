"""The distribution of one number given parameters."""

from __future__ import annotations

import pytest
import torch

from nuppl.neural.cumulative import Cumulative
from nuppl.neural.fields import Field
from nuppl.neural.seeds import apart
from nuppl.neural.settings import Training
from nuppl.neural.simulations import Fixed
from nuppl.neural.standardize import Standardize
from nuppl.neural.training import train


def exponential(n, seed):
    """t ~ Exp with scale 1 + theta, theta ~ U(0, 2); a fifth of all t are zero."""
    generator = torch.Generator().manual_seed(seed)
    theta, noise, zero = torch.rand(3, n, generator=generator, dtype=torch.float64)
    t = torch.where(zero < 0.2, 0.0, -(1.0 + 2.0 * theta) * (1.0 - noise).log())
    return (2.0 * theta)[:, None], t


@pytest.fixture(scope="module")
def network():
    theta, t = exponential(6000, 1)
    with apart(3):
        made = Cumulative(Standardize((Field("theta"),)), Standardize((Field("t"),)))
    settings = Training(epochs=20, least_steps=0, batch=256, rate=3e-3)
    return train(made, Fixed(theta, t[:, None]), settings).estimator


def test_it_learns_how_the_distribution_moves_and_keeps_what_is_shared(network):
    for value in (0.2, 1.0, 1.8):
        t = torch.tensor([0.0, 0.5, 1.0, 2.0, 4.0, 8.0], dtype=torch.float64)
        table = network.table(torch.full((6, 1), value, dtype=torch.float64))
        exact = 1.0 - 0.8 * (-t / (1.0 + value)).exp()
        # 6000 simulations: a binomial error is 0.006, and the network as good as some parameters. The pool is 0.17 off.
        assert float((network.cumulative(t, table) - exact).abs().max()) < 0.045
    assert float(network.cumulative(torch.tensor([-1e-9]), table[:1])) == 0.0


def test_it_never_falls_and_ends_at_one(network):
    theta = torch.full((200, 1), 0.7, dtype=torch.float64)
    t = torch.linspace(-1.0, 100.0, 200, dtype=torch.float64)
    values = network.cumulative(t, network.table(theta))
    assert bool((values.diff() >= 0).all()) and float(values[-1]) == pytest.approx(1.0)


def test_untrained_it_is_the_pool():
    theta, t = exponential(3000, 2)
    made = Cumulative(Standardize((Field("theta"),)), Standardize((Field("t"),)))
    made.fit_spaces(theta, t[:, None])
    made.requires_grad_(False)
    share = (t[:, None] <= t[:50]).double().mean(0)
    assert float((made.cumulative(t[:50], made.table(theta[:50])) - share).abs().max()) < 0.01
