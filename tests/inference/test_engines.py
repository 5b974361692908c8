"""One conformance test for all engines: known posteriors, evidence where it is given, seeds, shapes, refusals.

Statistical tolerances are five Monte-Carlo standard errors of the stated effective size: a correct engine fails one of
the comparisons below by chance less than once in ten thousand runs; seeds are fixed on top.
"""

from __future__ import annotations

import inspect
import math

import pyro.distributions as dist
import pytest
import torch

import nuppl
from nuppl.errors import InputError
from nuppl.inference.registry import ENGINES, engine
from nuppl.sampling.settings import GUIDES, Settings

LEARNED = ("bnre", "fmpe", "nle", "npe", "npse", "nre")
"""What these take from a simulator, and more, is in test_neural.py and test_surrogates.py."""

TIGHT = {
    **{name: {"simulations": 1500, "epochs": 12, "proposals": 300} for name in LEARNED},
    "bnre": {"simulations": 1500, "epochs": 20},
    "hmc": {"draws": 300, "chains": 32},
    "importance": {},
    "laplace": {},
    "nuts": {"draws": 300, "warmup": 200, "chains": 2},
    "smc": {"draws": 256, "chains": 16},
    "svi": {"warmup": 1500},
}
"""Settings under which each engine is asked; a new engine adds its row."""

X = torch.tensor([1.2, -0.4, 0.7], dtype=torch.float64)


@nuppl.model(interest="mean")
def gaussian():
    """mean ~ N(0, 2), a pull per bin, data N(mean + 0.5 pull, 1): analytic posterior and evidence."""
    mean = nuppl.parameter("mean", dist.Normal(0.0, 2.0))
    with nuppl.plate("bin", ["a", "b", "c"], dim=-1):
        shift = nuppl.pull("shift")
        nuppl.observe("x", dist.Normal(mean + 0.5 * shift, 1.0), X)


def truth() -> tuple[float, float, float]:
    """Posterior mean, standard deviation and log evidence."""
    covariance = torch.eye(3, dtype=torch.float64) * 1.25
    precision = 1 / 4.0 + 3 / 1.25
    evidence = torch.distributions.MultivariateNormal(torch.zeros(3).double(), covariance + 4.0).log_prob(X)
    return float(X.sum() / 1.25 / precision), precision**-0.5, float(evidence)


@nuppl.model(interest="signal")
def counting():
    """A count of 7 over a background of 3 with a flat prior: the posterior is a truncated gamma density."""
    signal = nuppl.parameter("signal", dist.Uniform(0.0, 30.0))
    nuppl.observe("n", dist.Poisson(signal + 3.0), 7.0)


def counting_truth() -> tuple[float, float, float]:
    s = torch.linspace(0.0, 30.0, 200_001, dtype=torch.float64)
    density = dist.Poisson(s + 3.0).log_prob(torch.tensor(7.0)).exp() / 30.0
    evidence = torch.trapezoid(density, s)
    mean = torch.trapezoid(s * density, s) / evidence
    variance = torch.trapezoid((s - mean) ** 2 * density, s) / evidence
    return float(mean), float(variance.sqrt()), float(evidence.log())


def settings(name: str, **changes) -> Settings:
    return Settings(**{"seed": 11, "draws": 1000, "chains": 4, **TIGHT[name], **changes})


def test_every_engine_has_a_row():
    assert set(TIGHT) == set(ENGINES)


@pytest.mark.parametrize("name", ENGINES)
def test_engines_take_the_same_arguments(name):
    assert list(inspect.signature(engine(name)).parameters) == ["program", "settings", "progress"]


@pytest.mark.parametrize("name", ENGINES)
def test_a_gaussian_posterior_is_recovered(name):
    mean, sd, log_evidence = truth()
    drawn = engine(name)(gaussian.bind(), settings(name))
    values = drawn.values["mean"]
    chosen = settings(name)
    assert values.shape == (chosen.chains, chosen.draws)
    assert drawn.values["shift"].shape == (chosen.chains, chosen.draws, 3)
    error = sd / math.sqrt(200.0)
    assert float(values.mean()) == pytest.approx(mean, abs=5 * error)
    assert float(values.std()) == pytest.approx(sd, rel=5 / math.sqrt(2 * 200.0))
    if "log_evidence" in drawn.attrs:
        tolerance = 5 * max(drawn.attrs["log_evidence_error"], 1e-9)
        assert drawn.attrs["log_evidence"] == pytest.approx(log_evidence, abs=max(tolerance, 1e-6))


def test_laplace_is_exact_for_a_gaussian_model():
    drawn = engine("laplace")(gaussian.bind(), settings("laplace"))
    assert drawn.attrs["efficiency"] == pytest.approx(1.0, abs=1e-9)
    assert drawn.attrs["log_evidence"] == pytest.approx(truth()[2], abs=1e-9)


@pytest.mark.parametrize("guide", GUIDES)
def test_importance_corrects_any_guide(guide):
    mean, sd, log_evidence = counting_truth()
    drawn = engine("importance")(counting.bind(), settings("importance", guide=guide, warmup=500))
    effective = drawn.attrs["effective_draws"]
    assert effective > 1000
    assert float(drawn.values["signal"].mean()) == pytest.approx(mean, abs=5 * sd / math.sqrt(1000))
    assert float(drawn.values["signal"].std()) == pytest.approx(sd, rel=0.12)
    assert drawn.attrs["log_evidence"] == pytest.approx(log_evidence, abs=5 * drawn.attrs["log_evidence_error"])


def test_nuts_finds_a_skewed_posterior():
    mean, sd, _ = counting_truth()
    drawn = engine("nuts")(counting.bind(), settings("nuts"))
    assert float(drawn.values["signal"].mean()) == pytest.approx(mean, abs=5 * sd / math.sqrt(100))
    assert set(drawn.stats) >= {"lp", "diverging"}


@pytest.mark.parametrize("name", ENGINES)
def test_the_seed_decides_and_the_state_of_torch_does_not(name):
    quick = settings(name, draws=20, warmup=20, chains=2, proposals=100)
    program = counting.bind()
    torch.manual_seed(1)
    first = engine(name)(program, quick)
    torch.manual_seed(2)
    again = engine(name)(program, quick)
    other = engine(name)(program, settings(name, draws=20, warmup=20, chains=2, proposals=100, seed=12))
    assert torch.equal(first.values["signal"], again.values["signal"])
    assert not torch.equal(first.values["signal"], other.values["signal"])


@pytest.mark.parametrize("name", ENGINES)
def test_fixed_sites_are_not_drawn(name):
    quick = settings(name, draws=20, warmup=20, chains=2, proposals=200)
    drawn = engine(name)(gaussian.bind(fixed={"mean": 0.3}), quick)
    assert set(drawn.values) == {"shift"}


@pytest.mark.parametrize("name", [name for name in ENGINES if name not in LEARNED])
def test_a_simulator_is_refused_and_named(name):
    @nuppl.model
    def only_drawn():
        mu = nuppl.parameter("mu", dist.Normal(0.0, 1.0))
        nuppl.observe("image", nuppl.Simulator(lambda m: m[..., None].expand(*m.shape, 4), mu, event_shape=(4,)), X[:1])

    with pytest.raises(InputError, match="image"):
        engine(name)(nuppl.model(lambda: only_drawn.function()).bind(data={"image": torch.zeros(4)}), settings(name))


@pytest.mark.parametrize("name", ENGINES)
def test_a_likelihood_that_is_zero_everywhere_is_refused(name):
    @nuppl.model
    def impossible():
        rate = nuppl.parameter("rate", dist.Uniform(0.0, 1.0))
        nuppl.observe("n", dist.Poisson(0.0 * rate), 3.0)

    with pytest.raises(InputError, match="zero"):
        engine(name)(impossible.bind(), settings(name, draws=20, warmup=20, chains=2, proposals=100))


def test_resampling_keeps_proportions():
    from nuppl.sampling.weights import resample

    weight = torch.tensor([1.0, 2.0, 5.0, 0.0], dtype=torch.float64)
    counts = resample(weight.log(), 800, seed=3).bincount(minlength=4)
    assert counts.tolist() == pytest.approx([100, 200, 500, 0], abs=1)


@pytest.mark.parametrize(
    ("change", "message"), [({"draws": 1}, "draws"), ({"chains": -1}, "chains"), ({"seed": -1}, "seed")]
)
def test_settings_out_of_range_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        Settings(**change)


@pytest.mark.parametrize("observed", [25.0, 0.5])
def test_a_second_mode_is_counted_by_one_gaussian_and_covered_by_a_mixture(observed):
    """mu^2 = 25 leaves two modes, at -5 and 5; mu^2 = 0.5 with unit error leaves one broad one."""

    @nuppl.model(interest="mu")
    def squared():
        mu = nuppl.parameter("mu", dist.Uniform(-10.0, 10.0), nominal=4.0)
        nuppl.observe("x", dist.Normal(mu**2 if observed > 1.0 else mu, 1.0), observed)

    drawn = engine("laplace")(squared.bind(), settings("laplace", draws=100))
    assert drawn.attrs["modes_missed"] == (1 if observed > 1.0 else 0)
    covering = engine("importance")(squared.bind(), settings("importance", draws=100, proposals=200))
    assert covering.attrs["modes_missed"] == 0
    if observed > 1.0:
        assert 0.3 < float((covering.values["mu"] > 0.0).double().mean()) < 0.7
