"""The classical tasks: model files that keep the contract, with the densities that their draws have."""

import importlib
import json
import math
from pathlib import Path

import pyro.distributions as dist
import pytest
import torch

from nuppl.language.check import check, format_report
from nuppl.language.loading import load_models
from nuppl.language.simulation import simulate
from nuppl.learning.simulated import data_fields

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SIZES = {  # parameters, data, kind
    "two_moons": (2, 2, "real"),
    "slcp": (5, 8, "real"),
    "gaussian_linear": (10, 10, "real"),
    "gaussian_linear_uniform": (10, 10, "real"),
    "gaussian_mixture": (2, 2, "real"),
    "bernoulli_glm": (10, 10, "real"),
    "sir": (2, 10, "count"),
    "lotka_volterra": (4, 20, "positive"),
}


def load(name):
    return load_models(BENCHMARKS / "sbibm" / f"{name}.py")[name]


def source(name):
    return load(name).function.__globals__


@pytest.fixture
def table(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("sbibm_table")


@pytest.mark.parametrize("name", SIZES)
def test_every_task_keeps_the_contract_and_simulates(name):
    model = load(name)
    report = check(model)
    assert report.passed, format_report(report)
    program = model.bind()
    drawn = simulate(program, 20, seed=1)
    parameters, numbers, kind = SIZES[name]
    assert sum(drawn[latent][0].numel() for latent in program.latents) == parameters
    assert drawn["x"].shape[0] == 20 and drawn["x"][0].numel() == numbers
    assert bool(drawn["x"].isfinite().all()) and data_fields(program)[0].kind == kind


def test_the_crescent_is_normalised_and_its_draws_follow_it():
    crescent = source("two_moons")["Crescent"](torch.zeros(2, dtype=torch.float64))
    edges = torch.linspace(-0.16, 0.16, 801, dtype=torch.float64)
    middles = 0.5 * (edges[1:] + edges[:-1])
    grid = torch.stack(torch.meshgrid(middles, middles, indexing="ij"), -1)
    density = crescent.log_prob(grid).exp() * (edges[1] - edges[0]) ** 2
    assert float(density.sum()) == pytest.approx(1.0, abs=1e-3)
    torch.manual_seed(1)
    drawn = crescent.expand((20_000,)).sample()
    for power in (1, 2):
        expected = (density[..., None] * grid**power).sum((0, 1))
        assert torch.allclose((drawn**power).mean(0), expected, atol=2e-3 if power == 1 else 2e-4)


def test_spikes_have_the_density_of_their_statistics():
    """Summed over all trains of a few steps, and against Bernoulli draws one by one."""
    glm = source("bernoulli_glm")
    t = torch.linspace(-1.0, 1.0, 10, dtype=torch.float64)
    spikes = (torch.rand(100, generator=torch.Generator().manual_seed(2)) < 0.5).double()
    each = dist.Bernoulli(logits=glm["V"] @ t).log_prob(spikes).sum()
    assert float(glm["Statistics"](t).log_prob(spikes @ glm["V"])) == pytest.approx(float(each), rel=1e-9)
    torch.manual_seed(1)
    drawn = glm["Statistics"](t).expand((4_000,)).sample()
    expected = (glm["V"] @ t).sigmoid() @ glm["V"]
    assert torch.allclose(drawn.mean(0), expected, atol=5 * float(drawn.std(0).max()) / math.sqrt(4_000))


@pytest.mark.parametrize(("name", "change"), [("sir", "infected"), ("lotka_volterra", "logarithms")])
def test_equations_are_solved_with_steps_that_are_short_enough(name, change):
    """Half the step changes nothing that the noise would show, anywhere in the prior."""
    model, given = load(name), source(name)
    drawn = simulate(model.bind(), 100, seed=3)
    rates = [drawn[latent].double().reshape(100, 1, 1) for latent in model.bind().latents]
    if name == "sir":
        rates = [rate[..., 0] for rate in rates]
    coarse, steps = given[change](*rates), given["STEPS"]
    given["STEPS"] = 2 * steps
    fine = given[change](*rates)
    given["STEPS"] = steps
    assert float((coarse - fine).abs().max()) < (1e-4 if name == "sir" else 2e-3)


def test_an_epidemic_conserves_people_and_dies_out():
    shares = source("sir")["infected"](torch.tensor([[0.5], [0.05]]).double(), torch.full((2, 1), 0.2).double())
    assert float(shares[0].max()) > 0.1 and float(shares[1, -1]) < 1e-6


def test_the_table_prints_what_is_on_file(table, tmp_path):
    for estimator, values in (("npe", [0.6] * 10), ("fmpe", [0.5, 0.54, 0.52]), ("nle", [0.59, 0.61] * 5)):
        cell = table.Cell(tmp_path, "two_moons", 10_000, estimator)
        cell.path.write_text(json.dumps({"c2st": values}))
    lines = table.table(tmp_path).splitlines()
    assert len(lines) == 3
    assert "0.520 ± 0.009 (3)" in lines[2] and "0.600 ± 0.003 (10)" in lines[2]
    # Three observations alone cannot be the best of a row in which others have ten.
    assert "| 0.600 | 0.606 / 0.713 / 0.761 | at or below |" in lines[2]


def test_a_row_is_not_judged_before_all_ten_observations(table, tmp_path):
    table.Cell(tmp_path, "slcp", 1_000, "nle").path.write_text(json.dumps({"c2st": [0.7]}))
    line = table.table(tmp_path).splitlines()[2]
    assert "| 0.700 (1) |" in line and "open: 1 of 10" in line and "at or below" not in line
