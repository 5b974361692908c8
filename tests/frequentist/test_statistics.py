"""Test statistics by name, their exact critical values, and CLs."""

from __future__ import annotations

import importlib
import math
import pickle
from pathlib import Path

import pyro.distributions as dist
import pytest
import torch
from scipy.stats import norm

import nuppl
from nuppl.errors import InputError
from nuppl.frequentist.critical import critical
from nuppl.frequentist.exact import exact
from nuppl.frequentist.exclusion import exclusion
from nuppl.frequentist.experiments import observed
from nuppl.frequentist.grid import Grid
from nuppl.frequentist.lengths import lengths
from nuppl.frequentist.one_sided import one_sided_cls
from nuppl.frequentist.poisson import poisson_interval
from nuppl.frequentist.profile import profile
from nuppl.frequentist.scan import scan
from nuppl.frequentist.statistics import STATISTICS, statistic
from nuppl.frequentist.toys import TILE, Thrower
from nuppl.frequentist.two_hypotheses import two_hypotheses_cls
from nuppl.language.loading import load_model
from nuppl.results.intervals import intervals

ROOT = Path(__file__).parents[2]
SPECS = {
    "likelihood-ratio": "likelihood-ratio",
    "q-tilde": "q-tilde",
    "gaussian-cls": "gaussian-cls,null=0",
    "focused": "focused,center=1,width=0.5",
    "posterior": "posterior",
    "waldo": "waldo",
}


def bound(file, fixed=None, **data):
    return load_model(str(ROOT / file))[0].bind(fixed=fixed, data=data or None)


def workspace():
    """pyhf's uncorrelated_background with the signal and background of its documentation."""
    strength = {"name": "mu", "type": "normfactor", "data": None}
    uncertainty = {"name": "uncorr_bkguncrt", "type": "shapesys", "data": [3.0, 7.0]}
    samples = [
        {"name": "signal", "data": [12.0, 11.0], "modifiers": [strength]},
        {"name": "background", "data": [50.0, 52.0], "modifiers": [uncertainty]},
    ]
    spec = {
        "channels": [{"name": "singlechannel", "samples": samples}],
        "observations": [{"name": "singlechannel", "data": [51.0, 48.0]}],
        "measurements": [{"name": "Measurement", "config": {"poi": "mu", "parameters": []}}],
        "version": "1.0.0",
    }
    return nuppl.workspace(spec).bind()


@nuppl.model(interest="mu")
def wide():
    """A Gaussian measurement, no bound within reach, with a pull that widens it from 0.8 to 1."""
    mu = nuppl.parameter("mu", dist.Uniform(-20.0, 20.0), nominal=0.0)
    shift = nuppl.pull("shift")
    nuppl.observe("x", dist.Normal(mu + 0.6 * shift, 0.8), 1.3)


@pytest.mark.parametrize("name", STATISTICS)
def test_the_exact_construction_covers_in_toys(name):
    """Independent toys against critical values from the integral; four binomial errors, 18 values: 1e-3 by chance."""
    program = bound("models/bounded_gaussian.py")
    profiled = profile(program, Grid.over(program, ["mu=0:6"], [25]))
    chosen = statistic(SPECS[name])
    found = exact(profiled, [0.6827, 0.9], chosen, nodes=1201)
    at = torch.tensor([1, 6, 14])
    thrower = Thrower.of(profiled, 7, chosen)
    tiles = [thrower.tile(at, number) for number in range(16)]
    t = torch.cat([each for each, _ in tiles], 1)
    assert not any(bool(failed.any()) for _, failed in tiles)
    for row, level in zip(found.critical, (0.6827, 0.9), strict=True):
        share = (t <= row[at, None]).double().mean(1)
        # q-tilde is zero for every second toy, and covers more where its critical value is.
        assert bool(((share - level).abs() < 4 * math.sqrt(level * (1 - level) / (16 * TILE)) + 0.003).all()), share


def test_feldman_and_cousins_bounded_gaussian():
    """Table X of the paper, to 0.01."""
    published = {
        -1.0: ((0, 0.27), (0, 0.81), (0, 1.10), (0, 1.68)),
        1.0: ((0.24, 2.00), (0, 2.64), (0, 2.96), (0, 3.58)),
        2.0: ((1.00, 3.00), (0.58, 3.64), (0.35, 3.96), (0, 4.58)),
        3.0: ((2.00, 4.00), (1.37, 4.64), (1.14, 4.96), (0.67, 5.58)),
    }
    grid, rows = ["mu=0:6"], None
    for x, ends in published.items():
        program = bound("models/bounded_gaussian.py", x=x)
        profiled = profile(program, Grid.over(program, grid, [241]))
        rows = exact(profiled, [0.6827, 0.9, 0.95, 0.99]).critical if rows is None else rows
        for row, expected in zip(rows, ends, strict=True):
            (found,) = intervals(profiled.grid.points[:, 0], profiled.statistic, row)
            assert found == pytest.approx(expected, abs=0.01), (x, found)


def test_counts_are_summed():
    program = bound("models/counting.py", fixed={"background_shift": 0.0})
    profiled = profile(program, Grid.over(program, ["signal=0:16"], [641]))
    rows = exact(profiled, [0.9]).critical
    for count in (2.0, 5.0, 8.0):
        other = bound("models/counting.py", fixed={"background_shift": 0.0}, counts=count)
        at = profile(other, Grid.over(other, ["signal=0:16"], [641]))
        (found,) = intervals(at.grid.points[:, 0], at.statistic, rows[0] + 1e-6)
        assert found == pytest.approx(poisson_interval(int(count), 3.0, 0.9), abs=0.03)


def test_statistics_of_the_grid_are_what_they_say():
    """Of a Gaussian measurement: the focused one in closed form, and WALDO, which with a flat prior is (x - mu)^2."""
    program = wide.bind(data={"x": 1.3})
    profiled = profile(program, Grid.over(program, ["mu=-6:8"], [281]))
    mu, seen = profiled.grid.points[:, 0], observed(profiled)
    t = statistic("focused,center=0,width=0.5")(seen)
    expected = (1.3 - mu) ** 2 - 1.3**2 / 1.25 - math.log(1.25)
    torch.testing.assert_close(t, expected, atol=2e-3, rtol=1e-3)
    torch.testing.assert_close(statistic("waldo")(seen), (1.3 - mu) ** 2, atol=2e-3, rtol=2e-3)
    density = torch.exp(-0.5 * statistic("posterior")(seen))
    torch.testing.assert_close(density, torch.exp(-0.5 * (1.3 - mu) ** 2) / math.sqrt(2 * math.pi), atol=1e-3, rtol=0)
    box = statistic("focused,center=0,width=1,shape=box")(seen)
    inside = 0.5 * math.sqrt(2 * math.pi) * (norm.cdf(-0.3) - norm.cdf(-2.3))
    torch.testing.assert_close(box, (1.3 - mu) ** 2 + 2 * math.log(inside), atol=0.06, rtol=0)
    assert not bool(seen.failed.any())


def test_free_fits_and_curves_are_made_once_and_only_where_asked_for():
    program = wide.bind()
    profiled = profile(program, Grid.over(program, ["mu=-3:5"], [9]))
    thrower = Thrower.of(profiled, 3)
    points = profiled.grid.points
    seen = thrower.experiments(thrower.drawn(profiled.minima.point[2], 0), points[2:3].expand(TILE, 1))
    statistic("waldo")(seen)
    assert "free" not in vars(seen) and "fixed" not in vars(seen)
    other = seen.at(points[5])
    # The profiled likelihood at a point of the grid is the curve there.
    torch.testing.assert_close(-other.fixed.value, seen.log_likelihood[:, 5], atol=1e-5, rtol=0)
    assert other.curves is seen.curves and other.free is seen.at(points[1]).free


def test_pyhf_figures():
    """pyhf 0.7.6, `uncorrelated_background`."""
    program = workspace()
    found = one_sided_cls(profile(program, Grid.over(program, ["mu=0:2"], [3])), [0.95])
    assert float(found.observed[1]) == pytest.approx(0.05251497, abs=1e-5)
    expected = [0.0026063, 0.0138200, 0.0644532, 0.2352564, 0.5730362]
    assert found.expected[:, 1].tolist() == pytest.approx(expected, abs=1e-5)
    assert float(found.limit[0]) == pytest.approx(1.0115694, abs=1e-4)
    # Beyond the grid there is no limit to tell.
    assert bool(found.expected_limit[0, :4].isfinite().all()) and bool(found.expected_limit[0, 4].isnan())


def test_cls_by_toys_agree_with_the_formulas():
    """Above the best fit, where q is not zero, the formulas are exact here; four errors of ratios of 2048 toys."""
    for name in ("q-tilde", "gaussian-cls,null=0"):
        program = bound("models/bounded_gaussian.py", x=0.7)
        profiled = profile(program, Grid.over(program, ["mu=1:3.5"], [6]))
        formulas, _ = exclusion(scan(profiled, [0.9], statistic=statistic(name)))
        toys, failed = exclusion(scan(profiled, [0.9], 2048, statistic=statistic(name)))
        assert failed == 0
        error = 4 * (formulas.observed / 2048).sqrt() * 2
        assert bool(((toys.observed - formulas.observed).abs() < error).all()), (name, toys, formulas)
        torch.testing.assert_close(toys.limit, formulas.limit, atol=0.15, rtol=0)
        torch.testing.assert_close(toys.expected[2], formulas.expected[2], atol=0.05, rtol=0)


def test_gaussian_cls_of_a_gaussian_is_exact():
    """T = (x - mu)^2 - x^2, by which x <= x_obs: CLs = Phi(x - mu) / Phi(x)."""
    program = wide.bind(data={"x": 0.4})
    profiled = profile(program, Grid.over(program, ["mu=0.5:4"], [8]))
    found = two_hypotheses_cls(profiled, [0.95], 0.0)
    mu = profiled.grid.points[:, 0].numpy()
    assert found.observed.tolist() == pytest.approx(list(norm.cdf(0.4 - mu) / norm.cdf(0.4)), abs=1e-4)
    assert found.expected[2].tolist() == pytest.approx(list(norm.cdf(-mu) / 0.5), abs=1e-4)
    rows = statistic("gaussian-cls,null=0").critical(profiled, [0.9])
    assert rows[0].tolist() == pytest.approx(list(-(mu**2) + 2 * norm.ppf(0.9) * mu), abs=1e-3)


def test_asymptotic_q_tilde_covers():
    """Cowan's distribution of a bounded Gaussian is exact."""
    program = bound("models/bounded_gaussian.py")
    profiled = profile(program, Grid.over(program, ["mu=0.25:4"], [16]))
    rows = statistic("q-tilde").critical(profiled, [0.6827, 0.95])
    found = exact(profiled, [0.6827, 0.95], statistic("q-tilde"), nodes=4001)
    torch.testing.assert_close(rows, found.critical, atol=0.02, rtol=0)


def test_a_focus_makes_intervals_shorter(monkeypatch):
    """The study of benchmarks/focused.md, with fewer points; figures of the issue."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    found = importlib.import_module("focused").gaussian_study(0.5, points=193, nodes=801)
    one, ninety, ninety_five = (float(x) for x in found.shorter[0])
    assert 0.12 < ninety_five < 0.18 and 0.18 < ninety < 0.26 and 0.32 < one < 0.46
    # A node holds up to 1.7 % of the probability.
    nominal = torch.tensor([0.6827, 0.90, 0.95])[:, None]
    assert float((found.coverage - nominal).abs().max()) < 0.02
    assert float(found.shorter[-1].max()) < -0.4


def test_models_like_those_of_the_paper(monkeypatch):
    """With few toys; a relative error of 3 % on a critical value is 1.5 % on a length."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    focused = importlib.import_module("focused")
    higgs, wimp = (focused.toy_study(case, points=25, tiles=4, experiments=2) for case in focused.CASES)
    assert bool((higgs.shorter[0] > 0.09).all()) and bool((wimp.shorter[0] > 0.11).all())
    assert bool((higgs.shorter[1] < 0.0).all())


def test_toys_of_a_statistic_do_not_depend_on_the_process():
    chosen = pickle.loads(pickle.dumps(statistic("focused,center=1,width=0.5")))
    assert chosen.spec == "focused,center=1,width=0.5" and chosen.options == {"center": 1.0, "width": 0.5}


def test_a_statistic_of_a_user(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "def distance(experiments, power: float = 2.0):\n"
        "    return (experiments.estimate - experiments.tested).abs().pow(power).sum(1)\n"
        "def number(experiments):\n    return 3.0\n"
        "def broken(experiments):\n    return experiments.nothing\n"
    )
    program = bound("models/bounded_gaussian.py", x=2.0)
    profiled = profile(program, Grid.over(program, ["mu=0:4"], [9]))
    t = statistic(f"{file}:distance,power=1")(observed(profiled))
    torch.testing.assert_close(t, (profiled.grid.points[:, 0] - 2.0).abs(), atol=1e-3, rtol=0)
    again = pickle.loads(pickle.dumps(statistic(f"{file}:distance,power=1")))
    assert torch.equal(again(observed(profiled)), t)
    found = scan(profiled, [0.9], 256, statistic=again)
    assert bool((found.critical[0] > 0).all())
    with pytest.raises(InputError, match=r"shape \(9,\), got float"):
        statistic(f"{file}:number")(observed(profiled))
    with pytest.raises(InputError, match=r"mine.py, line 6: AttributeError.*nothing"):
        statistic(f"{file}:broken")(observed(profiled))
    with pytest.raises(InputError, match=r"unknown function in .*'nothing'"):
        statistic(f"{file}:nothing")
    with pytest.raises(InputError, match=r"unknown option of statistic .*'pow'"):
        statistic(f"{file}:distance,pow=2")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("q-tild", "did you mean 'q-tilde'"),
        ("nothere.py:x", "expected a Python file"),
        ("focused", "expected width"),
        ("focused,width=0", "width above 0"),
        ("focused,width=abc", "expected a number"),
        ("focused,width=1/2", "one finite number for each of mu"),
        ("focused,width=1,center=9", "center within the grid of 'mu', 0 to 6"),
        ("focused,width=1,shape=round", "shape of a focus"),
        ("focused,width=1,mid=2", "did you mean"),
        ("focused,width=0.01,center=1.1,shape=box", "no point of the grid"),
        ("focused,width", "KEY=VALUE"),
        ("gaussian-cls", "null=..."),
        ("gaussian-cls,null=1/2", "one number for each of mu"),
        ("gaussian-cls,null=50", "within 0 to 10"),
    ],
)
def test_what_cannot_be_used_says_why(spec, said):
    program = bound("models/bounded_gaussian.py")
    grid = Grid.over(program, ["mu=0:6"], [25])
    with pytest.raises(InputError, match=said):
        statistic(spec).check(program, grid)


def test_statistics_that_need_a_bound_one_parameter_or_toys():
    program, two = wide.bind(), bound("models/two_detector.py")
    with pytest.raises(InputError, match="lower bound is 0, got 'mu' with -20"):
        statistic("q-tilde").check(program, Grid.over(program, ["mu=0:3"], [3]))
    with pytest.raises(InputError, match="it is a pull"):
        statistic("q-tilde").check(program, Grid.over(program, ["shift=0:3"], [3]))
    with pytest.raises(InputError, match="one scanned parameter"):
        statistic("q-tilde").check(two, Grid.over(two, ["sin2_2theta14", "dm2_41"], [3]))
    profiled = profile(program, Grid.over(program, ["mu=0:3"], [3]))
    for name in ("focused,width=1", "posterior", "waldo"):
        with pytest.raises(InputError, match="throw toys"):
            scan(profiled, [0.9], statistic=statistic(name))
    with pytest.raises(InputError, match="expected data that are one number and no pulls"):
        exact(profiled, [0.9])


def test_two_parameters_have_a_focus_in_their_own_scales():
    """In the logarithm of the splitting, whose axis is spaced in it."""
    program = bound("models/two_detector.py")
    profiled = profile(program, Grid.over(program, ["sin2_2theta14=0:0.2", "dm2_41=0.5:5"], [5, 9]))
    for spec in ("focused,center=0/1,width=0.05/0.5", "posterior", "waldo", "gaussian-cls,null=0/1"):
        chosen = statistic(spec)
        chosen.check(program, profiled.grid)
        assert chosen(observed(profiled)).shape == (45,)
    tile, failed = Thrower.of(profiled, 0, statistic("waldo")).tile(torch.tensor([7, 30]), 0)
    assert bool(tile.isfinite().all()) and not bool(failed.any())
    found = two_hypotheses_cls(profiled, [0.9], (0.0, 1.0))
    assert found.limit is None and bool((found.observed[:9] > 0.99).all()) and float(found.observed.min()) < 0.05


def test_lengths_are_those_of_the_intervals():
    x = torch.linspace(0.0, 5.0, 51, dtype=torch.float64)
    t = torch.stack([(x - 2.0) ** 2, (x - 4.8) ** 2, x * 0 + 9.0], 1)
    found = lengths(x, t, torch.full((51,), 1.0, dtype=torch.float64))
    assert found.tolist() == pytest.approx([2.0, 1.2, 0.0], abs=1e-2)


def test_volumes_and_nearest_points_of_a_grid():
    program = bound("models/two_detector.py")
    grid = Grid.over(program, ["sin2_2theta14=0:0.4", "dm2_41=0.1:10"], [5, 21])
    assert float(grid.log_volumes.exp().sum()) == pytest.approx(0.4 * math.log(100.0))
    assert torch.equal(grid.nearest(grid.points), torch.arange(grid.size))
    assert torch.equal(grid.nearest(torch.tensor([[0.06, 0.1], [0.04, 11.0]]).double()), torch.tensor([21, 20]))
    assert critical(grid.coordinates.T, [0.5]).value.shape == (1, 2)
