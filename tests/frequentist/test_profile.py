"""Profile scans and critical values of models whose answers are known."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from scipy.stats import norm

from nuppl.errors import InputError
from nuppl.frequentist.critical import check_levels, critical, p_value, wilks
from nuppl.frequentist.grid import Grid
from nuppl.frequentist.profile import profile
from nuppl.frequentist.toys import TILE, Thrower
from nuppl.language.loading import load_model
from nuppl.optimize.fit import fit

ROOT = Path(__file__).parents[2]


def bound(file, **data):
    return load_model(str(ROOT / file))[0].bind(data=data or None)


def test_a_profile_is_what_single_fits_give():
    program = bound("models/two_detector.py")
    found = profile(program, Grid.over(program, ["sin2_2theta14=0:0.3", "dm2_41=0.5:5"], [4, 5]))
    best = fit(program, minos=False)
    assert float(found.best.value) == pytest.approx(-best.log_likelihood, abs=1e-4) and not bool(found.status.any())
    for number in (0, 7, 13, 19):
        held = dict(zip(found.grid.names, found.grid.points[number].tolist(), strict=True))
        one = fit(program.with_(fixed=held), minos=False)
        assert float(found.statistic[number]) == pytest.approx(2 * (best.log_likelihood - one.log_likelihood), abs=2e-3)


def test_a_grid_follows_the_prior_and_says_what_is_wrong_with_it():
    program = bound("models/two_detector.py")
    grid = Grid.over(program, ["sin2_2theta14", "dm2_41"], [3])
    assert grid.axes[0].values.tolist() == [0.0, 0.5, 1.0]
    assert grid.axes[1].values.tolist() == pytest.approx([0.1, 1.0, 10.0]) and grid.axes[1].log
    assert grid.points[5].tolist() == pytest.approx([0.5, 10.0]) and grid.size == 9
    for asked, counts, said in (
        (["dm2_42"], [3], "dm2_42"),
        (["dm2_41=0.01:1"], [3], "within its bounds 0.1 to 10"),
        (["dm2_41=1"], [3], "LOW:HIGH"),
        (["dm2_41=2:1"], [3], "LOW below HIGH"),
        (["dm2_41"], [1], "at least 2 points"),
        (["rate"], [3], "rate=-3:3"),
        (["dm2_41", "dm2_41"], [3], "different parameters"),
        (["dm2_41"], [3, 4], "one number of points"),
        ([], [3], "at least one parameter"),
    ):
        with pytest.raises(InputError, match=said):
            Grid.over(program, asked, counts)


def test_critical_values_of_a_bounded_gaussian():
    """Against the integral over x of the region where t is small; false alarm below 1e-4 (four errors, 6 values)."""
    program = bound("models/bounded_gaussian.py")
    grid = Grid.over(program, ["mu=0:2"], [3])
    thrower = Thrower.of(profile(program, grid), seed=1)
    tiles = [thrower.tile(torch.arange(3), number) for number in range(40)]
    statistic = torch.cat([found for found, _ in tiles], 1)
    assert statistic.shape == (3, 40 * TILE) and not any(bool(failed.any()) for _, failed in tiles)
    value, error = critical(statistic, [0.6827, 0.90])
    for i, level in enumerate((0.6827, 0.90)):
        for j, mu in enumerate((0.0, 1.0, 2.0)):
            assert abs(float(value[i, j]) - exact(mu, level)) < 4 * float(error[i, j])


def exact(mu, level):
    """The critical value of t = (x - mu)^2 - min(x, 0)^2 of a unit Gaussian, by bisection."""
    x = torch.linspace(mu - 9.0, mu + 9.0, 200_001, dtype=torch.float64)
    t = (x - mu).square() - x.clamp(max=0.0).square()
    density = torch.from_numpy(norm.pdf(x.numpy(), mu)) * (x[1] - x[0])
    order = t.argsort()
    return float(t[order][int((density[order].cumsum(0) < level).sum())])


def test_toys_do_not_depend_on_how_they_are_grouped():
    program = bound("models/two_detector.py")
    thrower = Thrower.of(profile(program, Grid.over(program, ["sin2_2theta14=0:0.2", "dm2_41=0.5:5"], [2, 6])), seed=5)
    together, _ = thrower.tile(torch.tensor([1, 8]), 3)
    alone, _ = thrower.tile(torch.tensor([8]), 3)
    assert torch.allclose(together[1], alone[0], atol=1e-6) and bool((together >= 0).all())


def test_a_p_value_is_never_zero_and_missing_toys_do_not_count():
    statistic = torch.tensor([[1.0, 2.0, 3.0, torch.nan], [1.0, 2.0, 3.0, 4.0]], dtype=torch.float64)
    p, error = p_value(statistic, torch.tensor([2.0, 9.0]))
    assert p.tolist() == pytest.approx([3 / 4, 1 / 5]) and bool((error > 0).all())
    assert critical(statistic, [0.5]).value[0].tolist() == [2.0, 2.0]
    assert wilks([0.95], 1).tolist() == pytest.approx([3.8415], abs=1e-4)
    for wrong in ([0.0], [1.0], []):
        with pytest.raises(InputError, match="expected"):
            check_levels(wrong)


def test_a_profile_goes_on_where_it_stopped(tmp_path, monkeypatch):
    from nuppl.frequentist.workers import in_turn
    from nuppl.results.checkpoints import Checkpoints

    program = bound("models/two_detector.py")
    grid = Grid.over(program, ["sin2_2theta14=0:0.3", "dm2_41=0.5:5"], [9, 9])
    whole = profile(program, grid)
    store, fitted, again = Checkpoints(tmp_path), [], []

    def interrupted(function, jobs):
        for number, found in in_turn(function, jobs):
            if fitted:
                raise KeyboardInterrupt
            fitted.append(len(jobs[number][0]))
            yield number, found

    def counted(function, jobs):
        again.extend(len(job[0]) for job in jobs)
        return in_turn(function, jobs)

    monkeypatch.setattr(store, "due", lambda: True)
    with pytest.raises(KeyboardInterrupt):
        profile(program, grid, store=store, spread=interrupted)
    resumed = profile(program, grid, store=store, spread=counted)
    assert sum(fitted) + sum(again) == grid.size and fitted
    assert torch.equal(resumed.minima.point, whole.minima.point)
