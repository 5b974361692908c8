"""Laws that every estimator keeps, over a table of all, on a problem whose posterior and likelihood are known.

theta ~ N(0, 1)^2,   x = theta + N(0, 0.5^2)^2,   theta | x ~ N(0.8 x, 0.2)^2,   x | theta ~ N(theta, 0.25)^2
"""

import math

import pytest
import torch

from nuppl.errors import InputError
from nuppl.neural import fields, registry, seeds
from nuppl.neural.ensemble import ensemble
from nuppl.neural.settings import Training
from nuppl.neural.simulations import Fixed
from nuppl.neural.training import train

NAMES = sorted(registry.ESTIMATORS)
GUIDES, LIKELIHOODS, RATIOS = (
    [name for name in NAMES if registry.ESTIMATORS[name].role == role] for role in ("guide", "likelihood", "ratio")
)
NOISE = 0.5
OBSERVED = torch.tensor([0.7, -1.1], dtype=torch.float64)


def simulated(n, seed=1):
    randomness = seeds.generator(seed)
    theta = torch.randn(n, 2, generator=randomness, dtype=torch.float64)
    return theta, theta + NOISE * torch.randn(n, 2, generator=randomness, dtype=torch.float64)


# Small, so that the tests are fast.
FLOW = {"transforms": 2, "width": 32}
SMALL = {"fmpe": {"width": 48, "depth": 2, "steps": 16}, "npse": {"width": 48, "depth": 2, "steps": 24}}
SMALL |= {"npe": FLOW, "nle": FLOW, "nre": {"width": 48}, "bnre": {"width": 48, "balance": 10.0}}


def built(name, seed=0, **options):
    options = {**SMALL.get(name, {}), **options}
    config = registry.Config(name, fields.plain("theta", 2), fields.plain("x", 2), options=options)
    return registry.build(config, seed)


def scaled(name, **options):
    """Untrained, with scales: enough for laws that hold for any weights."""
    estimator = built(name, **options)
    estimator.fit_spaces(*simulated(200))
    return estimator.eval().requires_grad_(False)


SHORT = Training(epochs=24, least_steps=0, batch=128, rate=4e-3, patience=24)


@pytest.fixture(scope="module")
def trained():
    return {name: train(built(name), Fixed(*simulated(3000)), SHORT).estimator for name in NAMES}


def exact_posterior():
    variance = 1 / (1 + 1 / NOISE**2)
    return torch.distributions.Normal(OBSERVED * variance / NOISE**2, math.sqrt(variance))


def grid(low, high, points):
    line = torch.linspace(low, high, points, dtype=torch.float64)
    return torch.cartesian_prod(line, line), float(line[1] - line[0]) ** 2


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_has_a_value_per_simulation_and_reaches_every_weight(name):
    estimator = built(name)
    theta, x = simulated(64)
    estimator.fit_spaces(theta, x)
    loss = estimator.loss(theta, x, seeds.generator(3))
    assert loss.shape == (64,) and loss.isfinite().all()
    loss.mean().backward()
    silent = [name for name, weight in estimator.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert silent == []
    assert all(weight.grad.isfinite().all() for weight in estimator.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_and_the_global_state_stays(name):
    before = torch.get_rng_state()
    runs = [train(built(name, 5), Fixed(*simulated(300)), Training(epochs=2, least_steps=0, seed=5)) for _ in range(2)]
    other = train(built(name, 6), Fixed(*simulated(300)), Training(epochs=2, least_steps=0, seed=6))
    first, second = (run.estimator.state_dict() for run in runs)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert runs[0].history[-1].validation != other.history[-1].validation
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", GUIDES)
def test_shapes_of_a_guide_broadcast(name):
    guide = scaled(name)
    theta, x = simulated(3, 8)
    assert guide.sample(x[0], 7, seeds.generator(1)).shape == (7, 2)
    draws, density = guide.sample_with_log_prob(x, 7, seeds.generator(1))
    assert draws.shape == (3, 7, 2) and density.shape == (3, 7)
    assert draws.dtype == density.dtype == torch.float64
    assert guide.log_prob(draws, x.unsqueeze(1)).shape == (3, 7)
    one = guide.log_prob(theta[1], x[1])
    assert one.shape == () and torch.allclose(guide.log_prob(theta, x)[1], one, atol=1e-4)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_shapes_of_a_likelihood_broadcast(name):
    likelihood = scaled(name)
    theta, x = simulated(12, 8)
    theta, x = theta.reshape(4, 3, 2), x.reshape(4, 3, 2)
    assert likelihood.sample(theta, seeds.generator(1)).shape == (4, 3, 2)
    assert likelihood.log_prob(x, theta).shape == (4, 3)
    assert likelihood.log_prob(x[0, 0], theta).shape == (4, 3)


@pytest.mark.parametrize("name", RATIOS)
def test_shapes_of_a_ratio_broadcast(name):
    ratio = scaled(name)
    theta, x = simulated(12, 8)
    assert ratio.log_ratio(theta.reshape(4, 3, 2), x.reshape(4, 3, 2)).shape == (4, 3)
    assert ratio.log_ratio(theta, x[0]).shape == (12,)


@pytest.mark.parametrize("name", GUIDES)
def test_a_guide_is_normalised_and_its_draws_have_its_density(name, trained):
    guide = trained[name]
    points, cell = grid(-2.5, 2.5, 41)
    with torch.no_grad():
        density = guide.log_prob(points, OBSERVED).exp()
        draws, own = guide.sample_with_log_prob(OBSERVED, 400, seeds.generator(2))
        again = guide.log_prob(draws, OBSERVED)
    assert float(density.sum() * cell) == pytest.approx(1.0, abs=0.01)
    assert torch.allclose(own, again, atol=0.02)
    mean = (points * density.unsqueeze(-1)).sum(0) * cell
    # The mean of 400 draws misses by 5 standard errors once in a million.
    assert torch.allclose(draws.mean(0), mean, atol=5 * float(draws.std(0).max()) / 20)


@pytest.mark.parametrize("name", GUIDES)
def test_a_guide_learns_the_posterior(name, trained):
    exact = exact_posterior()
    draws = exact.sample((500,))
    with torch.no_grad():
        divergence = (exact.log_prob(draws).sum(-1) - trained[name].log_prob(draws, OBSERVED)).mean()
    assert float(divergence) < 0.06


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_a_likelihood_learns_the_data(name, trained):
    theta = torch.tensor([0.4, -0.9], dtype=torch.float64)
    exact = torch.distributions.Normal(theta, NOISE)
    x = exact.sample((500,))
    with torch.no_grad():
        divergence = (exact.log_prob(x).sum(-1) - trained[name].log_prob(x, theta)).mean()
        points, cell = grid(-4.0, 4.0, 101)
        whole = trained[name].log_prob(points, theta).exp().sum() * cell
        draws = trained[name].sample(theta.expand(2000, 2), seeds.generator(4))
    assert float(divergence) < 0.06
    assert float(whole) == pytest.approx(1.0, abs=0.01)
    assert torch.allclose(draws.mean(0), theta, atol=0.1) and torch.allclose(draws.std(0), theta * 0 + NOISE, atol=0.1)


@pytest.mark.parametrize("name", RATIOS)
def test_a_ratio_with_the_prior_gives_the_posterior(name, trained):
    points, cell = grid(-3.0, 3.0, 61)
    prior = torch.distributions.Normal(torch.zeros(2, dtype=torch.float64), 1.0).log_prob(points).sum(-1)
    with torch.no_grad():
        found = trained[name].log_ratio(points, OBSERVED) + prior
    found = found - found.logsumexp(0) - math.log(cell)
    exact = exact_posterior().log_prob(points).sum(-1)
    divergence = (exact.exp() * (exact - found)).sum() * cell
    assert float(divergence) < 0.1


@pytest.mark.parametrize("name", NAMES)
def test_weights_come_back_from_disk(name, trained, tmp_path):
    torch.save(trained[name].state_dict(), tmp_path / "weights.pt")
    config = registry.Config(name, fields.plain("theta", 2), fields.plain("x", 2), options=SMALL[name])
    again = registry.build(registry.Config.from_json(config.as_json()), seed=99)
    again.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    again.eval()
    assert torch.equal(asked(again), asked(trained[name]))


def asked(estimator):
    theta, x = simulated(5, 11)
    with torch.no_grad():
        if hasattr(estimator, "log_ratio"):
            return estimator.log_ratio(theta, x)
        return estimator.log_prob(x, theta) if type(estimator).__name__ == "NLE" else estimator.log_prob(theta, x)


@pytest.mark.parametrize("name", NAMES)
def test_the_default_precision_does_not_matter(name, trained):
    before = torch.get_default_dtype()
    expected = asked(trained[name])
    try:
        torch.set_default_dtype(torch.float64)
        assert torch.allclose(asked(trained[name]), expected, atol=1e-4)
        assert {weight.dtype for weight in built(name).parameters()} == {torch.float32}
        train(built(name), Fixed(*simulated(300)), Training(epochs=1, least_steps=0))
    finally:
        torch.set_default_dtype(before)


@pytest.mark.parametrize("name", NAMES)
def test_an_ensemble_is_the_mean_of_its_members(name, trained):
    other = scaled(name)
    both = ensemble([trained[name], other])
    theta, x = simulated(5, 11)
    values = torch.stack((asked(trained[name]), asked(other)))
    with torch.no_grad():
        if name in LIKELIHOODS:
            found = both.log_prob(x, theta)
            assert both.sample(theta, seeds.generator(1)).shape == (5, 2)
        elif name in RATIOS:
            found = both.log_ratio(theta, x)
        else:
            found = both.log_prob(theta, x)
            draws, density = both.sample_with_log_prob(x, 3, seeds.generator(1))
            assert draws.shape == (5, 3, 2) and torch.allclose(density, both.log_prob(draws, x.unsqueeze(1)))
    assert torch.allclose(found, values.logsumexp(0) - math.log(2))


def test_an_ensemble_needs_one_kind():
    with pytest.raises(InputError, match="all of one kind, got NPE, NRE"):
        ensemble([built("npe"), built("nre")])
    with pytest.raises(InputError, match="got none"):
        ensemble([])


@pytest.mark.parametrize("name", NAMES)
def test_data_of_another_shape_or_not_finite_are_refused(name, trained):
    estimator = trained[name]
    theta, x = simulated(5)
    wide = torch.cat((x, x), -1)
    broken = x.clone()
    broken[2, 1] = math.nan

    def ask(theta, x):
        if name in RATIOS:
            return estimator.log_ratio(theta, x)
        return estimator.log_prob(x, theta) if name in LIKELIHOODS else estimator.log_prob(theta, x)

    with pytest.raises(InputError, match=r"data: expected 2 numbers \(x\[2\]\).* got shape \(5, 4\)"):
        ask(theta, wide)
    with pytest.raises(InputError, match=r"data: field 'x' is of kind 'real': expected finite numbers, got 1 others"):
        ask(theta, broken)
    with pytest.raises(InputError, match=r"parameters: expected 2 numbers"):
        ask(theta[:, :1], x)


def test_names_and_options_are_checked():
    with pytest.raises(InputError, match=r"unknown estimator 'mpe' \(did you mean"):
        built("mpe")
    with pytest.raises(InputError, match=r"estimator 'npe': .*colour"):
        built("npe", colour=3)


@pytest.mark.parametrize("dimension", [1, 5])
@pytest.mark.parametrize("name", NAMES)
def test_other_dimensions(name, dimension):
    config = registry.Config(name, fields.plain("theta", dimension), fields.plain("x", 1))
    estimator = registry.build(config)
    theta = torch.randn(50, dimension, generator=seeds.generator(1), dtype=torch.float64)
    x = theta.sum(1, keepdim=True)
    estimator.fit_spaces(theta, x)
    assert estimator.loss(theta, x, seeds.generator(1)).isfinite().all()
    if name in GUIDES:
        assert estimator.sample(x[0], 3, seeds.generator(1)).shape == (3, dimension)
