"""Learned densities in the place of data: under every engine, exact where there is a density, honest elsewhere.

Tolerances against a closed form are five Monte-Carlo errors of a stated effective size where weights make draws exact;
where the draws are the network's own they are as good as its training, and stated in deviations of the posterior.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pyro.distributions as dist
import pytest
import torch

import nuppl
from nuppl.diagnostics.verdict import judge
from nuppl.errors import InputError
from nuppl.inference.registry import engine
from nuppl.language.check import check
from nuppl.language.density import Natural, Whitened
from nuppl.language.loading import load_model
from nuppl.language.precision import double_precision
from nuppl.language.program import Program
from nuppl.language.simulation import simulate
from nuppl.learning.learned import Learned
from nuppl.learning.likelihoods import learn
from nuppl.learning.simulated import flat_data, simulated
from nuppl.learning.surrogate_draws import SurrogatePosteriors, prior_correction, tempered
from nuppl.neural.fields import Field
from nuppl.neural.registry import Config
from nuppl.optimize.fit import fit
from nuppl.results.checkpoints import Checkpoints
from nuppl.results.schema import inferred
from nuppl.sampling.settings import Settings

ROOT = Path(__file__).parents[2]
SMALL = Settings(seed=3, simulations=1500, epochs=10, draws=128, chains=8, particles=64)
X = torch.tensor([0.9, 0.4, 0.6, 0.5], dtype=torch.float64)


@pytest.fixture(autouse=True)
def double():
    with double_precision():
        yield


@nuppl.model(interest="mu")
def tractable(spread: float = 0.5):
    """Four measurements of mu."""
    mu = nuppl.parameter("mu", dist.Normal(0.0, 1.0))
    with nuppl.plate("bin", 4, dim=-1):
        nuppl.observe("x", dist.Normal(mu, spread), X)


@nuppl.model(interest="mu")
def simulator():
    """The same, as what can only be drawn."""
    mu = nuppl.parameter("mu", dist.Normal(0.0, 1.0))
    noisy = nuppl.Simulator(lambda m: m[..., None] + 0.5 * torch.randn(*m.shape, 4), mu, event_shape=(4,))
    nuppl.observe("x", noisy, X)


MEAN, SD = float(X.sum()) / 0.25 / 17.0, 17.0**-0.5
LOG_Z = float(dist.MultivariateNormal(torch.zeros(4).double(), 0.25 * torch.eye(4).double() + 1.0).log_prob(X))


@nuppl.model(interest="theta")
def gaussian():
    """Five correlated components, each measured once: theta ~ N(0, 1), x ~ N(A theta, 0.6)."""
    with nuppl.plate("component", 5, dim=-1):
        theta = nuppl.parameter("theta", dist.Normal(0.0, 1.0))
        nuppl.observe("x", dist.Normal(theta + 0.5 * theta.roll(1, -1), 0.6), torch.tensor([0.5, -1.0, 0.3, 1.2, 0.1]))


def gaussian_truth():
    """Posterior mean and deviation of each component, and the log evidence."""
    response = torch.eye(5) + 0.5 * torch.eye(5).roll(1, 0)
    seen = torch.tensor([0.5, -1.0, 0.3, 1.2, 0.1])
    precision = torch.eye(5) + response.T @ response / 0.36
    mean = torch.linalg.solve(precision, response.T @ seen / 0.36)
    evidence = dist.MultivariateNormal(torch.zeros(5), 0.36 * torch.eye(5) + response @ response.T).log_prob(seen)
    return mean, torch.linalg.inv(precision).diagonal().sqrt(), float(evidence)


class Exact(torch.nn.Module):
    """A likelihood that needs no training: four measurements of each of its latents' sum."""

    def log_prob(self, x, theta):
        return dist.Normal(theta.sum(-1, keepdim=True), 0.5).log_prob(x).sum(-1)

    def sample(self, theta, generator):
        return theta.sum(-1, keepdim=True) + 0.5 * torch.randn(len(theta), 4, generator=generator).double()


def exact(latents=("mu",), sites=("x",), columns=(0,), **more):
    config = Config("nle", (Field("u", (len(columns),)),), tuple(Field(site, (4 // len(sites),)) for site in sites))
    columns = torch.tensor(columns)
    return Learned(config, [Exact()], tuple(sites), tuple(latents), columns, None, None, [[]], 1, 0, **more)


@pytest.mark.parametrize("model", [simulator, tractable], ids=lambda model: model.name)
def test_an_exact_network_gives_the_exact_density_posterior_and_data(model):
    replaced = nuppl.surrogate(model, "x", exact())
    u = torch.linspace(-2.0, 2.0, 7)[:, None]
    assert Whitened(replaced.bind()).log_prob(u).tolist() == pytest.approx(
        Whitened(tractable.bind()).log_prob(u).tolist(), abs=1e-12
    )
    drawn = engine("smc")(replaced.bind(), SMALL)
    assert drawn.attrs["log_evidence"] == pytest.approx(LOG_Z, abs=5 * drawn.attrs["log_evidence_error"])
    assert float(drawn.values["mu"].mean()) == pytest.approx(MEAN, abs=5 * SD / math.sqrt(200))
    there = simulate(replaced.bind(), 4000, seed=1, at={"mu": torch.tensor(0.7)})["x"]
    assert there.shape == (4000, 4)
    assert there.mean(0).tolist() == pytest.approx([0.7] * 4, abs=5 * 0.5 / math.sqrt(4000))
    assert there.std(0).tolist() == pytest.approx([0.5] * 4, rel=5 / math.sqrt(8000))
    assert not check(replaced).findings


def test_a_simulator_that_was_replaced_is_never_called():
    def draw(mu):
        calls.append(len(mu))
        return mu[..., None] + 0.5 * torch.randn(*mu.shape, 4)

    @nuppl.model(interest="mu")
    def counted():
        calls.append("run")
        mu = nuppl.parameter("mu", dist.Normal(0.0, 1.0))
        nuppl.observe("x", nuppl.Simulator(draw, mu, event_shape=(4,)), X)

    calls: list[object] = []
    program = nuppl.surrogate(counted, "x", exact()).bind()
    surveyed = len(calls)
    engine("smc")(program, replace(SMALL, chains=2, draws=32))
    assert len(calls) == surveyed and all(call == "run" for call in calls)


@nuppl.model(interest="mu")
def hierarchical():
    """A prior that depends on a latent, a data site beside, and a pull."""
    width = nuppl.parameter("width", dist.Uniform(0.5, 2.0))
    mu = nuppl.random_effect("mu", dist.Normal(0.0, width))
    pull = nuppl.pull("pull")
    with nuppl.plate("bin", 4, dim=-1):
        nuppl.observe("x", dist.Normal(mu / width + pull, 0.5), X)
    nuppl.observe("beside", dist.Normal(pull + mu, 1.0), 0.3)


def test_other_sites_and_priors_that_depend_on_latents_stay_as_they_are():
    learned = exact(("width", "mu", "pull"), columns=(0, 1, 2))

    class Two(Exact):  # mu / width is the whitened mu
        def log_prob(self, x, theta):
            return super().log_prob(x, theta[..., 1:])

    replaced = nuppl.surrogate(hierarchical, "x", replace(learned, members=[Two()]))
    u = torch.randn(11, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = Whitened(hierarchical.bind()).log_prob(u)
    assert Whitened(replaced.bind()).log_prob(u).tolist() == pytest.approx(expected.tolist(), abs=1e-9)
    assert set(simulate(replaced.bind(), 3, seed=1)) == {"width", "mu", "pull", "x", "beside"}


def test_sites_that_were_learned_together_are_replaced_together():
    @nuppl.model(interest="mu")
    def halves():
        mu = nuppl.parameter("mu", dist.Normal(0.0, 1.0))
        with nuppl.plate("bin", 2, dim=-1):
            nuppl.observe("first", dist.Normal(mu, 0.5), X[:2])
            nuppl.observe("second", dist.Normal(mu, 0.5), X[2:])

    both = exact(sites=("first", "second"))
    program = nuppl.surrogate(halves, ("first", "second"), both).bind()
    u = torch.linspace(-2.0, 2.0, 7)[:, None]
    expected = Whitened(tractable.bind()).log_prob(u)
    assert Whitened(program).log_prob(u).tolist() == pytest.approx(expected.tolist(), abs=1e-12)
    drawn = simulate(program, 2000, seed=2)
    across = torch.corrcoef(torch.stack([drawn["first"][:, 0], drawn["second"][:, 1]]))[0, 1]
    assert float(across) == pytest.approx(0.8, abs=5 * 0.36 / math.sqrt(2000))  # through mu
    with pytest.raises(InputError, match="a density of first, second; name all of these"):
        nuppl.surrogate(halves, "first", both).bind()


def test_latents_that_the_network_integrated_are_no_longer_there():
    @nuppl.model(interest="mu")
    def pulled():
        mu = nuppl.parameter("mu", dist.Normal(0.0, 1.0))
        with nuppl.plate("source", 30, dim=-2):
            pull = nuppl.pull("pull")
        with nuppl.plate("bin", 4, dim=-1):
            nuppl.observe("x", dist.Normal(mu + 0.1 * pull.sum(-2, keepdim=True), 0.5), X)

    program = nuppl.surrogate(pulled, "x", exact(("mu", "pull"))).bind()
    assert list(program.latents) == ["mu"]
    u = torch.linspace(-2.0, 2.0, 7)[:, None]
    assert Whitened(program).log_prob(u).tolist() == pytest.approx(Whitened(tractable.bind()).log_prob(u).tolist())

    @nuppl.model(interest="mu")
    def beside():
        pulled.function()
        nuppl.observe("more", dist.Normal(0.0, 1.0), 0.1)

    with pytest.raises(InputError, match=r"integrated latents on which other data sites may depend \(more\)"):
        nuppl.surrogate(beside, "x", exact(("mu", "pull"))).bind()


def test_a_fit_stands_at_the_edge_of_a_bounded_prior():
    """The coordinate of a network is infinite there; the likelihood and its gradient are not."""

    @nuppl.model(interest="mu")
    def bounded():
        mu = nuppl.parameter("mu", dist.Uniform(0.0, 3.0), nominal=1.0)
        with nuppl.plate("bin", 4, dim=-1):
            nuppl.observe("x", dist.Normal(mu, 0.5), X - 5.0)

    program = nuppl.surrogate(bounded, "x", exact()).bind()
    natural = Natural(program)
    z = natural.lower[None].clone().requires_grad_()
    (slope,) = torch.autograd.grad(natural.log_likelihood(z).sum(), z)
    assert bool(slope.isfinite().all())
    assert float(fit(program).values["mu"]) == pytest.approx(0.0, abs=1e-3)


class Interrupted(Exception):
    pass


def interrupted_after(steps):
    left = [steps]

    def progress(done, total, what):
        left[0] -= 1
        if left[0] < 0:
            raise Interrupted

    return progress


def test_interrupted_anywhere_in_two_rounds_the_draws_are_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(Checkpoints, "due", lambda self: self.folder is not None)
    asked = replace(SMALL, simulations=600, epochs=3, rounds=2, draws=32, chains=2)
    whole = engine("nle")(simulator.bind(), asked)
    lives, again = 0, None
    while again is None:
        try:
            again = engine("nle")(simulator.bind(), replace(asked, scratch=tmp_path), interrupted_after(2 + lives))
        except Interrupted:
            lives += 1
    assert lives >= 3
    assert torch.equal(whole.values["mu"], again.values["mu"]) and whole.attrs == again.attrs


@pytest.mark.parametrize(("name", "epochs"), [("nle", 10), ("nre", 12), ("bnre", 20)])
def test_weights_make_any_learned_density_exact(name, epochs):
    mean, sd, log_evidence = gaussian_truth()
    drawn = engine(name)(gaussian.bind(), replace(SMALL, simulations=2500, epochs=epochs, chains=16, particles=128))
    # The draws are two sets of as many particles, which have moved in between: one set's size is safe.
    effective = drawn.attrs["efficiency"] * 16 * 128
    assert effective > 100
    values = drawn.values["theta"].flatten(0, 1)
    assert bool(((values.mean(0) - mean).abs() < 5 * sd / math.sqrt(effective)).all())
    assert bool(((values.std(0) / sd - 1).abs() < 5 / math.sqrt(2 * effective)).all())
    assert drawn.attrs["log_evidence"] == pytest.approx(log_evidence, abs=5 * drawn.attrs["log_evidence_error"])


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Networks of the counting experiment, and the draws of the runs that trained them."""
    found = {}
    with double_precision():
        for name in ("nle", "nre"):
            folder = tmp_path_factory.mktemp(name)
            asked = replace(SMALL, simulations=3000, epochs=12, draws=256, chains=16, particles=128)
            found[name] = folder, engine(name)(counting().bind(), replace(asked, kept=folder)), asked
    return found


def counting():
    return load_model(str(ROOT / "models" / "counting.py"))[0]


def counting_truth(observed=7.0):
    """Mean and deviation of the signal, and the log evidence, by quadrature."""
    s, b = torch.linspace(0.0, 30.0, 3001), torch.linspace(-6.0, 6.0, 481)
    rate = s[:, None] + (3.0 + 0.5 * b).clamp(min=0.0)
    density = (dist.Poisson(rate).log_prob(torch.tensor(observed)) - 0.5 * b**2).exp() / math.sqrt(2 * math.pi) / 30.0
    marginal = torch.trapezoid(density, b, dim=1)
    evidence = torch.trapezoid(marginal, s)
    mean = torch.trapezoid(s * marginal, s) / evidence
    return float(mean), float(torch.trapezoid((s - mean) ** 2 * marginal, s) / evidence) ** 0.5, float(evidence.log())


@pytest.mark.parametrize("name", ["nle", "nre"])
def test_counting_is_exact_by_weights_and_served_again(runs, name):
    folder, drawn, asked = runs[name]
    mean, sd, log_evidence = counting_truth()
    assert drawn.attrs["efficiency"] > 0.5 and "surrogate" not in drawn.attrs
    assert float(drawn.values["signal"].mean()) == pytest.approx(mean, abs=5 * sd / math.sqrt(500))
    assert float(drawn.values["signal"].std()) == pytest.approx(sd, rel=5 / math.sqrt(2 * 500))
    assert drawn.attrs["log_evidence"] == pytest.approx(log_evidence, abs=5 * drawn.attrs["log_evidence_error"])
    again = engine(name)(counting().bind(), replace(asked, guide=str(folder)))
    assert torch.equal(again.values["signal"], drawn.values["signal"])
    other = engine(name)(counting().bind(data={"counts": 12.0}), replace(asked, guide=str(folder)))
    assert float(other.values["signal"].mean()) == pytest.approx(counting_truth(12.0)[0], abs=5 * 3.5 / math.sqrt(500))


@pytest.fixture
def written(tmp_path, monkeypatch):
    """A model file with a surrogate line, and the folder in which it stands."""
    text = (ROOT / "models" / "counting.py").read_text()
    (tmp_path / "mine.py").write_text(
        text + '\n\nlearned = nuppl.surrogate(counting, "counts", "run", name="learned")\n'
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["nle", "nre"])
@pytest.mark.parametrize("sampler", ["smc", "hmc", "importance", "laplace"])
def test_a_model_file_with_a_surrogate_line_runs_under_every_engine(runs, written, name, sampler):
    (written / "run").symlink_to(runs[name][0])
    model, _ = load_model("mine.py:learned")
    few = Settings(seed=2, draws=128, warmup=60, chains=16, proposals=1000, particles=64)
    drawn = engine(sampler)(model.bind(), few)
    mean, sd, log_evidence = counting_truth()
    # As good as what was learned from 3000 simulations, or what a Gaussian of a skewed posterior is.
    assert float(drawn.values["signal"].mean()) == pytest.approx(mean, abs=0.35 * sd)
    assert float(drawn.values["signal"].std()) == pytest.approx(sd, rel=0.25)
    assert drawn.attrs["surrogate"] == f"{name} of counts"
    has_evidence = name == "nle" and sampler != "hmc"
    assert ("log_evidence" in drawn.attrs) == ("log_evidence_error" in drawn.attrs) == has_evidence
    if has_evidence:
        assert drawn.attrs["log_evidence"] == pytest.approx(log_evidence, abs=0.2)
    if name == "nre":
        assert drawn.attrs["evidence"].startswith("none: a ratio")


@pytest.mark.parametrize("name", ["nle", "nre"])
def test_a_fit_and_a_verdict_on_a_surrogate(runs, written, name):
    (written / "run").symlink_to(runs[name][0])
    program = load_model("mine.py:learned")[0].bind()
    assert float(fit(program).values["signal"]) == pytest.approx(4.0, abs=0.35 * 2.7)
    drawn = engine("smc")(program, Settings(seed=2, draws=64, particles=64))
    groups = inferred(program, drawn, seed=1, prior_draws=8)
    assert bool(groups["posterior_predictive"].data_vars) == ("prior" in groups) == (name == "nle")
    verdict = judge(groups)
    assert "check of a learned density" in [each.name for each in verdict.cautions]
    assert ("evidence error" in [each.name for each in verdict.checks]) == (name == "nle")
    if name == "nre":
        with pytest.raises(InputError, match=r"a learned ratio \(nre\) cannot be drawn from"):
            simulate(program, 3, seed=1)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda run: nuppl.surrogate(counting(), "count", run).bind(), "unknown data site for a surrogate 'count' "),
        (lambda run: nuppl.surrogate(tractable, "x", run).bind(), "another model: it is counting then, tractable now"),
        (lambda run: nuppl.surrogate(counting(), "counts", run).bind({"background": 4.0}), "another model: priors or"),
        (lambda run: nuppl.surrogate(counting(), "counts", run).bind(data={"counts": [1.0, 2.0]}), "expected shape"),
        (lambda run: nuppl.surrogate(counting(), "counts", run.parent / "none").bind(), "guide.json"),
        (lambda run: nuppl.surrogate(tractable, "x", exact(("nu",))).bind(), "a model with the latents nu"),
        (lambda run: engine("nre")(counting().bind(), replace(SMALL, guide=str(run))), "is a trained nle: expected"),
        (lambda run: engine("npe")(counting().bind(), replace(SMALL, guide=str(run))), "is a trained nle: expected"),
        (lambda run: engine("smc")(counting().bind(), replace(SMALL, guide=str(run))), "smc expected one of laplace"),
        (lambda run: learn(counting().bind(), "npe", SMALL), "expected one that learns the density of data, bnre, nle"),
        (lambda run: engine("nle")(counting().bind(), replace(SMALL, simulations=100)), "fewer than a batch"),
        (lambda run: engine("nle")(counting().bind(), replace(SMALL, chains=1)), "nle expected at least 2 islands"),
    ],
    ids=[
        *("site", "model", "option", "data", "no run", "latents", "estimator", "guide", "engine", "role"),
        *("batch", "islands"),
    ],
)
def test_what_does_not_fit_is_refused(runs, made, message):
    with pytest.raises(InputError, match=message):
        made(runs["nle"][0])


def test_data_of_another_shape_are_refused():
    @nuppl.model(interest="mu")
    def tractable(spread: float = 0.5):
        mu = nuppl.parameter("mu", dist.Normal(0.0, 1.0))
        with nuppl.plate("bin", 3, dim=-1):
            nuppl.observe("x", dist.Normal(mu, spread), X[:3])

    with pytest.raises(InputError, match=r"expected data of the shape that it was trained on, \(4,\), got \(3,\)"):
        nuppl.surrogate(tractable, "x", exact()).bind()


def test_an_interest_that_is_not_in_the_program_is_refused():
    @nuppl.model(interest="nu")
    def lost():
        simulator.function()

    with pytest.raises(InputError, match="unknown interest 'nu'"):
        engine("nle")(lost.bind(), SMALL)


@pytest.mark.parametrize("low", [-1.0, -1e-3])
def test_a_program_that_fails_too_often_is_refused(low):
    @nuppl.model
    def failing():
        a = nuppl.parameter("a", dist.Uniform(low, 1.0), nominal=0.5)
        nuppl.observe("n", dist.Poisson(a), 1.0)

    if low > -0.01:  # a thousandth fails
        assert learn(failing.bind(), "nle", replace(SMALL, epochs=1)).failed <= 15
        return
    with pytest.raises(InputError, match="expected at most 1 % for a learned likelihood"):
        learn(failing.bind(), "nle", SMALL)


def test_a_program_that_always_fails_is_refused():
    @nuppl.model
    def never():
        a = nuppl.parameter("a", dist.Uniform(0.0, 1.0), nominal=0.5)
        broken = nuppl.Simulator(lambda a: torch.full_like(a, torch.nan), a)
        nuppl.observe("n", broken, 0.0)

    with pytest.raises(InputError, match="all 1500 simulations failed"):
        engine("nre")(never.bind(), SMALL)


@pytest.mark.parametrize("name", ["nle", "nre"])
def test_rounds_come_nearer_and_then_serve_these_data_only(name, tmp_path):
    program = Program(simulator, {}, {}, {"x": X + 1.5})
    drawn = engine(name)(program, replace(SMALL, simulations=2000, epochs=15, rounds=2, draws=256, kept=tmp_path))
    assert drawn.attrs["rounds"] == 2 and drawn.attrs["simulations"] == 2000
    # As good as the training: half of a deviation.
    assert float(drawn.values["mu"].mean()) == pytest.approx(MEAN + 1.5 * 16 / 17, abs=0.5 * SD)
    assert float(drawn.values["mu"].std()) == pytest.approx(SD, rel=0.4)
    assert ("log_evidence" in drawn.attrs) == (name == "nle")
    assert "weights of a network" in [
        each.name for each in judge(inferred(program, drawn, seed=1, prior_draws=8)).failed
    ]
    served = replace(SMALL, guide=str(tmp_path))
    assert float(engine(name)(program, served).values["mu"].mean()) == pytest.approx(MEAN + 1.41, abs=0.5 * SD)
    with pytest.raises(InputError, match="in several rounds, near the posterior of one data set"):
        engine(name)(simulator.bind(), served)
    with pytest.raises(InputError, match="in several rounds"):
        Whitened(nuppl.surrogate(simulator, "x", tmp_path).bind()).log_prob(torch.zeros(1, 1))


def test_many_posteriors_at_once_are_those_of_one_after_the_other():
    program = simulator.bind()
    drawn = simulated(program, 200, seed=4)
    found = SurrogatePosteriors(exact(), program)(drawn.data, drawn.u, 400, 1, 0)
    mean = drawn.data.sum(1) / 0.25 / 17.0
    assert found.u.shape == (200, 400, 1)
    # Of 200 means the largest deviates by less than five of their errors, at half as many effective draws.
    assert float((found.u[:, :, 0].mean(1) - mean).abs().max()) < 5 * SD / math.sqrt(200)
    assert float(found.u[:, :, 0].std(1).mean()) == pytest.approx(SD, rel=0.02)
    density = dist.Normal(mean[:, None], SD).log_prob(found.u[:, :, 0])
    own, there = found.own
    gap = own - density
    assert float((gap - gap.mean(1, keepdim=True)).abs().max()) < 1e-6  # float32 inside
    expected = dist.Normal(mean, SD).log_prob(drawn.u[:, 0])
    assert torch.allclose(there - expected, gap.mean(1), atol=1e-6)


def test_tempered_particles_find_two_modes_and_follow_a_bend():
    def ratios(x, rows):
        apart = torch.logaddexp(-0.5 * ((x[..., 0] - 2) / 0.2) ** 2, -0.5 * ((x[..., 0] + 2) / 0.2) ** 2)
        bent = -0.5 * ((x[..., 1] - x[..., 2] ** 2) / 0.2) ** 2
        return torch.where(rows[:, None] == 0, apart, bent)

    u = tempered(ratios, 2, 2000, 3, seed=5)
    assert float((u[0, :, 0] > 0).double().mean()) == pytest.approx(0.5, abs=0.1)
    assert float((u[1, :, 1] - u[1, :, 2] ** 2).std()) == pytest.approx(0.2, rel=0.15)


def test_the_prior_of_a_latent_that_is_not_normal_when_whitened():
    @nuppl.model
    def gamma():
        nuppl.parameter("a", dist.Dirichlet(torch.tensor([2.0, 3.0, 1.0])))
        nuppl.observe("x", dist.Normal(0.0, 1.0), 0.0)

    program = gamma.bind()
    u = torch.randn(6, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = prior_correction(program, torch.arange(2))(u)
    expected = Whitened(program).split(u)[0] - dist.Normal(0.0, 1.0).log_prob(u).sum(1)
    assert torch.allclose(found, expected)
    assert flat_data(program).tolist() == [0.0]
