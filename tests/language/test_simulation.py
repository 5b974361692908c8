"""Draws, Asimov data, toys with moved centres; statistical tests state how often they fail by chance."""

import math

import pyro.distributions as dist
import pytest
import torch

import nuppl
from nuppl.errors import InputError
from nuppl.language.precision import double_precision
from nuppl.language.simulation import asimov, simulate, tiles, toys

SIGNAL = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)


@pytest.fixture(autouse=True)
def _doubles():
    with double_precision():
        yield


@nuppl.model
def counting():
    signal = nuppl.parameter("signal", dist.Uniform(0.0, 10.0))
    with nuppl.plate("bin", 3, dim=-1):
        shift = nuppl.pull("shift", dist.Normal(0.5, 2.0))
        nuppl.observe(
            "n", dist.Poisson((10.0 + signal * SIGNAL + shift).clamp(min=0.0)), torch.tensor([12.0, 13.0, 9.0])
        )
    gamma = nuppl.auxiliary("gamma", dist.Gamma(4.0, 4.0), lambda g: dist.Poisson(100.0 * g), 97.0)
    nuppl.observe("x", dist.Normal(signal * gamma, 1.0))


TRUTH = {"signal": 3.0, "shift": torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64), "gamma": 1.1}


def test_every_site_is_drawn_with_its_shape():
    drawn = simulate(counting.bind(), 10, seed=1)
    assert {name: tuple(value.shape) for name, value in drawn.items()} == {
        "signal": (10,),
        "shift": (10, 3),
        "n": (10, 3),
        "gamma": (10,),
        "gamma_measured": (10,),
        "x": (10,),
    }
    assert all(value.dtype == torch.float64 for value in drawn.values())


def test_draws_do_not_depend_on_how_many_are_wanted():
    program = counting.bind()
    many, few = simulate(program, 2000, seed=5), simulate(program, 1000, seed=5)
    assert all(torch.equal(few[name], many[name][:1000]) for name in few)
    many, few = toys(program, 2000, seed=5, at=TRUTH), toys(program, 1000, seed=5, at=TRUTH)
    assert all(torch.equal(few.data[name], many.data[name][:1000]) for name in few.data)
    assert all(torch.equal(few.centers[name], many.centers[name][:1000]) for name in few.centers)


def test_the_seed_decides_and_torchs_generator_is_left_alone():
    program = counting.bind()
    torch.manual_seed(7)
    first = simulate(program, 5, seed=1)
    torch.manual_seed(8)
    before = torch.get_rng_state()
    again, other = simulate(program, 5, seed=1), simulate(program, 5, seed=2)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["n"], other["n"])
    assert not torch.equal(simulate(program, 300, seed=1)["n"][256:261], first["n"]), "tiles have seeds of their own"


def test_tiles_cover_n():
    assert list(tiles(600, 256)) == [(0, 256), (1, 256), (2, 88)]
    assert list(tiles(256, 256)) == [(0, 256)]


def test_draws_follow_their_distributions():
    """20,000 draws; each mean within 5 of its standard errors: six checks fail together once in 3e5 runs."""
    n = 20_000
    drawn = simulate(counting.bind(), n, seed=11)
    checks = {
        "signal": (5.0, 10.0 / math.sqrt(12.0)),
        "gamma": (1.0, 0.5),
        "gamma_measured": (100.0, math.sqrt(100.0 + 2500.0)),
        "x": (5.0, math.sqrt(1.0 + (25.0 + 100.0 / 12.0) * 1.25 - 25.0)),
    }
    for name, (mean, deviation) in checks.items():
        assert abs(float(drawn[name].mean()) - mean) < 5.0 * deviation / math.sqrt(n), name
    assert float((drawn["shift"].mean(0) - 0.5).abs().max()) < 5.0 * 2.0 / math.sqrt(n)


def test_draws_at_given_values():
    program = counting.bind()
    each = torch.linspace(0.0, 10.0, 300)
    drawn = simulate(program, 300, seed=1, at={"signal": each, "gamma": 2.0})
    assert torch.equal(drawn["signal"], each) and (drawn["gamma"] == 2.0).all()
    assert float(torch.corrcoef(torch.stack([drawn["x"], each]))[0, 1]) > 0.9


@pytest.mark.parametrize(
    ("at", "message"),
    [
        ({"signl": 1.0}, "unknown free latent 'signl' (did you mean 'signal'?)"),
        ({"n": 1.0}, "unknown free latent 'n'"),
        ({"signal": torch.zeros(4)}, "values of 'signal': expected one, or one for each of 10 draws, got 4"),
        ({"shift": torch.zeros(4)}, "site 'shift': expected a value with shape (3,) (bin: 3)"),
    ],
)
def test_values_that_do_not_fit_are_refused(at, message):
    with pytest.raises(InputError) as error:
        simulate(counting.bind(), 10, seed=1, at=at)
    assert message in str(error.value)


def test_asimov_data_are_means_with_pulls_at_their_centres():
    expected = asimov(counting.bind(), {"signal": 3.0, "gamma": 1.1})
    torch.testing.assert_close(expected["n"], 10.0 + 3.0 * SIGNAL + 0.5)
    torch.testing.assert_close(expected["gamma_measured"], torch.tensor(110.0))
    torch.testing.assert_close(expected["x"], torch.tensor(3.3))
    moved = asimov(counting.bind(), {"shift": torch.tensor([1.0, 2.0, 3.0])})
    torch.testing.assert_close(moved["n"], 10.0 + 5.0 * SIGNAL + torch.tensor([1.0, 2.0, 3.0]))


def test_asimov_data_may_be_asked_for_outside_the_prior():
    held = counting.bind().with_(fixed={"signal": 20.0}, outside=True)
    torch.testing.assert_close(asimov(held)["n"], 10.0 + 20.0 * SIGNAL + 0.5)


def noisy(fail_above=math.inf, parameters=1):
    def draw(mean, *_):
        if bool((mean > fail_above).any()):
            raise ArithmeticError("the solver diverged")
        return mean[:, None] + torch.randn(len(mean), 2)

    @nuppl.model
    def model():
        a = nuppl.parameter("a", dist.Uniform(0.0, 1.0))
        nuppl.observe("image", nuppl.Simulator(draw, *[a] * parameters, event_shape=(2,)), torch.zeros(2))

    return model


def test_simulators_are_drawn_but_have_neither_asimov_data_nor_density():
    program = noisy(parameters=2).bind()
    assert simulate(program, 300, seed=1)["image"].shape == (300, 2)
    with pytest.raises(InputError, match="site 'image' is a simulator: it has no mean to give"):
        asimov(program)
    with pytest.raises(InputError, match=r"site 'image': .* simulator without density; engines that need a density"):
        program.terms({"a": torch.tensor([0.5])})


def test_only_the_lanes_that_fail_become_nan():
    drawn = simulate(noisy(fail_above=0.8).bind(), 256, seed=1)
    failed = drawn["image"].isnan()
    assert torch.equal(failed.all(1), drawn["a"] > 0.8) and torch.equal(failed.any(1), failed.all(1))
    assert 20 < int(failed.all(1).sum()) < 90


def test_a_simulator_that_always_fails_says_so():
    with pytest.raises(InputError, match="every one of 256 lanes failed, the last with: the solver diverged"):
        simulate(noisy(fail_above=-1.0).bind(), 5, seed=1)


def test_a_simulator_of_the_wrong_shape_says_so():
    @nuppl.model
    def model():
        a = nuppl.parameter("a", dist.Uniform(0.0, 1.0))
        nuppl.observe("x", nuppl.Simulator(lambda m: m[:, None], a), 0.0)

    with pytest.raises(InputError, match=r"simulator: expected draws with shape \(256,\), got \(256, 1\)"):
        simulate(model.bind(), 5, seed=1)


# Toys.


@nuppl.model
def pulled():
    mu = nuppl.parameter("mu", dist.Uniform(-20.0, 20.0))
    with nuppl.plate("source", 2, dim=-1):
        pulls = nuppl.pull("pulls", dist.Normal(0.3, torch.tensor([1.0, 0.7])))
    nuppl.observe("x", dist.Normal(mu + 1.5 * pulls.sum(-1, keepdim=True), 1.0), 0.4)


@nuppl.model
def measured():
    """The same with the auxiliary measurements written out as a data site, under a flat prior."""
    mu = nuppl.parameter("mu", dist.Uniform(-20.0, 20.0))
    with nuppl.plate("source", 2, dim=-1):
        pulls = nuppl.parameter("pulls", dist.Uniform(-50.0, 50.0))
        nuppl.observe("centers", dist.Normal(pulls, torch.tensor([1.0, 0.7])), torch.tensor([0.3, 0.3]))
    nuppl.observe("x", dist.Normal(mu + 1.5 * pulls.sum(-1, keepdim=True), 1.0), 0.4)


def test_moved_centres_equal_an_explicit_auxiliary_site():
    toy = toys(pulled.bind(), 500, seed=2, at={"mu": 1.0, "pulls": torch.tensor([0.2, -0.4])})
    at = {name: simulate(pulled.bind(), 500, seed=3)[name] for name in ("mu", "pulls")}
    moved = pulled.bind().terms(at, toy.data, toy.centers).likelihood
    explicit = measured.bind().terms(at, {"x": toy.data["x"], "centers": toy.centers["pulls"]}).likelihood
    assert float(((moved - explicit) / explicit).abs().max()) < 4e-15


def test_centres_scatter_around_the_true_pulls():
    """50,000 toys; four moments within 5 standard errors: fails once in 4e5 runs."""
    n, truth = 50_000, torch.tensor([0.2, -0.4])
    centers = toys(pulled.bind(), n, seed=4, at={"mu": 1.0, "pulls": truth}).centers["pulls"]
    sigma = torch.tensor([1.0, 0.7])
    assert ((centers.mean(0) - truth).abs() < 5.0 * sigma / n**0.5).all()
    assert ((centers.std(0) - sigma).abs() < 5.0 * sigma / (2 * n) ** 0.5).all()
    assert abs(float(torch.corrcoef(centers.T)[0, 1])) < 5.0 / n**0.5


def test_toys_with_moved_centres_cover_and_with_fixed_centres_do_not():
    """The 68.27 % interval of a Gaussian model, profiled in closed form, must cover within 1 %.

    Truth: pulls at one sigma from the published centres. 100,000 toys know the coverage to 0.15 %: the band of 1 % is
    6.8 standard errors wide on each side, a false alarm once in 1e11 runs. With fixed centres the estimate of mu is
    displaced by the true pulls, and its scatter misses their uncertainty.
    """
    n, mu = 100_000, 2.0
    prior, sigma, response = torch.tensor([0.3, 0.3]), torch.tensor([1.0, 0.7]), 1.5
    toy = toys(pulled.bind(), n, seed=6, at={"mu": mu, "pulls": prior + sigma})
    # x = mu + response * sum(pulls) + noise: profiling puts the pulls at their centres and adds their variances.
    error = (1.0 + response**2 * (sigma**2).sum()).sqrt()

    def coverage(centers):
        estimate = toy.data["x"] - response * centers.sum(-1)
        return float(((estimate - mu).abs() < error).double().mean())

    assert abs(coverage(toy.centers["pulls"]) - 0.6827) < 0.01
    assert abs(coverage(prior.expand(n, 2)) - 0.6827) > 0.05


def test_the_profile_in_closed_form_is_the_programs_own():
    """-2 log L at its minimum over the pulls, from the program with moved centres, against the formula used above."""
    from nuppl.language.density import Natural

    program = pulled.bind()
    toy = toys(program, 20, seed=6, at={"mu": 2.0, "pulls": torch.tensor([1.3, 1.0])})
    natural = Natural(program.with_(fixed={"mu": 2.5}))
    z = torch.zeros(20, 2, requires_grad=True)
    # A Gaussian likelihood is quadratic: one Newton step is the minimum.
    slope = torch.autograd.grad(natural.log_likelihood(z, toy.data, toy.centers).sum(), z, create_graph=True)[0]
    hessian = torch.stack([torch.autograd.grad(slope[:, i].sum(), z, retain_graph=True)[0] for i in range(2)], 1)
    best = z - torch.linalg.solve(hessian, slope[..., None])[..., 0]
    found = natural.log_likelihood(best.detach(), toy.data, toy.centers)
    variance = 1.0 + 2.25 * (1.0 + 0.49)
    residual = toy.data["x"] - 2.5 - 1.5 * toy.centers["pulls"].sum(-1)
    constant = -1.5 * math.log(2.0 * math.pi) - math.log(0.7)
    torch.testing.assert_close(found, constant - 0.5 * residual**2 / variance, rtol=1e-10, atol=1e-10)


def test_toys_need_every_true_value():
    with pytest.raises(InputError, match="expected a true value for every latent, missing pulls"):
        toys(pulled.bind(), 5, seed=1, at={"mu": 1.0})


def test_auxiliary_counts_fluctuate_in_toys():
    """pyhf's shapesys: the Poisson measurement is drawn around the true nuisance; mean within 5 errors, 1 in 2e6."""
    toy = toys(counting.bind(), 5000, seed=9, at=TRUTH)
    measured_counts = toy.data["gamma_measured"]
    assert abs(float(measured_counts.mean()) - 110.0) < 5.0 * math.sqrt(110.0 / 5000)
    assert "gamma" not in toy.centers and set(toy.centers) == {"shift"}
    assert (measured_counts == measured_counts.round()).all()
