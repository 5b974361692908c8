"""`nuppl evidence` as a user runs it, on nested models whose evidences are known in closed form or by quadrature."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nuppl.cli.main import main

X = (1.2, -0.4, 0.7, 1.9, 0.6)
LN2 = math.log(2.0)

MODELS = f"""
import pyro.distributions as dist
import torch

import nuppl

X = torch.tensor({X})


def observe(mu, data=X, name="x", pull="shift"):
    shift = nuppl.pull(pull)
    with nuppl.plate("bin", len(data), dim=-1):
        nuppl.observe(name, dist.Normal(mu + 0.5 * shift, 1.0), data)


@nuppl.model(interest="mu")
def free(low: float = -10.0, high: float = 10.0):
    observe(nuppl.parameter("mu", dist.Uniform(low, high)))


@nuppl.model(interest="mu")
def normal(width: float = 10.0):
    observe(nuppl.parameter("mu", dist.Normal(0.0, width)))


@nuppl.model
def zero():
    observe(0.0)


@nuppl.model(interest="slope")
def positive():
    observe(nuppl.parameter("slope", dist.HalfNormal(3.0)), pull="other")


@nuppl.model(interest="mu")
def two():
    with nuppl.plate("group", ["a", "b"], dim=-2):
        mu = nuppl.parameter("mu", dist.Uniform(torch.tensor([[-5.0], [-9.0]]), 9.0))
    slopes = torch.stack([torch.ones(5), torch.linspace(-1.0, 1.0, 5)])
    observe((mu * slopes).sum(-2, keepdim=True))


@nuppl.model
def moved():
    observe(0.0, X + torch.tensor([0.0, 0.0, 0.5, 0.0, 0.0]))


@nuppl.model
def shorter():
    observe(0.0, X[:4])


@nuppl.model
def renamed():
    observe(0.0, name="y")
"""

RUNS = {
    "free": ("free",),
    "again": ("free", "--seed", "5"),
    "held": ("free", "--set", "mu=0.5"),
    "box": ("free", "--option", "low=0", "--option", "high=0.5"),
    "normal": ("normal",),
    "weak": ("normal", "--option", "width=0.05", "--draws", "4000", "--proposals", "8000"),
    "zero": ("zero",),
    "positive": ("positive",),
    "two": ("two",),
    "moved": ("moved",),
    "shorter": ("shorter",),
    "renamed": ("renamed",),
    "few": ("free", "--draws", "20", "--proposals", "40", "--chains", "2"),
    "chains": ("zero", "--engine", "nuts", "--draws", "10", "--warmup", "10", "--chains", "1"),
}
"""Each run: the model and what else its command says."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("evidence")
    (path / "nested.py").write_text(MODELS)
    (path / "notes.nc").write_text("not a result")
    return path


@pytest.fixture
def run(folder, monkeypatch, capsys):
    """A command in this process, and with `made` the runs it needs first: a process of its own costs seconds."""
    monkeypatch.chdir(folder)

    def once(*arguments: str) -> subprocess.CompletedProcess[str]:
        with pytest.raises(SystemExit) as left:
            main(list(arguments))
        streams = capsys.readouterr()
        return subprocess.CompletedProcess(list(arguments), int(left.value.code), streams.out, streams.err)

    def made(*names: str) -> None:
        for name in names:
            model, *options = RUNS[name]
            if not (folder / name).exists():
                sizes = [] if "--draws" in options else ["--draws", "1000", "--proposals", "2000"]
                once("infer", "--engine", "importance", f"nested.py:{model}", *sizes, *options, "--out", name)

    once.made = made
    return once


def compared(run, *names: str, code: int = 0) -> dict:
    run.made(*names)
    done = run("evidence", *names, "--json")
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def log_likelihood(mu: torch.Tensor) -> torch.Tensor:
    """ln p(X | mu) with the pull integrated: X ~ N(mu, 1 + 0.25 in every entry of the covariance)."""
    covariance = torch.eye(5, dtype=torch.float64) + 0.25
    law = torch.distributions.MultivariateNormal(torch.zeros(5, dtype=torch.float64), covariance)
    return law.log_prob(torch.tensor(X, dtype=torch.float64) - mu[:, None])


def flat(low: float, high: float) -> float:
    """ln Z with mu ~ Uniform(low, high)."""
    mu = torch.linspace(low, high, 40_001, dtype=torch.float64)
    return float((torch.trapezoid(log_likelihood(mu).exp(), mu) / (high - low)).log())


def gaussian(width: float) -> float:
    """ln Z with mu ~ N(0, width)."""
    covariance = torch.eye(5, dtype=torch.float64) + 0.25 + width**2
    law = torch.distributions.MultivariateNormal(torch.zeros(5, dtype=torch.float64), covariance)
    return float(law.log_prob(torch.tensor(X, dtype=torch.float64)))


ZERO = float(log_likelihood(torch.zeros(1, dtype=torch.float64))[0])


def test_a_process_prints_the_bayes_factor_in_words(run, folder):
    run.made("free", "zero")
    command = [sys.executable, "-c", "from nuppl.cli.main import main; main()", "evidence", "free", "zero"]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    printed = re.search(r"ln B = ln Z_1 - ln Z_2 = (\S+) ± (\S+) ", done.stdout)
    assert printed and float(printed[1]) == pytest.approx(flat(-10.0, 10.0) - ZERO, abs=5 * float(printed[2]))
    assert "evidence for the second model: positive (Kass and Raftery 1995)" in done.stdout
    assert re.search(r"posterior odds 1 : (5\.[6-9]|6\.0)", done.stdout)
    assert "mu of model 1, only in this model: prior Uniform(low=-10, high=10)" in done.stdout
    assert done.stdout.count("the posterior vanishes there (0 % of it in the prior's outermost 1 %): -0.69") == 2
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("first", "second", "truth"),
    [
        ("free", "zero", flat(-10.0, 10.0) - ZERO),
        ("zero", "free", ZERO - flat(-10.0, 10.0)),
        ("normal", "zero", gaussian(10.0) - ZERO),
        ("box", "normal", flat(0.0, 0.5) - gaussian(10.0)),
        ("free", "held", flat(-10.0, 10.0) - float(log_likelihood(torch.tensor([0.5]).double())[0])),
    ],
)
def test_the_bayes_factor_is_the_known_one(first, second, truth, run):
    """Five standard errors: by chance less than once in a million runs; the seed is fixed on top."""
    found = compared(run, first, second)
    assert found["error"] < 0.05
    assert found["log_bayes_factor"] == pytest.approx(truth, abs=5 * found["error"])
    assert found["error"] == pytest.approx(math.hypot(*(each["error"] for each in found["runs"])))
    assert found["posterior_odds"] == pytest.approx(math.exp(found["log_bayes_factor"]))
    odds = found["posterior_odds"]
    assert found["probability_of_first"] == pytest.approx(odds / (1.0 + odds))


def test_a_range_twice_as_wide_costs_ln_2_where_the_posterior_vanishes(run):
    (row,) = compared(run, "free", "zero")["sensitivities"]
    assert (row["name"], row["run"], row["reason"]) == ("mu", 1, "only in this model")
    deviation = (0.25 + 1 / 5) ** 0.5
    assert row["fill"] == pytest.approx(2 * 1.96 * deviation / 20.0, rel=0.1)
    for end, beyond in zip(row["ends"], (flat(-30.0, 10.0), flat(-10.0, 30.0)), strict=True):
        assert end["vanishes"] and end["share"] == 0.0 and abs(end["bound"]) == 10.0
        assert end["change"][0] == pytest.approx(-LN2) and end["change"][1] < -LN2 + 0.1
        assert end["change"][0] - 1e-6 <= beyond - flat(-10.0, 10.0) <= end["change"][1]


def test_the_sign_follows_the_run(run):
    (row,) = compared(run, "zero", "free")["sensitivities"]
    assert row["run"] == 2
    for end in row["ends"]:
        assert end["change"][1] == pytest.approx(LN2) and end["change"][0] > LN2 - 0.1


def test_where_the_posterior_does_not_vanish_the_change_is_bounded_by_the_likelihood_at_the_end(run):
    (row,) = compared(run, "box", "zero")["sensitivities"]
    lower, upper = row["ends"]
    assert not lower["vanishes"] and not upper["vanishes"] and row["fill"] > 0.9
    # Below 0 the likelihood falls, so the limits hold; above 0.5 it rises further, up to 0.8.
    assert lower["change"][0] < flat(-0.5, 0.5) - flat(0.0, 0.5) < lower["change"][1] < 0.1
    assert upper["change"][0] == pytest.approx(-LN2) and upper["change"][1] > 0.0
    done = run("evidence", "box", "zero")
    assert "does not vanish" in done.stdout and "more if that is higher there than at the end" in done.stdout
    assert "less if that is higher" in run("evidence", "zero", "box").stdout


def test_a_normal_of_twice_the_width_reweights_the_draws(run):
    found = compared(run, "normal", "zero")
    (row,) = found["sensitivities"]
    change, error = row["widened"]
    assert change == pytest.approx(gaussian(20.0) - gaussian(10.0), abs=max(5 * error, 1e-3))
    assert "twice the width: -0.69" in run("evidence", "normal", "zero").stdout


def test_where_the_posterior_is_as_wide_as_its_normal_prior_nothing_is_claimed(run):
    """Posterior and prior deviation 0.05: the weights of the wider prior, with a Pareto k of 3/4, have no variance."""
    (row,) = compared(run, "weak", "zero")["sensitivities"]
    assert row["widened"] is None
    assert "at least -0.69; the draws cannot tell more" in run("evidence", "weak", "zero").stdout


def test_priors_without_a_rule_say_so_and_pulls_are_left_out(run):
    found = compared(run, "positive", "zero")
    (row,) = found["sensitivities"]
    assert row["name"] == "slope" and row["prior"] == "HalfNormal(scale=3)" and row["widened"] is None
    assert [end["change"] for end in row["ends"]] == [None, None]
    assert row["ends"][1]["vanishes"] and not row["ends"][0]["vanishes"]
    assert any("only in the first model, left out since measured: other" in note for note in found["notes"])
    assert "no rule for a range" in run("evidence", "positive", "zero").stdout


def test_entries_of_a_vector_have_rows_with_their_own_ranges(run):
    rows = compared(run, "two", "zero")["sensitivities"]
    assert [(row["name"], row["prior"]) for row in rows] == [
        ("mu[a]", "Uniform(low=-5, high=9)"),
        ("mu[b]", "Uniform(low=-9, high=9)"),
    ]


def test_a_parameter_with_two_priors_has_a_row_for_each(run):
    rows = compared(run, "free", "box")["sensitivities"]
    assert [(row["run"], row["reason"]) for row in rows] == [
        (1, "Uniform(low=0, high=0.5) in the other model"),
        (2, "Uniform(low=-10, high=10) in the other model"),
    ]


def test_a_held_parameter_is_named_with_its_value(run):
    (row,) = compared(run, "free", "held")["sensitivities"]
    assert row["reason"] == "held at 0.5 in the other model"


def test_the_same_model_twice_is_said(run):
    found = compared(run, "free", "again")
    assert abs(found["log_bayes_factor"]) < 5 * found["error"] and found["sensitivities"] == []
    assert any("same model" in note for note in found["notes"])
    assert "prefer neither" in run("evidence", "free", "free").stdout


def test_a_run_that_cannot_be_trusted_leaves_with_4(run):
    found = compared(run, "few", "zero", code=4)
    assert [each["verdict"]["trusted"] for each in found["runs"]] == [False, True]
    done = run("evidence", "zero", "few")
    assert done.returncode == 4 and "few: Do not trust" in done.stdout


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("zero", "nowhere"), ("nowhere", "expected a run folder", "found none")),
        (("zero", "notes.nc"), ("notes.nc", "expected a netCDF file that nuppl wrote")),
        (("zero", "chains"), ("chains", "expected a log evidence", "got none", "nuts", "--engine", "importance")),
        (("zero", "moved"), ("'x'", "1 of 5 that differ", "0.7 and 1.2")),
        (("zero", "shorter"), ("'x'", "got (5,) and (4,)")),
        (("zero", "renamed"), ("x not in 'renamed'", "same data")),
        (("renamed", "zero"), ("y not in 'zero'", "same data")),
        (("zero",), ("RUN",)),
    ],
)
def test_what_cannot_be_compared_is_refused(names, words, run):
    run.made(*(name for name in names if name in RUNS))
    done = run("evidence", *names)
    assert done.returncode == 2 and done.stdout == "" and "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr, done.stderr


def test_expected_data_have_no_evidence(run, folder):
    run.made("zero")
    assert run("simulate", "nested.py:zero", "--asimov", "--out", "asimov.nc", "--overwrite").returncode == 0
    done = run("evidence", "asimov.nc", "zero")
    assert done.returncode == 2 and "expected a posterior, got a result of asimov" in done.stderr
    result = run("evidence", str(folder / "zero" / "posterior.nc"), "zero")
    assert result.returncode == 0, "the result file itself is a run as well"
