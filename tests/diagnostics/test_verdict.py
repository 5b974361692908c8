"""The verdict on posteriors whose state is known: good ones pass, each bad one fails for its own reason."""

from __future__ import annotations

import math

import pyro.distributions as dist
import pytest
import torch

import nuppl
from nuppl.diagnostics.verdict import judge
from nuppl.errors import InputError
from nuppl.language.simulation import asimov
from nuppl.results.draws import Draws
from nuppl.results.schema import expected, inferred
from nuppl.results.storage import load, save
from nuppl.results.summary import summarize

N = 50


@nuppl.model(interest="mean")
def normal(width: float = 1.0):
    """Fifty measurements of a mean, scattered with width 1, and a pull that nothing depends on."""
    mean = nuppl.parameter("mean", dist.Normal(0.0, 10.0))
    nuppl.pull("idle")
    with nuppl.plate("event", N, dim=-1):
        data = torch.special.ndtri((torch.arange(N) + 0.5) / N)
        nuppl.observe("y", dist.Normal(mean, width), data)


def draws(chains=4, n=500, engine="nuts", seed=1, shift=None, attrs=None, stats=None, stuck=False):
    """Exact draws of the posterior, N(0, 1/N) for the mean, unless shifted or stuck."""
    generator = torch.Generator().manual_seed(seed)
    mean, idle = torch.randn(2, chains, n, generator=generator, dtype=torch.float64)
    mean = mean / math.sqrt(N) if shift is None else mean / math.sqrt(N) + shift
    idle = torch.full_like(idle, 0.3) if stuck else idle
    return Draws({"mean": mean, "idle": idle}, stats or {}, attrs or {}, engine)


def failed(result, width=1.0):
    verdict = judge(inferred(normal.bind({"width": width}), result, seed=5, prior_draws=8))
    assert verdict.trusted == (not verdict.failed)
    return [check.name for check in verdict.failed]


GOOD_WEIGHTS = {"effective_draws": 1200.0, "efficiency": 0.6, "pareto_k": 0.2, "failures": 0, "proposals": 4000}


def test_a_good_chain_and_good_weights_are_trusted():
    assert failed(draws(stats={"diverging": torch.zeros(4, 500)})) == []
    assert failed(draws(engine="importance", attrs=GOOD_WEIGHTS)) == []
    assert failed(draws(engine="laplace", attrs={"pareto_k": 0.3})) == []


@pytest.mark.parametrize(
    ("result", "reasons"),
    [
        (draws(shift=torch.tensor([[0.0], [0.0], [0.0], [0.4]])), ["R-hat, interest", "effective draws, interest"]),
        (draws(stuck=True), ["R-hat, nuisances", "effective draws, nuisances"]),
        (draws(n=60), ["effective draws, interest"]),
        (draws(stats={"diverging": (torch.arange(2000) % 100 == 0).reshape(4, 500)}), ["fraction of divergences"]),
        (draws(engine="importance", attrs={**GOOD_WEIGHTS, "pareto_k": 0.9}), ["Pareto k"]),
        (draws(engine="importance", attrs={**GOOD_WEIGHTS, "pareto_k": math.nan}), ["Pareto k"]),
        (draws(engine="importance", attrs={**GOOD_WEIGHTS, "failures": 40}), ["fraction of NaN densities"]),
        (
            draws(engine="importance", attrs={**GOOD_WEIGHTS, "effective_draws": 150.0}),
            ["effective draws, interest", "effective weighted draws"],
        ),
        (draws(engine="laplace"), ["Pareto k"]),
        (draws(engine="laplace", attrs={"pareto_k": 0.3, "efficiency": 0.76}), ["efficiency of uncorrected draws"]),
        (draws(engine="importance", attrs={**GOOD_WEIGHTS, "modes_missed": 1}), ["modes seen but not covered"]),
        (draws(shift=torch.tensor(3.0)), ["p-value of y"]),
    ],
    ids=[
        "split",
        "stuck",
        "short",
        "divergent",
        "heavy",
        "untold",
        "nan",
        "few",
        "unchecked",
        "uneven",
        "second mode",
        "elsewhere",
    ],
)
def test_each_fault_is_found_and_no_other(result, reasons):
    assert failed(result) == reasons


@pytest.mark.parametrize("width", [0.3, 5.0])
def test_a_wrong_model_fails_its_data(width):
    # Scatter 1 against 0.3 assumed: X^2 near 550 for 50 entries. Against 5: X^2 near 2, far too good.
    assert failed(draws(), width) == ["p-value of y"]


def test_draws_that_are_not_numbers_are_named():
    result = draws()
    result.values["mean"][0, 0] = math.nan
    verdict = judge(inferred(normal.bind(), result, seed=5, prior_draws=8))
    assert verdict.checks[0].name == "parameters with NaN or infinite draws" and "mean" in verdict.checks[0].advice
    assert not verdict.trusted


def test_the_verdict_survives_the_file_and_json(tmp_path):
    groups = inferred(normal.bind(), draws(n=60, attrs={"pareto_k": math.nan}), seed=5, prior_draws=8)
    verdict, again = judge(groups), judge(load(save(groups, tmp_path / "x.nc")))
    assert repr(again) == repr(verdict)
    assert verdict.sentence().startswith("Do not trust this posterior: 2 of ")
    shown = {check["name"]: check for check in verdict.to_json()["checks"]}
    assert shown["Pareto k"]["value"] is None and shown["R-hat, interest"]["passed"]


def islands(shared, nuisances, seed=1, n=100):
    """Sixteen islands; the draws of each share a part of the mean, or of the nuisances, in no order."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(part, *shape):
        here, own = (torch.randn(16, k, *shape, generator=generator, dtype=torch.float64) for k in (1, n))
        return part**0.5 * here + (1.0 - part) ** 0.5 * own

    values = {"mean": drawn(shared) / math.sqrt(N), "idle": drawn(nuisances, IDLE)}
    return Draws(values, {}, {"islands": 16, "effective_draws": 1600.0}, "smc")


IDLE = 200


@nuppl.model(interest="mean")
def crowd():
    """A mean, and two hundred pulls that nothing depends on."""
    mean = nuppl.parameter("mean", dist.Normal(0.0, 10.0))
    with nuppl.plate("pull", IDLE, dim=-2):
        nuppl.pull("idle")
    with nuppl.plate("event", N, dim=-1):
        data = torch.special.ndtri((torch.arange(N) + 0.5) / N)
        nuppl.observe("y", dist.Normal(mean, 1.0), data)


def failed_islands(result):
    return [check.name for check in judge(inferred(crowd.bind(), result, seed=5, prior_draws=8)).failed]


def test_islands_are_judged_by_how_far_they_lie_apart():
    assert failed_islands(islands(0.0, 0.0)) == []
    # A shared part of 1/4 leaves 16 / 0.25 = 62 effective draws, which no order within the islands would show.
    assert failed_islands(islands(0.25, 0.0)) == ["R-hat, interest", "effective draws, interest"]
    assert failed_islands(islands(0.0, 0.5)) == ["R-hat, nuisances", "effective draws, nuisances"]


def test_two_hundred_nuisances_do_not_fail_by_chance():
    # Each has 16 / 0.08 = 180 effective draws, above the 100 asked for; the least of two hundred estimates is below.
    result = islands(0.0, 0.08)
    least = min(min(row.ess_bulk, row.ess_tail) for row in summarize(result)[1:])
    assert 40.0 < least < 100.0
    assert failed_islands(result) == []


def test_only_posteriors_are_judged():
    program = normal.bind()
    with pytest.raises(InputError, match="a result with a posterior"):
        judge(expected(program, asimov(program)))
