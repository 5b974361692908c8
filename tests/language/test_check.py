"""Wrong programs in pairs with their right twins: this one passes, that one is caught, and the site is named."""

import itertools
import random
import warnings

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import nuppl
from nuppl.language.check import check, format_report

TEMPLATES = torch.linspace(0.1, 2.0, 15, dtype=torch.float64).reshape(5, 3)
WEIGHTS = torch.tensor([0.2, 0.3, 0.5, 0.4, 0.1], dtype=torch.float64)
COUNTS = torch.tensor([9.0, 11.0, 14.0], dtype=torch.float64)
CALLS = itertools.count()


def observe_bins(expected):
    with nuppl.plate("bin", 3, dim=-1):
        nuppl.observe("counts", dist.Poisson(expected), COUNTS)


def observe_one(mean):
    nuppl.observe("x", dist.Normal(mean, 1.0), 0.3)


@nuppl.model
def pull_plate():
    with nuppl.plate("source", 5, dim=-2):
        pulls = nuppl.pull("pulls")
    observe_bins(10.0 + (0.1 * pulls * TEMPLATES).sum(-2, keepdim=True))


@nuppl.model
def pull_event():
    pulls = nuppl.pull("pulls", dist.Normal(torch.zeros(5), 1.0).to_event(1))
    observe_bins(10.0 + (0.1 * pulls[..., :, None] * TEMPLATES).sum(-2))


@nuppl.model
def event_that_is_whole():
    pulls = nuppl.pull("pulls", dist.Normal(torch.zeros(5), 1.0).to_event(1))
    observe_one(pulls.sum(-1))


@nuppl.model
def internal_axis():
    scale = nuppl.parameter("scale", dist.Uniform(1.0, 2.0))
    folded = (scale[..., None] * WEIGHTS).sum(-1)
    observe_bins(10.0 * folded)


@nuppl.model
def internal_axis_missing():
    """Right for one point; for five, the batch meets the five weights."""
    scale = nuppl.parameter("scale", dist.Uniform(1.0, 2.0))
    folded = (scale * WEIGHTS).sum(-1)
    observe_bins(10.0 * folded)


@nuppl.model
def internal_axis_colliding():
    """Wrong only where the batch has as many points as there are weights."""
    scale = nuppl.parameter("scale", dist.Uniform(1.0, 2.0))
    flat = scale.reshape(-1)
    folded = flat * WEIGHTS if len(flat) == len(WEIGHTS) else flat * WEIGHTS.sum()
    observe_one(folded.reshape(scale.shape))


@nuppl.model
def hierarchy_declared():
    width = nuppl.parameter("width", dist.Uniform(0.5, 2.0))
    shift = nuppl.random_effect("shift", dist.Normal(0.0, width))
    observe_one(shift)


@nuppl.model
def hierarchy_undeclared():
    width = nuppl.parameter("width", dist.Uniform(0.5, 2.0))
    shift = nuppl.parameter("shift", dist.Normal(0.0, width))
    observe_one(shift)


@nuppl.model
def hierarchy_of_gamma():
    width = nuppl.parameter("width", dist.Uniform(0.5, 2.0))
    shift = nuppl.parameter("shift", dist.Gamma(width, 1.0))
    observe_one(shift)


@nuppl.model
def two_names():
    observe_one(nuppl.pull("a") + nuppl.pull("b"))


@nuppl.model
def one_name_twice():
    observe_one(nuppl.pull("a") + nuppl.pull("a"))


@nuppl.model
def randomness_in_a_site():
    noise = nuppl.parameter("noise", dist.Normal(0.0, 1.0))
    observe_one(nuppl.pull("a") + noise)


@nuppl.model
def torch_noise():
    observe_one(nuppl.pull("a") + torch.randn(()))


@nuppl.model
def numpy_noise():
    observe_one(nuppl.pull("a") + np.random.standard_normal())


@nuppl.model
def python_noise_unused():
    random.random()
    observe_one(nuppl.pull("a"))


@nuppl.model
def counter_in_the_program():
    observe_one(nuppl.pull("a") + next(CALLS))


@nuppl.model
def doubles():
    observe_bins(nuppl.parameter("scale", dist.Uniform(1.0, 2.0)) * COUNTS)


@nuppl.model
def floats():
    observe_bins(nuppl.parameter("scale", dist.Uniform(1.0, 2.0)) * COUNTS.float())


@nuppl.model
def float_prior():
    observe_one(nuppl.parameter("scale", dist.Uniform(torch.zeros((), dtype=torch.float32), 1.0)))


@nuppl.model
def named():
    observe_one(pyro.sample("a_b", dist.Normal(0.0, 1.0)))


@nuppl.model
def name_with_slash():
    observe_one(pyro.sample("a/b", dist.Normal(0.0, 1.0)))


@nuppl.model
def name_with_blank():
    observe_one(nuppl.pull("a b"))


@nuppl.model
def stored_parameter():
    observe_one(nuppl.pull("a") + pyro.param("slope", torch.zeros(())))


@nuppl.model
def foreign_plate():
    with pyro.plate("bin", 3, dim=-1):
        nuppl.observe("counts", dist.Poisson(10.0 + nuppl.pull("a")), COUNTS)


@nuppl.model
def bare_factor():
    pyro.factor("penalty", -(nuppl.pull("a") ** 2))
    observe_one(0.0)


@nuppl.model
def axis_without_plate():
    nuppl.observe("counts", dist.Poisson(10.0 * nuppl.parameter("scale", dist.Uniform(1.0, 2.0)) * WEIGHTS[:3]), COUNTS)


@nuppl.model
def plate_with_two_sizes():
    with nuppl.plate("bin", 3, dim=-1):
        a = nuppl.pull("a")
    with nuppl.plate("bin", 2, dim=-1):
        b = nuppl.pull("b")
    observe_one(a.sum(-1, keepdim=True) + b.sum(-1, keepdim=True))


@nuppl.model
def wrong_data_shape():
    with nuppl.plate("bin", 3, dim=-1):
        nuppl.observe("counts", dist.Poisson(10.0 + nuppl.pull("a").exp()), COUNTS[:2])


@nuppl.model
def nan_data():
    nuppl.observe("x", dist.Normal(nuppl.pull("a"), 1.0), torch.nan)


@nuppl.model
def negative_counts():
    nuppl.observe("n", dist.Poisson(nuppl.pull("a").exp()), -1.0)


@nuppl.model
def fractional_counts():
    nuppl.observe("n", dist.Poisson(nuppl.pull("a").exp()), 2.5)


@nuppl.model
def no_data():
    nuppl.observe("x", dist.Normal(nuppl.pull("a"), 1.0))


@nuppl.model
def no_data_site():
    nuppl.pull("a")


@nuppl.model
def discrete_latent():
    observe_one(nuppl.parameter("k", dist.Poisson(3.0)))


@nuppl.model
def improper_prior():
    observe_one(nuppl.parameter("a", dist.ImproperUniform(dist.constraints.real, (), ())))


@nuppl.model
def nominal_outside():
    observe_one(nuppl.parameter("a", dist.Uniform(0.0, 1.0), nominal=2.0))


@nuppl.model
def simulator():
    a = nuppl.pull("a")
    nuppl.observe("x", nuppl.Simulator(lambda m: m + torch.randn(m.shape, dtype=m.dtype), a), 0.2)


@nuppl.model
def chosen_by_where():
    a = nuppl.pull("a")
    b = nuppl.pull("b")
    observe_one(torch.where(a > 0.0, b, a))


@nuppl.model
def site_in_a_branch():
    a = nuppl.pull("a")
    observe_one(a + nuppl.pull("b") if (a > 0.0).all() else a)


@nuppl.model
def site_only_at_nominal():
    a = nuppl.pull("a")
    observe_one(a + nuppl.pull("b") if (a == 0.0).all() else a)


@nuppl.model
def scalar_branch():
    a = nuppl.pull("a")
    observe_one(a if a > 0.0 else -a)


@nuppl.model
def python_number():
    observe_one(nuppl.pull("a").item())


@nuppl.model
def smooth():
    a = nuppl.pull("a")
    observe_one((a.square() + 1.0).sqrt())


@nuppl.model
def broken_gradient():
    a = nuppl.pull("a")
    observe_one(torch.where(a > 0.0, a.sqrt(), a))


@nuppl.model
def forgotten_latent():
    a, _ = nuppl.pull("a"), nuppl.pull("b")
    observe_one(a)


@nuppl.model
def negative_rate():
    a = nuppl.parameter("a", dist.Uniform(-1.0, 3.0))
    nuppl.observe("n", dist.Poisson(a), 1.0)


@nuppl.model
def negative_width():
    a = nuppl.parameter("a", dist.Uniform(-1.0, 3.0))
    nuppl.observe("x", dist.Normal(0.0, a), 1.0)


@nuppl.model
def crash():
    a = nuppl.pull("a")
    raise KeyError("missing table")
    observe_one(a)


@nuppl.model
def data_left_of_its_plate():
    with nuppl.plate("bin", 3, dim=-2):
        nuppl.observe("counts", dist.Poisson(10.0 + nuppl.pull("a").exp()), COUNTS)


@nuppl.model
def all_kinds():
    low = nuppl.parameter("low", nuppl.LogUniform(1e-3, 1.0), unit="eV^2")
    with nuppl.plate("detector", ["near", "far"], dim=-2):
        efficiency = nuppl.pull("efficiency", dist.Normal(1.0, 0.1))
        with nuppl.plate("bin", 3, dim=-1):
            nuppl.observe("counts", dist.Poisson(10.0 * efficiency * (1.0 + low)), torch.full((2, 3), 9.0))
    spread = nuppl.parameter("spread", dist.HalfNormal(1.0))
    effect = nuppl.random_effect("effect", dist.Normal(0.0, spread + 0.1))
    gamma = nuppl.auxiliary("gamma", dist.Gamma(2.0, 1.0), lambda g: dist.Poisson(20.0 * g), 17.0)
    with nuppl.scope("danss"):
        observe_one(effect * gamma)


RIGHT = [
    pull_plate,
    event_that_is_whole,
    internal_axis,
    hierarchy_declared,
    two_names,
    randomness_in_a_site,
    doubles,
    named,
    simulator,
    chosen_by_where,
    smooth,
    all_kinds,
]

# program, rule, site, severity, words of the message
WRONG = [
    (pull_event, "shape", "counts", "error", "to_event"),
    (internal_axis_missing, "batch", "counts", "error", "internal axis"),
    (internal_axis_colliding, "batch", "x", "error", "5 points at once"),
    (hierarchy_undeclared, "random_effect", "shift", "error", "nuppl.random_effect('shift'"),
    (hierarchy_of_gamma, "random_effect", "shift", "error", "nuppl.random_effect('shift'"),
    (one_name_twice, "program", "a", "error", "appears twice"),
    (torch_noise, "randomness", "x", "error", "outside its sites"),
    (numpy_noise, "randomness", "x", "error", "outside its sites"),
    (python_noise_unused, "randomness", "a", "error", "outside its sites"),
    (counter_in_the_program, "randomness", "x", "error", "same log density in every run"),
    (floats, "float32", "counts", "error", "float32"),
    (float_prior, "float32", "scale", "error", "float32"),
    (name_with_slash, "program", "a/b", "error", "'/'"),
    (name_with_blank, "program", None, "error", "'a b'"),
    (stored_parameter, "program", None, "error", "pyro.param('slope')"),
    (foreign_plate, "program", "bin", "error", "nuppl.plate('bin'"),
    (bare_factor, "program", "penalty", "error", "nuppl.observe"),
    (axis_without_plate, "program", "counts", "error", "nuppl.plate(NAME, 3, dim=-1)"),
    (plate_with_two_sizes, "program", "b", "error", "another name"),
    (wrong_data_shape, "program", "counts", "error", "expected shape (3,) (bin: 3), got (2,)"),
    (nan_data, "program", "x", "error", "NaN"),
    (negative_counts, "program", "n", "error", "at least 0, got n = -1"),
    (fractional_counts, "data", "n", "warning", "Asimov"),
    (no_data, "data", "x", "warning", "no data"),
    (no_data_site, "data", None, "warning", "no data site"),
    (discrete_latent, "program", "k", "error", "discrete"),
    (improper_prior, "program", "a", "error", "expected a proper prior"),
    (nominal_outside, "program", "a", "error", "expected between 0 and 1, got 2"),
    (simulator, "simulator", "x", "note", "without density"),
    (site_in_a_branch, "sites", "b", "error", "some parameter values"),
    (site_only_at_nominal, "sites", "b", "error", "torch.where"),
    (scalar_branch, "batch", None, "error", "use torch.where"),
    (python_number, "batch", None, "error", "keep it a tensor"),
    (broken_gradient, "gradient", "a", "error", "finite gradient"),
    (forgotten_latent, "influence", "b", "warning", "no data depend on it"),
    (negative_rate, "simulation", "n", "error", "cannot be simulated"),
    (negative_width, "simulation", "x", "error", "cannot be simulated"),
    (crash, "program", None, "error", "KeyError: 'missing table'"),
    (data_left_of_its_plate, "pyro", "counts", "warning", "(3, 1)"),
]


@pytest.mark.parametrize("model", RIGHT, ids=lambda model: model.name)
def test_a_right_program_passes(model):
    report = check(model)
    assert report.passed, format_report(report)
    assert [f for f in report.findings if f.severity == "warning"] == [], format_report(report)


@pytest.mark.parametrize(("model", "rule", "site", "severity", "words"), WRONG, ids=[case[0].name for case in WRONG])
def test_a_wrong_program_is_caught_and_its_site_named(model, rule, site, severity, words):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        report = check(model)
    found = [(f.rule, f.site, f.severity) for f in report.findings]
    assert (rule, site, severity) in found, format_report(report)
    assert any(words in f.message for f in report.findings if f.rule == rule), format_report(report)
    assert report.passed == (severity != "error")


@pytest.mark.parametrize("model", [crash, scalar_branch, python_number], ids=lambda model: model.name)
def test_an_error_names_the_users_line(model):
    message = check(model).findings[0].message
    start = model.function.__code__.co_firstlineno
    lines = range(start, start + 6)
    assert any(f"test_check.py, line {line}:" in message for line in lines), message


def test_trouble_with_shapes_prints_the_table_of_sites():
    message = next(f for f in check(pull_event).findings if f.rule == "shape").message
    header = next(line for line in message.splitlines() if line.startswith("site "))
    assert header.split() == ["site", "kind", "distribution", "shape", "axes", "unit", "support"]
    assert "pulls   pull  Normal        5      pulls_dim_0        real" in message


def test_a_program_that_stops_early_still_shows_the_sites_it_met():
    report = check(crash)
    assert [(row.name, row.kind) for row in report.sites] == [("a", "pull")]


def test_the_table_of_sites():
    rows = {row.name: row for row in check(all_kinds).sites}
    assert list(rows) == ["low", "efficiency", "counts", "spread", "effect", "gamma", "gamma_measured", "danss_x"]
    assert rows["low"].support == "0.001 to 1" and rows["low"].unit == "eV^2"
    assert rows["counts"].plates == ("detector", "bin") and rows["counts"].shape == (2, 3)
    assert [rows[name].kind for name in ("spread", "effect", "gamma_measured")] == [
        "parameter",
        "random_effect",
        "data",
    ]


def test_fixed_sites_and_options_are_checked_as_given():
    @nuppl.model
    def model(kind: str = "right"):
        a, b = nuppl.pull("a"), nuppl.parameter("b", dist.Uniform(0.0, 1.0))
        observe_one(a + b + (torch.randn(()) if kind == "wrong" else 0.0))

    assert check(model, fixed={"b": 0.5}).sites[1].kind == "parameter, fixed"
    assert check(model).passed
    assert not check(model, {"kind": "wrong"}).passed
    assert "did you mean 'kind'" in check(model, {"kinds": "right"}).findings[0].message


def test_checking_leaves_every_generator_as_it_was():
    for seed in (torch.manual_seed, np.random.seed, random.seed):
        seed(3)
    expected = float(torch.rand(())), np.random.rand(), random.random()
    for seed in (torch.manual_seed, np.random.seed, random.seed):
        seed(3)
    for model in (torch_noise, numpy_noise, python_noise_unused, pull_plate):
        check(model)
    assert (float(torch.rand(())), np.random.rand(), random.random()) == expected
    assert torch.get_default_dtype() == torch.float32
