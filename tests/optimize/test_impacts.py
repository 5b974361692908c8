"""Impacts against closed forms, against fits with moved centres and without groups, and on Daya Bay."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pyro.distributions as dist
import pytest
import torch
import xarray as xr
from click.testing import CliRunner

import nuppl
from nuppl.cli.fit import fit as fit_command
from nuppl.errors import InputError
from nuppl.language.loading import load_model
from nuppl.optimize.expansion import expand, expand_quickly
from nuppl.optimize.fit import fit
from nuppl.optimize.impacts import impacts
from nuppl.optimize.newton import minimize
from nuppl.optimize.refits import refits
from nuppl.report import figures_impacts
from nuppl.report.canvas import style
from nuppl.results.impacts import impacts_group

MODELS = Path(__file__).parents[2] / "models"

SIGNAL = torch.tensor([1.0, 2.0, 4.0, 2.0, 1.0, 0.5], dtype=torch.float64)
FREE = torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0, 1.0], dtype=torch.float64)
SHIFTS = torch.tensor([[0.3, 0.0, -0.3, 0.0, 0.1, 0.2], [0.1, 0.2, 0.1, 0.0, 0.0, 0.3]], dtype=torch.float64)
TILT = torch.tensor([0.4, 0.2, 0.0, -0.2, -0.4, -0.6], dtype=torch.float64)
TWINS = torch.tensor([[0.2, 0.1, 0.3, 0.0, 0.2, 0.1], [0.0, 0.3, 0.2, 0.2, 0.1, 0.0]], dtype=torch.float64)
TWIN_COVARIANCE = torch.tensor([[1.0, 0.6], [0.6, 2.0]], dtype=torch.float64)
SIGMA = torch.tensor([0.5, 0.4, 0.6, 0.5, 0.3, 0.4], dtype=torch.float64)
SEEN = torch.tensor([4.3, 7.1, 14.2, 7.5, 3.8, 2.2], dtype=torch.float64)
GAIN_SIGMA, GAIN_SEEN, TILT_WIDTH, TILT_CENTER = 0.4, 0.7, 1.5, 0.3


@nuppl.model(interest=("signal",))
def linear():
    """Linear and Gaussian throughout, with every kind of measurement."""
    signal = nuppl.parameter("signal", dist.Normal(2.0, 5.0), unit="kt")
    free = nuppl.parameter("free", dist.Normal(0.0, 3.0))
    tilt = nuppl.pull("tilt", dist.Normal(TILT_CENTER, TILT_WIDTH))
    gain = nuppl.auxiliary("gain", dist.Normal(0.0, 10.0), lambda g: dist.Normal(g, GAIN_SIGMA), GAIN_SEEN)
    twins = nuppl.pull("twins", dist.MultivariateNormal(torch.zeros(2), TWIN_COVARIANCE))
    pair = twins[..., 0] * TWINS[0] + twins[..., 1] * TWINS[1]
    with nuppl.plate("source", ["scale", "slope"], dim=-2):
        shift = nuppl.pull("shift")
    expected = signal * SIGNAL + free * FREE + tilt * TILT + gain + (shift * SHIFTS).sum(-2, keepdim=True)
    expected = expected + pair
    with nuppl.plate("bin", 6, dim=-1):
        nuppl.observe("spectrum", dist.Normal(expected, SIGMA), SEEN)


ORDER = ("signal", "free", "tilt", "gain", "twins", "twins", "shift", "shift")


def least_squares(prior: bool = False) -> tuple[torch.Tensor, dict[str, list[int]], torch.Tensor]:
    """All measurements as one: how each moves signal with shape (rows,), rows by site, and their covariance."""
    design = torch.stack([SIGNAL, FREE, TILT, torch.ones(6, dtype=torch.float64), *TWINS, *SHIFTS], dim=1)
    design = torch.cat([design, torch.eye(8, dtype=torch.float64)[2:]])
    blocks = [SIGMA.square().diag(), torch.tensor([[TILT_WIDTH**2]]), torch.tensor([[GAIN_SIGMA**2]])]
    blocks += [TWIN_COVARIANCE, torch.eye(2)]
    rows = {"spectrum": list(range(6)), "tilt": [6], "gain": [7], "twins": [8, 9], "shift": [10, 11]}
    if prior:
        unit = torch.eye(8, dtype=torch.float64)
        design = torch.cat([design, unit[0:1], unit[1:2], unit[3:4]])
        blocks += [torch.tensor([[25.0]]), torch.tensor([[9.0]]), torch.tensor([[100.0]])]
        rows |= {"signal": [12], "free": [13], "gain": [7, 14]}
    covariance = torch.block_diag(*[block.double() for block in blocks])
    weight = torch.linalg.inv(covariance)
    return (torch.linalg.inv(design.T @ weight @ design) @ design.T @ weight)[0], rows, covariance


def of(program, prior=False):
    return expand(program, fit(program, starts=0, minos=False).values, prior=prior)


@pytest.mark.parametrize("prior", [False, True])
def test_components_of_a_linear_model_are_those_of_least_squares(prior):
    gradient, rows, covariance = least_squares(prior)
    found = impacts(of(linear.bind(), prior))
    assert found.interest == ("signal",) and found.units == ("kt",)
    components = dict(zip([g.name for g in found.groups], found.components[0], strict=True))
    assert found.errors[0] == pytest.approx(math.sqrt(gradient @ covariance @ gradient), rel=1e-9)
    for name, chosen in rows.items():
        expected = math.sqrt(gradient[chosen] @ covariance[chosen][:, chosen] @ gradient[chosen])
        assert components.pop(name) == pytest.approx(expected, rel=1e-6), name
    assert all(value == 0.0 for value in components.values()), "a free parameter is measured by nothing"
    assert found.statistical[0] == pytest.approx(float((gradient[:6] * SIGMA).norm()), rel=1e-8)


def test_the_slope_of_a_scalar_pull_has_the_sign_of_its_effect():
    gradient, rows, _ = least_squares()
    found = impacts(of(linear.bind()))
    tilt = [g.name for g in found.groups].index("tilt")
    assert found.slopes[0, tilt] == pytest.approx(float(gradient[rows["tilt"]]) * TILT_WIDTH, rel=1e-8)
    assert bool(found.slopes[0].isnan()[[i for i, g in enumerate(found.groups) if g.name != "tilt"]].all())


@nuppl.model(interest=("signal", "other"))
def counted(power: float = 0.05, seen: float = 110.0):
    """Poisson counts with a curved response, where groups share what they do."""
    signal = nuppl.parameter("signal", dist.Uniform(0.0, 500.0), nominal=100.0)
    other = nuppl.parameter("other", nuppl.LogUniform(1.0, 1e3), nominal=50.0)
    power_pull, purity = nuppl.pull("power"), nuppl.pull("purity")
    with nuppl.plate("detector", 3, dim=-2):
        efficiency = nuppl.pull("efficiency")
    with nuppl.plate("period", 2, dim=-1):
        drift = nuppl.random_effect("drift", dist.Normal(0.0, 0.02))
    rate = (1.0 + power * power_pull) * (1.0 + 0.03 * efficiency) * (drift + 0.04 * purity).exp()
    first, second = torch.tensor([1.0, 0.3]), torch.tensor([[0.2], [1.0], [3.0]])
    with nuppl.plate("detector", 3, dim=-2), nuppl.plate("period", 2, dim=-1):
        counts = torch.tensor([[seen, 40.0], [150.0, 90.0], [290.0, 200.0]])
        nuppl.observe("counts", dist.Poisson((signal * first + other * second) * rate), counts)
    nuppl.observe("sideband", dist.Poisson(2.0 * other * (1.0 + power * power_pull)), 105.0)


def test_components_add_up_in_quadrature_to_the_error():
    found = impacts(of(counted.bind()))
    torch.testing.assert_close(found.components.square().sum(1).sqrt(), found.errors, rtol=1e-9, atol=0)
    assert [g.name for g in found.groups if g.kind == "data"] == ["counts", "sideband"]
    best = fit(counted.bind(), starts=0, minos=False)
    for i, name in enumerate(found.interest):
        assert found.errors[i] == pytest.approx(best.parameters[name].error, rel=1e-4)
    systematic = (found.errors.square() - found.statistical.square()).sqrt()
    torch.testing.assert_close(found.systematic, systematic)


@pytest.mark.parametrize("prior", [False, True])
def test_the_quick_expansion_is_the_exact_one_where_the_data_are_as_expected(prior):
    program = load_model(str(MODELS / "counting.py"))[0].bind()
    values = fit(program, starts=0, minos=False).values
    slow, quick = (impacts(expand_at(program, values, prior=prior)) for expand_at in (expand, expand_quickly))
    for name in ("errors", "statistical", "components", "conventional", "slopes"):
        torch.testing.assert_close(
            getattr(quick, name), getattr(slow, name), rtol=1e-4, atol=1e-9, equal_nan=True, msg=name
        )


def test_the_quick_expansion_leaves_other_distributions_to_the_exact_one():
    program = linear.bind()
    assert not expand_quickly(program, program.nominal(), prior=False).fisher, "a multivariate pull"
    assert expand_quickly(
        load_model(str(MODELS / "counting.py"))[0].bind(),
        {"signal": torch.tensor(5.0), "background_shift": torch.tensor(0.2)},
    ).fisher


def test_three_definitions_differ_where_data_know_the_pulls():
    """Two pulls act alike and a sideband measures their sum to 0.2; mu = x - (their sum as fitted)."""

    @nuppl.model(interest="mu")
    def twin_pulls():
        mu, both = nuppl.parameter("mu", dist.Uniform(-10.0, 10.0)), nuppl.pull("first") + nuppl.pull("second")
        nuppl.observe("x", dist.Normal(mu + both, 1.0), 0.5)
        nuppl.observe("sideband", dist.Normal(both, 0.2), 0.3)

    found = impacts(of(twin_pulls.bind()))
    # The fitted sum is (2 s + 0.04 c) / 2.04, with s the sideband's value and c the sum of the centres.
    components = {"x": 1.0, "sideband": 0.2 * 2.0 / 2.04, "mu": 0.0, "first": 0.04 / 2.04, "second": 0.04 / 2.04}
    assert [g.name for g in found.groups] == list(components)
    torch.testing.assert_close(found.components[0], torch.tensor(list(components.values())).double())
    assert found.errors[0] == pytest.approx(math.sqrt(1.0 + 2.0 * 0.04 / 2.04))
    assert found.statistical[0] == pytest.approx(math.hypot(1.0, components["sideband"]))
    assert found.held[0] == pytest.approx(1.0)
    known = math.sqrt(2.0 * 0.04 / 2.04 - 0.04 / 1.04)
    assert found.conventional[0, 3:].tolist() == pytest.approx([known, known])


def moved(expansion, group, size, tolerance):
    """The interest, fitted again with the group's centres moved together by `size` along their effect on its first."""
    natural, columns = expansion.natural, list(group.columns)
    along = expansion.covariance[expansion.interest[0], columns]
    z = torch.zeros(natural.dim, dtype=torch.float64)
    z[columns] = size * along / along.norm()
    centers = natural.values(z[None])
    centers = {group.name: centers[group.name][0]}
    objective = replace(expansion.objective, value=lambda points: -natural.log_likelihood(points, centers=centers))
    start = expansion.minimum.point + expansion.covariance @ z
    fitted = minimize(objective, start, tolerance=tolerance, max_steps=12)
    assert fitted.converged or fitted.decrease < 5e-3
    return natural.values(fitted.point[None])


def by_moving(expansion, group, size=1.0, tolerance=5e-5):
    """The component by two fits: a unit vector of centres is moved up and down."""
    name = expansion.program.interest[0]
    up, down = (moved(expansion, group, sign * size, tolerance)[name] for sign in (1.0, -1.0))
    return abs(float(up - down)) / (2.0 * size)


@pytest.mark.parametrize("name", ["power", "purity", "efficiency"])
def test_a_component_is_how_far_a_fit_follows_the_centre(name):
    expansion = of(counted.bind())
    found = impacts(expansion)
    number = [g.name for g in found.groups].index(name)
    assert by_moving(expansion, found.groups[number], 0.1, 1e-8) == pytest.approx(
        float(found.components[0, number]), rel=5e-3
    )


def test_refits_are_fits_with_the_group_fixed():
    program = counted.bind()
    expansion = of(program)
    again = {refit.group: refit for refit in refits(expansion)}
    assert set(again) == {"power", "purity", "efficiency"} and not any(refit.warning for refit in again.values())
    for name, refit in again.items():
        alone = fit(program.with_(fixed={name: torch.zeros(program.sites[name].shape)}), starts=0, minos=False)
        for i, interest in enumerate(program.interest):
            estimate = alone.parameters[interest]
            assert refit.values[i] == pytest.approx(estimate.value, abs=0.01 * estimate.error)
            assert refit.errors[i] == pytest.approx(estimate.error, rel=1e-3)
        # A fixed pull has no density; at its centre that of a free one is 1 / sqrt(2 pi) per entry.
        lost = program.sites[name].size * 0.5 * math.log(2.0 * math.pi)
        rise = 2.0 * (fit(program, starts=0, minos=False).log_likelihood - alone.log_likelihood + lost)
        assert refit.rise == pytest.approx(rise, abs=1e-3)


def test_first_order_shifts_and_gains_are_those_of_refits_where_the_model_is_linear():
    expansion = of(linear.bind())
    found = impacts(expansion)
    for refit in refits(expansion):
        number = [g.name for g in found.groups].index(refit.group)
        assert refit.shifts[0] == pytest.approx(float(found.shifts[0, number]), abs=1e-6)
        gain = found.errors[0].square() - refit.errors[0].square()
        assert found.conventional[0, number].square() == pytest.approx(float(gain), rel=1e-6)


def test_with_all_pulls_held_the_error_is_that_of_a_fit_without_them():
    program = linear.bind()
    held = {name: value for name, value in program.nominal().items() if name not in ("signal", "free")}
    alone = fit(program.with_(fixed=held), minos=False)
    assert impacts(of(program)).held[0] == pytest.approx(alone.parameters["signal"].error, rel=1e-8)


def test_interest_at_its_bound_has_no_impacts():
    @nuppl.model(interest="mu")
    def bounded():
        mu, pull = nuppl.parameter("mu", dist.Uniform(0.0, 10.0), nominal=1.0), nuppl.pull("shift")
        nuppl.observe("x", dist.Normal(mu + 0.5 * pull, 1.0), -1.5)

    with pytest.raises(InputError, match="lies at its bounds"):
        of(bounded.bind())


def test_a_parameter_that_no_data_know_has_impacts_in_a_posterior_only():
    @nuppl.model(interest="rate")
    def unknown():
        rate = nuppl.parameter("rate", dist.Uniform(0.0, 50.0))
        nuppl.parameter("nowhere", dist.Normal(0.0, 1.0))
        nuppl.observe("n", dist.Poisson(rate * (1.0 + 0.1 * nuppl.pull("shift"))), 7.0)

    with pytest.raises(InputError, match="do not determine every parameter"):
        of(unknown.bind())
    found = impacts(of(unknown.bind(), prior=True))
    torch.testing.assert_close(found.components.square().sum(1).sqrt(), found.errors, rtol=1e-9, atol=0)


def test_impacts_live_in_a_result_file_and_are_drawn(tmp_path):
    found = impacts(of(counted.bind()))
    impacts_group(found.plain()).to_netcdf(tmp_path / "result.nc", group="impacts", engine="netcdf4")
    kept = {"impacts": xr.load_dataset(tmp_path / "result.nc", group="impacts", engine="netcdf4")}
    assert kept["impacts"].attrs["reading"] == "likelihood"
    assert float(kept["impacts"]["component"].sel(interest="other", group="efficiency")) == pytest.approx(
        float(found.components[1, [g.name for g in found.groups].index("efficiency")])
    )
    with style():
        pictures = figures_impacts.impacts(kept)
        assert [picture.title for picture in pictures] == ["Impacts on signal", "Impacts on other"]
        assert figures_impacts.impacts({}) == []
    assert "from fluctuations of the data" in pictures[0].caption


def test_the_command_prints_a_table_and_json():
    runner = CliRunner()
    target = str(MODELS / "counting.py")
    shown = runner.invoke(fit_command, [target, "--impacts"])
    assert shown.exit_code == 0, shown.output
    assert "impacts on signal" in shown.output and "background_shift" in shown.output
    told = runner.invoke(fit_command, [target, "--impacts", "--json"])
    split = json.loads(told.stdout)["impacts"]["signal"]
    # A background known to 0.5 moves the signal by 0.5; seven counts fluctuate by their root.
    assert split["groups"]["background_shift"]["component"] == pytest.approx(0.5, rel=1e-3)
    assert split["groups"]["counts"]["component"] == pytest.approx(math.sqrt(7.0), rel=1e-3)
    assert split["groups"]["background_shift"]["slope"] == pytest.approx(-0.5, rel=1e-3)
    assert split["groups"]["background_shift"]["without"]["error"] == pytest.approx(math.sqrt(7.0), rel=1e-3)


@pytest.fixture(scope="module")
def daya_bay():
    program = load_model(str(MODELS / "reactor.py"))[0].bind()
    best = fit(program, starts=0, minos=False)
    return best, expand_quickly(program, best.values, prior=False)


def with_moved_data(expansion, size=1.0):
    """The data's component by two fits: counts moved up and down together along their effect, by `size` errors."""
    natural, best, column = expansion.natural, expansion.minimum.point, expansion.interest[0]
    _, variance, jacobian = expansion.objective.jacobian(best)
    effect = jacobian @ expansion.covariance[column] / variance.sqrt()
    step = size * effect / effect.norm() * variance.sqrt()
    ((name, counts),) = expansion.program.data.items()
    ends = []
    for sign in (1.0, -1.0):
        data = {name: counts + sign * step.reshape(counts.shape)}
        objective = replace(expansion.objective, value=lambda z, data=data: -natural.log_likelihood(z, data=data))
        start = best + sign * expansion.covariance @ jacobian.T @ (step / variance)
        ends.append(natural.values(minimize(objective, start, max_steps=12).point[None])["sin2_2theta13"])
    return abs(float(ends[0] - ends[1])) / (2.0 * size)


def test_impacts_of_daya_bays_pulls_make_the_difference_between_full_and_statistical_error(daya_bay):
    """The statistics-only error is taken from fits to moved data, the full one from the fit's Hessian."""
    best, expansion = daya_bay
    found = impacts(expansion)
    statistical = with_moved_data(expansion)
    full = best.parameters["sin2_2theta13"].error
    pulls = [i for i, g in enumerate(found.groups) if g.kind == "pull"]
    assert sum(len(found.groups[i].columns) for i in pulls) == 1057
    together = float(found.components[0, pulls].square().sum().sqrt())
    assert together == pytest.approx(math.sqrt(full**2 - statistical**2), rel=0.05)


@pytest.mark.parametrize("name", ["efficiency", "energy_scale"])
def test_daya_bays_fit_follows_the_centres_of_its_largest_groups(daya_bay, name):
    _, expansion = daya_bay
    found = impacts(expansion)
    number = [g.name for g in found.groups].index(name)
    assert by_moving(expansion, found.groups[number]) == pytest.approx(float(found.components[0, number]), rel=0.05)
