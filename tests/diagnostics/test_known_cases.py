"""The verdict on runs of real engines whose state is known: each fails for the right reason and for no wrong one.

Seeds are fixed. With others, of 200 runs of importance, 100 of smc and 40 of hmc on a normal mean with fresh data none
failed or was cautioned: at most 1.5 %, 3 % and 7 % do (95 %). A symptom of a bad case that comes and goes with the seed
is listed as possible.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pyro.distributions as dist
import pytest
import torch

import nuppl
from nuppl.diagnostics.verdict import judge
from nuppl.inference.registry import engine
from nuppl.results.schema import inferred
from nuppl.sampling.settings import Settings

QUANTILES = torch.special.ndtri((torch.arange(50, dtype=torch.float64) + 0.5) / 50)
"""Fifty numbers that scatter as a standard normal does."""


@nuppl.model(interest=("mu", "nu"))
def good():
    """Two means with a shared pull."""
    mu = nuppl.parameter("mu", dist.Normal(0.0, 5.0))
    nu = nuppl.parameter("nu", dist.Uniform(-20.0, 20.0))
    shift = nuppl.pull("shift")
    with nuppl.plate("event", 50, dim=-1):
        nuppl.observe("y", dist.Normal(mu + 0.2 * shift, 1.0), QUANTILES)
        nuppl.observe("z", dist.Normal(nu - 0.2 * shift, 1.0), QUANTILES.flip(0))


@nuppl.model(interest="v")
def funnel():
    """Neal's funnel as a posterior."""
    v = nuppl.parameter("v", dist.Uniform(-12.0, 12.0))
    nuppl.observe("height", dist.Normal(v, 3.0), 0.0)
    with nuppl.plate("k", 9, dim=-1):
        x = nuppl.parameter("x", dist.Uniform(-100.0, 100.0))
        nuppl.observe("width", dist.Normal(x, (0.5 * v).exp()), torch.zeros(9))


@nuppl.model(interest="m")
def two_modes():
    """At -5 or 5, with weights 0.3 and 0.7."""
    m = nuppl.parameter("m", dist.Uniform(-10.0, 10.0))
    n = nuppl.parameter("n", dist.Uniform(-10.0, 10.0))
    parts = dist.Normal(torch.stack([m + 5.0, m - 5.0], -1), torch.tensor([0.3, 0.5]))
    nuppl.observe("y", dist.MixtureSameFamily(dist.Categorical(torch.tensor([0.3, 0.7])), parts), 0.0)
    nuppl.observe("z", dist.Normal(n, 0.3), 1.0)


@nuppl.model(interest="x")
def modes_far_apart():
    """Two modes in fourteen dimensions, between which nothing travels: each island keeps the shares it began with."""
    x = nuppl.parameter("x", dist.Normal(torch.zeros(14), 3.0).to_event(1))
    parts = dist.Normal(torch.stack([x + 2.0, x - 2.0], -2), torch.tensor([[1.0], [0.6]])).to_event(1)
    nuppl.observe("y", dist.MixtureSameFamily(dist.Categorical(torch.tensor([0.5, 0.5])), parts), torch.zeros(14))


@nuppl.model(interest="x")
def heavy():
    """Tails as a power of two and a half, in six dimensions."""
    with nuppl.plate("k", 6, dim=-1):
        x = nuppl.parameter("x", dist.Normal(0.0, 20.0))
        nuppl.observe("y", dist.StudentT(1.5, x, 0.5), QUANTILES[::9])


COUNTS = {
    "peak": [20.0, 22.0, 19.0, 35.0, 60.0, 58.0, 33.0, 21.0, 18.0, 22.0],
    "flat": [20.0, 22.0, 19.0, 25.0, 31.0, 14.0, 33.0, 21.0, 28.0, 22.0],
    "expected": [25.0] * 10,
}
"""Repeated three times: 30 bins with a peak, flat, or the expectation itself."""


@nuppl.model(interest="rate")
def flat(counts: str = "peak"):
    """A flat spectrum, over data that have a peak, are flat, or are the expectation itself."""
    rate = nuppl.parameter("rate", dist.Uniform(0.0, 200.0))
    with nuppl.plate("bin", 30, dim=-1):
        nuppl.observe("counts", dist.Poisson(rate * torch.ones(30)), torch.tensor(COUNTS[counts] * 3))


@nuppl.model(interest="x")
def root():
    """The square root of a parameter that may be negative."""
    x = nuppl.parameter("x", dist.Uniform(-1.0, 3.0))
    with nuppl.plate("k", 50, dim=-1):
        nuppl.observe("y", dist.Normal(x.sqrt(), 0.5), 1.0 + 0.5 * QUANTILES)


@nuppl.model(interest="x")
def at_a_bound():
    """A rate that cannot be negative, measured a deviation below zero."""
    x = nuppl.parameter("x", dist.Uniform(0.0, 1.0))
    nuppl.observe("y", dist.Normal(x, 0.1), -0.1)


@nuppl.model(interest="x")
def no_signal():
    """The same over three decades."""
    x = nuppl.parameter("x", nuppl.LogUniform(1e-3, 1.0))
    nuppl.observe("y", dist.Normal(x, 0.05), 0.0)


@nuppl.model(interest="x")
def hardly_measured():
    """Known to 1 before, measured to 2."""
    x = nuppl.parameter("x", dist.Normal(0.0, 1.0))
    nuppl.observe("y", dist.Normal(x, 2.0), 1.0)


class Case(NamedTuple):
    """A run and what its verdict must say.

    Attributes:
        fails: serious checks that must fail.
        may: others that may, or cautions that there may be.
        cautions: that there must be.
    """

    model: Any
    engine: str
    settings: dict[str, Any] = {}
    options: dict[str, Any] = {}
    fails: tuple[str, ...] = ()
    may: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()


R_HAT, EFFECTIVE = ("R-hat, interest", "R-hat, nuisances"), ("effective draws, interest", "effective draws, nuisances")
SHORT = {"draws": 60, "warmup": 60, "chains": 8}
UNEVEN = "efficiency of uncorrected draws"

CASES = {
    "good, smc": Case(good, "smc", {"draws": 128}),
    "good, hmc": Case(good, "hmc", {"chains": 16, "warmup": 80, "draws": 150}),
    "good, importance": Case(good, "importance"),
    "good, laplace": Case(good, "laplace"),
    "good counts": Case(flat, "importance", options={"counts": "flat"}),
    "two modes found": Case(two_modes, "smc", {"draws": 128}),
    "funnel, few particles": Case(
        funnel,
        "smc",
        {"particles": 16},
        fails=R_HAT[:1],
        may=(R_HAT[1], *EFFECTIVE, "mean gradient", "island spread", "evidence error"),
    ),
    "one mode, few particles": Case(at_a_bound, "smc", {"particles": 16}, cautions=("boundary pile-up, interest",)),
    "funnel, short run": Case(
        funnel,
        "hmc",
        SHORT,
        fails=(*R_HAT, *EFFECTIVE),
        may=("fraction of divergences", "mean gradient"),
    ),
    "funnel, weights": Case(
        funnel,
        "importance",
        fails=("Pareto k", "effective weighted draws", *EFFECTIVE),
        may=("mean gradient",),
        cautions=("evidence error",),
    ),
    "heavy tails": Case(
        heavy, "laplace", fails=("Pareto k", UNEVEN), may=("effective weighted draws", EFFECTIVE[0], "evidence error")
    ),
    "missed mode, one Gaussian": Case(two_modes, "laplace", fails=("modes seen but not covered",), may=(UNEVEN,)),
    "missed mode, chains": Case(
        two_modes,
        "hmc",
        {"draws": 100, "warmup": 50, "chains": 8},
        fails=("modes seen but not covered", R_HAT[0], EFFECTIVE[0]),
        may=(R_HAT[1], EFFECTIVE[1]),
    ),
    "missed mode, some islands": Case(
        modes_far_apart,
        "smc",
        fails=(R_HAT[0], EFFECTIVE[0]),
        may=("island spread", "evidence error"),
    ),
    "wrong model, particles": Case(flat, "smc", fails=("p-value of counts",)),
    "wrong model, weights": Case(flat, "importance", fails=("p-value of counts",)),
    "expected data": Case(flat, "importance", options={"counts": "expected"}, cautions=("p-value of counts",)),
    "NaN, particles": Case(root, "smc", fails=("fraction of NaN densities",)),
    "NaN, weights": Case(root, "importance", fails=("fraction of NaN densities",)),
    "at a bound": Case(at_a_bound, "importance", cautions=("boundary pile-up, interest",)),
    "no signal": Case(no_signal, "smc", cautions=("boundary pile-up, interest",)),
    "prior": Case(hardly_measured, "importance", cautions=("prior dominance, interest",)),
}


@pytest.mark.parametrize("name", CASES)
def test_the_verdict_is_right(name):
    case = CASES[name]
    program = case.model.bind(case.options)
    draws = engine(case.engine)(program, Settings(seed=5, **case.settings))
    verdict = judge(inferred(program, draws, 5, prior_draws=128))
    failed = {check.name for check in verdict.failed}
    assert set(case.fails) <= failed <= {*case.fails, *case.may}, verdict.sentence()
    cautions = {check.name for check in verdict.cautions}
    assert set(case.cautions) <= cautions <= {*case.cautions, *case.may}, verdict.sentence()
    assert verdict.trusted == (not case.fails)
