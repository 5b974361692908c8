"""Neural engines: exact where there is a density, honest where there is none, resumable, and kept for other data."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyro.distributions as dist
import pytest
import torch

import nuppl
from nuppl.diagnostics.verdict import judge
from nuppl.errors import InputError
from nuppl.inference.registry import engine
from nuppl.language.density import Whitened
from nuppl.language.precision import double_precision
from nuppl.learning.neural_guide import NeuralGuide
from nuppl.learning.reading import Anchor, Estimate, Regression
from nuppl.learning.simulated import data_fields, flat_data, simulated
from nuppl.results.checkpoints import Checkpoints
from nuppl.results.schema import inferred
from nuppl.sampling.guides import GaussianGuide
from nuppl.sampling.settings import Settings

COUNTING = Path(__file__).parents[2] / "models" / "counting.py"
SMALL = Settings(seed=3, simulations=1500, epochs=8, proposals=500, draws=200, chains=2)
X = torch.tensor([1.2, -0.4, 0.7], dtype=torch.float64)


@pytest.fixture(autouse=True)
def double():
    with double_precision():
        yield


@nuppl.model(interest="mean")
def gaussian(scale: float = 1.0):
    """mean ~ N(0, 2), a pull per bin, data N(mean + 0.5 pull, 1)."""
    mean = nuppl.parameter("mean", dist.Normal(0.0, 2.0))
    with nuppl.plate("bin", ["a", "b", "c"], dim=-1):
        shift = nuppl.pull("shift")
        nuppl.observe("x", dist.Normal(mean + 0.5 * scale * shift, 1.0), X)


@nuppl.model(interest="mean")
def many():
    """The same with twenty pulls, so that all but the mean are integrated in closed form."""
    mean = nuppl.parameter("mean", dist.Normal(0.0, 2.0))
    with nuppl.plate("source", 20, dim=-2):
        pull = nuppl.pull("pull")
    response = 0.1 * torch.sin(torch.arange(60.0).reshape(20, 3))
    with nuppl.plate("bin", 3, dim=-1):
        nuppl.observe("x", dist.Normal(mean + (pull * response).sum(-2, keepdim=True), 1.0), X)


@nuppl.model(interest="mu")
def simulator(scatter: float = 0.5):
    """Four noisy copies of mu that can only be drawn."""
    mu = nuppl.parameter("mu", dist.Normal(0.0, 1.0))
    noisy = nuppl.Simulator(lambda m: m[..., None] + scatter * torch.randn(*m.shape, 4), mu, event_shape=(4,))
    nuppl.observe("x", noisy, torch.tensor([0.9, 0.4, 0.6, 0.5]))


def exact_mean(response: torch.Tensor) -> tuple[float, float, float]:
    """Posterior mean and deviation of `mean`, and the log evidence, for pulls that act with shape (pulls, bins)."""
    noise = torch.eye(3) + response.T @ response
    precision = 0.25 + torch.linalg.inv(noise).sum()
    center = torch.linalg.solve(noise, X).sum() / precision
    evidence = dist.MultivariateNormal(torch.zeros(3), noise + 4.0).log_prob(X)
    return float(center), float(precision**-0.5), float(evidence)


def test_weights_make_any_network_exact():
    response = 0.1 * torch.sin(torch.arange(60.0).reshape(20, 3))
    mean, sd, log_evidence = exact_mean(response)
    drawn = engine("npe")(many.bind(), replace(SMALL, ensemble=2))
    assert drawn.attrs["networks"] == 2 and drawn.attrs["simulations"] == 1500
    assert drawn.values["pull"].shape == (2, 200, 20)
    assert drawn.attrs["efficiency"] > 0.5
    assert drawn.attrs["log_evidence"] == pytest.approx(log_evidence, abs=5 * drawn.attrs["log_evidence_error"])
    values = drawn.values["mean"]
    assert float(values.mean()) == pytest.approx(mean, abs=5 * sd / math.sqrt(200))
    assert float(values.std()) == pytest.approx(sd, rel=5 / math.sqrt(2 * 200))


class Interrupted(Exception):
    pass


def interrupted_after(steps: int):
    """Progress that stops an engine after so many steps."""
    left = [steps]

    def progress(done, total, what):
        left[0] -= 1
        if left[0] < 0:
            raise Interrupted

    return progress


def test_interrupted_anywhere_an_engine_ends_with_the_same_draws(tmp_path, monkeypatch):
    # Every state is due, so that every one is gone on from.
    monkeypatch.setattr(Checkpoints, "due", lambda self: self.folder is not None)
    asked = replace(SMALL, ensemble=2, epochs=4)
    whole = engine("npe")(gaussian.bind(), asked)
    lives, again = 0, None
    while again is None:
        try:
            again = engine("npe")(gaussian.bind(), replace(asked, scratch=tmp_path), interrupted_after(3 + lives))
        except Interrupted:
            lives += 1
    assert lives >= 3
    assert torch.equal(whole.values["mean"], again.values["mean"])
    assert whole.attrs == again.attrs


def test_without_a_density_the_draws_are_the_networks_own_and_the_verdict_says_so():
    program = simulator.bind()
    drawn = engine("npe")(program, replace(SMALL, simulations=3000, epochs=25, draws=1000))
    assert "efficiency" not in drawn.attrs and not drawn.stats
    precision = 1.0 + 4 / 0.25
    # The network is no better than its training: a third of a deviation, a quarter of the width.
    assert float(drawn.values["mu"].mean()) == pytest.approx(2.4 / 0.25 / precision, abs=0.33 * precision**-0.5)
    assert float(drawn.values["mu"].std()) == pytest.approx(precision**-0.5, rel=0.25)
    verdict = judge(inferred(program, drawn, seed=1, prior_draws=8))
    assert "weights of a network" in [check.name for check in verdict.failed]


@nuppl.model(interest="rate")
def cut():
    """A rate that is negative in half of the prior."""
    rate = nuppl.parameter("rate", dist.Normal(0.0, 3.0), nominal=1.0)
    with nuppl.plate("bin", 4, dim=-1):
        nuppl.observe("n", dist.Poisson(rate), torch.tensor([2.0, 4.0, 3.0, 3.0]))


def test_failed_simulations_are_dropped_and_counted():
    found = simulated(cut.bind(), 2000, seed=1)
    assert len(found.u) + found.failed == 2000
    assert found.failed == pytest.approx(1000, abs=5 * math.sqrt(500))
    assert bool((found.u > 0).all())
    drawn = engine("npe")(cut.bind(), SMALL)
    assert drawn.attrs["simulations"] + drawn.attrs["failed_simulations"] == SMALL.simulations
    assert drawn.attrs["failed_simulations"] > 500 and float(drawn.values["rate"].min()) > 0


def test_a_program_of_which_no_draw_succeeds_is_refused():
    @nuppl.model
    def never():
        a = nuppl.parameter("a", dist.Uniform(0.0, 1.0), nominal=0.5)
        nuppl.observe("n", dist.Poisson(-((a - 0.5) ** 2)), 0.0)

    with pytest.raises(InputError, match="all 1500 simulations failed"):
        engine("npe")(never.bind(), SMALL)


def test_a_simulator_that_always_fails_is_refused():
    def broken(a):
        raise ArithmeticError("no orbit")

    @nuppl.model
    def model():
        a = nuppl.parameter("a", dist.Normal(0.0, 1.0))
        nuppl.observe("x", nuppl.Simulator(broken, a), 0.0)

    with pytest.raises(InputError, match=r"every one of .* lanes failed.*no orbit"):
        engine("npe")(model.bind(), SMALL)


def test_fewer_simulations_than_a_batch_are_refused():
    with pytest.raises(InputError, match="fewer than a batch"):
        engine("npe")(gaussian.bind(), replace(SMALL, simulations=100))


def test_data_sites_have_kinds():
    @nuppl.model
    def model():
        a = nuppl.parameter("a", dist.Uniform(1.0, 2.0))
        nuppl.observe("counts", dist.Poisson(a), 1.0)
        nuppl.observe("tries", dist.Binomial(10, 0.3 * a), 1.0)
        nuppl.observe("energy", dist.Gamma(a, 1.0), 1.0)
        nuppl.observe("angle", dist.Normal(a, 1.0), 1.0)
        with nuppl.plate("bin", 2, dim=-1):
            nuppl.observe("share", dist.Beta(a, 1.0), torch.tensor([0.2, 0.3]))

    kinds = {field.name: (field.kind, field.shape) for field in data_fields(model.bind())}
    assert kinds["counts"] == kinds["tries"] == ("count", ())
    assert kinds["energy"] == ("positive", ()) and kinds["angle"] == ("real", ()) and kinds["share"] == ("real", (2,))


def test_an_estimate_of_a_linear_program_is_the_posterior_mean():
    program = gaussian.bind()
    whitened = Whitened(program)
    estimate = Estimate.at(whitened, torch.zeros(4), torch.tensor([0]))
    mean, _, _ = exact_mean(0.5 * torch.eye(3))
    assert estimate(flat_data(program)[None])[0].tolist() == pytest.approx([mean / 2.0] * 2, abs=1e-9)


def test_a_regression_and_its_anchor_leave_standard_residuals():
    found = simulated(gaussian.bind(), 4000, seed=2)
    regression = Regression.fit(data_fields(gaussian.bind()), found.data, found.u[:, :1])
    mean, log_scale = Anchor.fit(regression(found.data), found.u[:, :1])(regression(found.data))
    z = (found.u[:, :1] - mean) * (-log_scale).exp()
    assert float(z.mean()) == pytest.approx(0.0, abs=0.05) and float(z.std()) == pytest.approx(1.0, abs=0.05)
    _, sd, _ = exact_mean(0.5 * torch.eye(3))
    assert float((found.u[:, :1] - mean).std()) == pytest.approx(sd / 2.0, rel=0.08)


class Normals:
    """A network that answers with standard normals whatever the data."""

    def sample(self, x, n, generator):
        return torch.randn(n, 2, generator=generator)

    def sample_with_log_prob(self, x, n, generator):
        z = self.sample(x, n, generator)
        return z, self.log_prob(z, x)

    def log_prob(self, theta, x):
        return -0.5 * theta.square().sum(-1) - math.log(2 * math.pi)


def test_a_guide_is_normalised_and_moves_onto_its_target():
    loc, covariance = torch.tensor([1.5, -0.5]), torch.tensor([[1.0, 0.6], [0.6, 0.8]])
    target = torch.distributions.MultivariateNormal(loc, covariance)
    start = NeuralGuide(Normals(), torch.zeros(0), torch.zeros(2), torch.eye(2))
    guide = start.fitted(target.log_prob, seed=4)
    for some in (start.tailed(start._answers(4)), guide):
        u, log_q = some.sample(4000, seed=4, stream=1)
        weight = (target.log_prob(u) - log_q).exp()
        assert float(weight.mean()) == pytest.approx(1.0, abs=5 * float(weight.std()) / math.sqrt(4000))
    assert float(weight.sum() ** 2 / weight.square().sum() / 4000) > 0.9
    assert guide.loc.tolist() == pytest.approx(loc.tolist(), abs=0.15)
    reverse, log_wide = GaussianGuide(loc, 3.0 * torch.eye(2)).sample(20000, 4, 2)
    share = guide.tails.log_prob(reverse)
    mixed = torch.logaddexp(math.log(0.95) + guide.log_prob(reverse), math.log(0.05) + share)
    weight = (mixed - log_wide).exp()
    assert float(weight.mean()) == pytest.approx(1.0, abs=5 * float(weight.std()) / math.sqrt(20000))


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A network trained on `gaussian`."""
    folder = tmp_path_factory.mktemp("kept")
    with double_precision():
        drawn = engine("npe")(gaussian.bind(), replace(SMALL, kept=folder))
    return folder, drawn


def test_a_kept_network_gives_the_same_draws_and_serves_other_data(kept):
    folder, drawn = kept
    again = engine("npe")(gaussian.bind(), replace(SMALL, guide=str(folder)))
    assert torch.equal(drawn.values["mean"], again.values["mean"])
    moved = engine("npe")(gaussian.bind(data={"x": X + 1.0}), replace(SMALL, guide=str(folder)))
    mean, sd, _ = exact_mean(0.5 * torch.eye(3))
    shift = 3 / 1.25 / (0.25 + 3 / 1.25)
    assert moved.attrs["efficiency"] > 0.5
    assert float(moved.values["mean"].mean()) == pytest.approx(mean + shift, abs=5 * sd / math.sqrt(200))


def longer():
    @nuppl.model(interest="mean")
    def gaussian(scale: float = 1.0):
        mean = nuppl.parameter("mean", dist.Normal(0.0, 2.0))
        with nuppl.plate("bin", 3, dim=-1):
            shift = nuppl.pull("shift")
        with nuppl.plate("bin", 3, dim=-1), nuppl.plate("run", 2, dim=-2):
            nuppl.observe("x", dist.Normal(mean + 0.5 * scale * shift, 1.0), torch.stack([X, X]))

    return gaussian


@pytest.mark.parametrize(
    ("name", "program", "message"),
    [
        ("npe", lambda: many.bind(), "another model: it is gaussian then, many now"),
        ("npe", lambda: gaussian.bind({"scale": 2.0}), "another model: priors or expected data"),
        ("npe", lambda: gaussian.bind(fixed={"mean": 0.3}), "another model: its latents"),
        ("npe", lambda: longer().bind(), r"data of the shape .* x\[3\], got x\[2, 3\]"),
        ("fmpe", lambda: gaussian.bind(), "is a trained npe"),
        ("importance", lambda: gaussian.bind(), "importance expected one of laplace"),
    ],
    ids=["model", "option", "fixed", "shape", "estimator", "engine"],
)
def test_a_network_of_something_else_is_refused(kept, name, program, message):
    with pytest.raises(InputError, match=message):
        engine(name)(program(), replace(SMALL, guide=str(kept[0])))


def test_a_guide_that_is_neither_a_name_nor_a_run_is_refused(tmp_path):
    for guide in ("lapace", str(tmp_path)):
        with pytest.raises(InputError, match=r"unknown guide.*or the folder of a run of npe, fmpe or npse"):
            replace(SMALL, guide=guide)


def nuppl_infer(*arguments, cwd):
    command = [sys.executable, "-c", "from nuppl.cli.main import main; main()", "infer", *map(str, arguments)]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False)


def test_the_command_line_trains_once_and_serves_a_second_file(tmp_path):
    second = tmp_path / "second.py"
    second.write_text(COUNTING.read_text().replace("7.0, unit", "12.0, unit"))
    quick = ("--draws", "500", "--proposals", "1000", "--json")
    first = nuppl_infer(COUNTING, "--engine", "npe", "--simulations", "1000", "--epochs", "5", *quick, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert {"guide.json", "guide.pt"} <= {file.name for file in (tmp_path / "runs" / "counting").iterdir()}
    served = nuppl_infer(second, "--guide", "runs/counting", *quick, cwd=tmp_path)
    assert served.returncode == 0, served.stderr
    values = [json.loads(done.stdout)["parameters"]["signal"]["value"] for done in (first, served)]
    assert values[1] == pytest.approx(values[0] + 5.0, abs=0.7)
    learned = nuppl.open_run(tmp_path / "runs" / "counting").groups["training"]
    assert learned["validation"].shape == (1, 5) and bool(learned["train"].notnull().all())
    refused = nuppl_infer(COUNTING, "--guide", "runs/counting", "--option", "background=4", "--out", "x", cwd=tmp_path)
    assert refused.returncode == 2 and "another model" in refused.stderr
