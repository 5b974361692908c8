"""The verdict on posteriors whose state is known: good ones pass, each bad one fails for its own reason."""

from __future__ import annotations

import ast
import json
import math
import re
from pathlib import Path

import pyro.distributions as dist
import pytest
import torch

import nuppl
from nuppl.diagnostics.checks import PAGE
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


def names(checks):
    return [check.name for check in checks]


def failed(result, width=1.0):
    """What fails, where nothing is cautioned."""
    verdict = judge(inferred(normal.bind({"width": width}), result, seed=5, prior_draws=8))
    assert verdict.trusted == (not verdict.failed) and not verdict.cautions
    return names(verdict.failed)


GOOD_WEIGHTS = {"effective_draws": 1200.0, "efficiency": 0.6, "pareto_k": 0.2, "failures": 0, "proposals": 4000}


def test_a_good_chain_and_good_weights_are_trusted():
    assert failed(draws(stats={"diverging": torch.zeros(4, 500)})) == []
    assert failed(draws(engine="importance", attrs=GOOD_WEIGHTS)) == []
    assert failed(draws(engine="npe", attrs=GOOD_WEIGHTS)) == []
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
        (draws(engine="npe"), ["weights of a network"]),
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
        "unweighted",
        "uneven",
        "second mode",
        "elsewhere",
    ],
)
def test_each_fault_is_found_and_no_other(result, reasons):
    assert failed(result) == reasons


def test_a_wrong_model_fails_its_data_and_a_generous_one_is_cautioned():
    # Scatter 1 against 0.3 assumed: X^2 near 550 for 50 entries. Against 5: X^2 near 2, far too good.
    assert failed(draws(), 0.3) == ["p-value of y"]
    generous = judge(inferred(normal.bind({"width": 5.0}), draws(), seed=5, prior_draws=8))
    assert generous.trusted and names(generous.cautions) == ["p-value of y"]


@pytest.mark.parametrize("law", [dist.Cauchy, lambda *at: dist.StudentT(2.0, *at)], ids=["no", "infinite"])
def test_data_without_a_variance_have_no_p_value(law):
    @nuppl.model(interest="mean")
    def model():
        mean = nuppl.parameter("mean", dist.Normal(0.0, 10.0))
        nuppl.pull("idle")
        with nuppl.plate("event", N, dim=-1):
            nuppl.observe("y", law(mean, 1.0), torch.linspace(-2.0, 2.0, N))

    verdict = judge(inferred(model.bind(), draws(), seed=5, prior_draws=8))
    assert verdict.trusted and "p-value of y" not in names(verdict.checks)


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
    return names(judge(inferred(crowd.bind(), result, seed=5, prior_draws=8)).failed)


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


@pytest.mark.parametrize(
    ("error", "islands", "expected"),
    [
        (0.05, 16, []),
        (0.22, 16, ["evidence error"]),
        (0.15, 64, ["island spread"]),
        (0.3, 16, ["island spread", "evidence error"]),
    ],
)
def test_an_uncertain_evidence_is_a_caution(error, islands, expected):
    attrs = {"islands": islands, "log_evidence": -3.0, "log_evidence_error": error}
    result = draws(chains=islands, n=100, engine="smc", attrs=attrs)
    verdict = judge(inferred(normal.bind(), result, seed=5, prior_draws=8))
    assert verdict.trusted and names(verdict.cautions) == expected


@pytest.mark.parametrize(
    ("attrs", "fails"),
    [
        ({"failures": 40, "evaluations": 100_000}, False),
        ({"failures": 400, "evaluations": 100_000}, True),
        ({"failures": 40, "proposals": 4000}, True),
        ({"failures": 4, "proposals": 4000}, False),
        ({"failures": 3}, True),
        ({"failures": 2}, False),
    ],
)
def test_nan_densities_are_counted_among_all_that_were_evaluated(attrs, fails):
    assert failed(draws(attrs=attrs)) == ["fraction of NaN densities"] * fails


def before_and_after(prior, values, prior_draws=8):
    """The cautions on draws of a parameter that no data touch."""

    @nuppl.model(interest="x")
    def model():
        x = nuppl.parameter("x", prior)
        with nuppl.plate("event", N, dim=-1):
            data = torch.special.ndtri((torch.arange(N, dtype=torch.float64) + 0.5) / N)
            nuppl.observe("y", dist.Normal(0.0 * x, 1.0), data)

    result = Draws({"x": torch.as_tensor(values, dtype=torch.float64).reshape(4, 1000)}, engine="nuts")
    verdict = judge(inferred(model.bind(), result, seed=5, prior_draws=prior_draws))
    assert verdict.trusted
    return {check.name.removesuffix(", interest"): check for check in verdict.cautions}


def shuffled(quantiles):
    return quantiles[torch.randperm(4000, generator=torch.Generator().manual_seed(3))]


P = shuffled((torch.arange(4000, dtype=torch.float64) + 0.5) / 4000)
Z = torch.special.ndtri(P)
UNIT, DECADES, HALF = dist.Uniform(0.0, 1.0), nuppl.LogUniform(1e-4, 1.0), dist.HalfNormal(1.0)


@pytest.mark.parametrize(
    ("prior", "values", "expected"),
    [
        (UNIT, 0.5 + 0.05 * Z, []),
        (UNIT, 0.005 + 0.0005 * Z, []),
        (UNIT, (0.2 + 0.08 * Z).clamp(min=1e-6), []),
        (UNIT, -0.02 * P.log(), ["pile-up"]),
        (UNIT, 1.0 + 0.02 * P.log(), ["pile-up"]),
        (UNIT, 0.05 * Z.abs(), ["pile-up"]),
        (UNIT, P, ["pile-up", "dominance"]),
        (UNIT, torch.where(P < 0.5, 0.2, 0.8) + 0.01 * shuffled(Z), []),
        (DECADES, (-4.0 + 2.0 * P).exp2() ** 3.3, ["pile-up"]),
        (DECADES, 10.0 ** (-2.0 + 0.2 * Z), []),
        (HALF, 2.0 + 0.1 * Z, []),
        (HALF, 0.1 * Z.abs(), ["pile-up"]),
        (HALF, Z.abs(), ["pile-up", "dominance"]),
        (dist.Normal(1.0, 3.0), 1.0 + 3.0 * Z, ["dominance"]),
        (dist.Normal(1.0, 3.0), 1.0 + 2.5 * Z, ["dominance"]),
        (dist.Normal(1.0, 3.0), 1.0 + 1.5 * Z, []),
        (dist.StudentT(3.0, 0.0, 1.0), 1.2 * Z, ["dominance"]),
        (dist.StudentT(3.0, 0.0, 1.0), 0.5 * Z, []),
    ],
)
def test_the_interest_is_compared_with_its_prior(prior, values, expected):
    found = before_and_after(prior, values, prior_draws=400)
    assert list(found) == [{"pile-up": "boundary pile-up", "dominance": "prior dominance"}[name] for name in expected]


def test_a_pile_up_is_named_and_measured():
    found = before_and_after(UNIT, 1.0 - 0.1 * (P * 4000).long() / 4000)["boundary pile-up"]
    assert "x at its upper bound 1" in found.advice and found.value == pytest.approx(1.0, abs=0.01)
    # A normal density of width 0.1 whose mean is 1.8 deviations above the bound: exp(-1.8^2 / 2) = 0.2 at it, and the
    # strip, half a deviation, holds Phi(-1.3) - Phi(-1.8) of the 0.197 in the middle, 0.31.
    cut = 0.18 + 0.1 * torch.special.ndtri(0.0359303 + (1.0 - 0.0359303) * P)
    found = before_and_after(UNIT, cut)["boundary pile-up"]
    assert "x at its lower bound 0" in found.advice and found.value == pytest.approx(0.31, abs=0.03)


def test_a_prior_that_nothing_describes_is_not_judged():
    found = before_and_after(dist.StudentT(3.0, 0.0, 1.0), 1.2 * Z, prior_draws=8)
    assert not found


def test_cautions_are_told_and_change_no_trust():
    program = normal.bind({"width": 5.0})
    cautioned = judge(inferred(program, draws(), seed=5, prior_draws=8))
    assert re.fullmatch(
        r"This posterior can be trusted, with 1 caution \(p-value of y\): the other \d+ checks passed\.",
        cautioned.sentence(),
    )
    both = judge(inferred(program, draws(n=60), seed=5, prior_draws=8))
    assert both.sentence().endswith("(effective draws, interest), and 1 caution (p-value of y).")
    first, second = both.lines()
    assert first.startswith("effective draws, interest: ") and first.endswith("(docs/verdict.md#effective-draws)")
    assert second.startswith("caution: p-value of y: 1, asked for 0.001 to 0.999. ")
    shown = json.loads(json.dumps(both.to_json()))
    assert not shown["trusted"] and shown["cautions"] == ["p-value of y"]
    assert shown["checks"][-1].keys() >= {"name", "value", "threshold", "passed", "advice", "anchor", "serious", "docs"}


def test_every_check_is_explained_and_every_explanation_has_a_check():
    root = Path(nuppl.__file__).parents[1]
    headings = re.findall(r"^## (.+)$", (root / PAGE).read_text(), flags=re.MULTILINE)
    anchors = {re.sub(r"[^\w-]", "", heading.lower().replace(" ", "-")) for heading in headings}
    used = set()
    for file in (root / "nuppl" / "diagnostics").glob("checks_*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Check":
                used.add(next(word.value.value for word in node.keywords if word.arg == "anchor"))
    assert used == anchors - {"what-no-check-sees"}


@pytest.mark.parametrize("attrs", [{"mean_score": "high"}, {"failures": None}])
def test_attributes_that_are_no_numbers_are_refused(attrs):
    with pytest.raises(InputError, match="expected a number as"):
        judge(inferred(normal.bind(), draws(attrs=attrs), seed=5, prior_draws=8))


def test_a_prior_that_is_damaged_is_refused():
    groups = inferred(normal.bind(), draws(), seed=5, prior_draws=8)
    groups["posterior"]["mean"].attrs["prior"] = "{loc: here}"
    with pytest.raises(InputError, match="expected the prior of 'mean' as nuppl describes it"):
        judge(groups)


@pytest.mark.parametrize("family", ["Uniform", "LogUniform", "Normal", "Gamma"])
@pytest.mark.parametrize(
    "said", [{}, {"low": 1.0, "high": 1.0}, {"low": -1.0, "high": 1.0}, {"loc": 0.0, "scale": 0.0}]
)
def test_a_prior_that_cannot_be_warns_of_nothing(family, said):
    groups = inferred(normal.bind(), draws(), seed=5, prior_draws=200)
    groups["posterior"]["mean"].attrs |= {"prior": json.dumps(said), "distribution": family, "lower": -9.0}
    groups["prior"]["mean"] = groups["prior"]["mean"].expand_dims(k=3)
    assert judge(groups).trusted


def test_only_posteriors_are_judged():
    program = normal.bind()
    with pytest.raises(InputError, match="a result with a posterior"):
        judge(expected(program, asimov(program)))
