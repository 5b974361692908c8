"""Toys fitted by matrix products."""

from __future__ import annotations

from pathlib import Path

import pyro.distributions as dist
import pytest
import torch

import nuppl
from nuppl.errors import InputError
from nuppl.frequentist.grid import Grid
from nuppl.frequentist.linear_toys import LinearThrower, compare
from nuppl.frequentist.profile import profile
from nuppl.frequentist.scan import scan
from nuppl.frequentist.statistics import statistic
from nuppl.frequentist.toys import Thrower
from nuppl.language.loading import load_model

ROOT = Path(__file__).parents[2]


@nuppl.model(interest=("x", "y"))
def wave():
    """Linear in y and in five pulls, not in x; Gaussian data."""
    x = nuppl.parameter("x", dist.Uniform(0.0, 6.0), nominal=2.0)
    y = nuppl.parameter("y", dist.Uniform(0.0, 4.0), nominal=1.0)
    with nuppl.plate("source", 5, dim=-2):
        pull = nuppl.pull("pull")
    shapes = torch.linspace(0.0, 1.0, 12) ** torch.arange(1.0, 6.0)[:, None]
    with nuppl.plate("bin", 12, dim=-1):
        mean = 10.0 + y * (x * torch.linspace(0.5, 2.0, 12)).sin() + 0.5 * (pull * shapes).sum(-2, keepdim=True)
        nuppl.observe("counts", dist.Normal(mean, 0.5), torch.full((12,), 10.0) + torch.linspace(0.5, 2.0, 12).sin())


def test_of_a_linear_model_they_are_those_of_full_fits():
    found = profile(wave.bind(), Grid.over(wave.bind(), ["x", "y"], [25, 13]))
    thrower = LinearThrower.like(Thrower.of(found, 3))
    both = compare(thrower, 200, 3)
    assert not bool(both.failed.any())
    # Full fits find a minimum between points of the finer grid, never one that is not there.
    assert float((both.linear - both.full).abs().median()) < 0.01
    assert float((both.linear - both.full).abs().max()) < 0.3


def test_nothing_is_finer_than_it_need_be():
    found = profile(wave.bind(), Grid.over(wave.bind(), ["x", "y"], [25, 13]))
    thrower = LinearThrower.like(Thrower.of(found, 3))
    # The statistic is a parabola in y, where three points tell all.
    assert thrower.finer.shape[0] > 25 and thrower.finer.shape[1] <= 49


def test_a_scan_uses_them_and_forgets_what_it_need_not_know():
    found = profile(wave.bind(), Grid.over(wave.bind(), ["x", "y"], [9, 7]))
    full = Thrower.of(found, 1)
    linear, full = (scan(found, [0.9], 512, thrower=each, seed=1) for each in (LinearThrower.like(full), full))
    assert torch.equal(linear.thrown > 0, full.thrown > 0)
    # The same toys: critical values differ by what fits differ.
    middle = (linear.critical[0] - full.critical[0]).abs().median()
    assert float(middle) < 0.1


def test_what_they_cannot_do_is_refused():
    found = profile(wave.bind(), Grid.over(wave.bind(), ["x", "y"], [5, 5]))
    with pytest.raises(InputError, match="likelihood ratio"):
        LinearThrower.like(Thrower.of(found, 0, statistic("posterior")))
    counting = load_model(str(ROOT / "models/counting.py"))[0].bind()
    assert LinearThrower.like(Thrower.of(profile(counting, Grid.over(counting, [counting.interest[0]], [5])), 0))
