"""A fourth neutrino: tables against the exact four-flavor probability, integrated directly."""

import math

import pytest
import torch

from nuppl.experiments import dayabay, dayabay_exact, dayabay_sterile
from nuppl.experiments.dayabay_exact import survival_by_lane
from nuppl.experiments.dayabay_sources import flux, tables
from nuppl.experiments.dayabay_systematics import lanes_of
from nuppl.units import OSCILLATION_PHASE

SPLITTINGS = [1e-3, 2.45e-3, 7e-3, 0.03, 0.11, 0.37, 1.3, 3.2, 7.7, 10.0]


@pytest.fixture(scope="module")
def brute_force(release):
    """The probability at eighty nodes per segment, no averaging of phases."""

    def expected(mixing, pulls):
        values, at = lanes_of(release, pulls), tables(release, 80)
        weights, splittings = survival_by_lane(mixing)
        turns = (OSCILLATION_PHASE / math.pi) * release.baselines[..., None] / at.quadrature.energy
        survival = torch.ones_like(turns)
        for weight, splitting in zip(weights, splittings, strict=True):
            survival -= weight * ((splitting * turns).frac() * math.pi).sin().square()
        events = (flux(release, at, values) * survival).sum(1) @ at.quadrature.kernel.T
        matrix = dayabay_exact.response_matrices(release, values)
        return (matrix @ events[..., None])[..., 0] + dayabay_exact.background(release, values)

    return expected


@pytest.fixture(scope="module")
def central(release):
    return dayabay_sterile.central_correction(release).reshape(-1, 1, 1)


@pytest.mark.parametrize("splitting", SPLITTINGS)
def test_reference_and_tables_are_converged(release, mixing, brute_force, central, splitting):
    pulls = dayabay.Pulls(spectrum_correction=central)
    point = mixing(sin2_2theta14=0.3, dm2_41=splitting)
    direct = brute_force(point, pulls)
    torch.testing.assert_close(dayabay.expected(release, point, pulls, "exact"), direct, rtol=1e-5, atol=0)
    torch.testing.assert_close(dayabay.expected(release, point, pulls), direct, rtol=1e-4, atol=0)


def test_the_spectrum_correction_need_not_be_the_central_one(release, mixing, correction, deviance):
    pulls = dayabay.Pulls(spectrum_correction=correction + 0.02 * torch.arange(19).remainder(2).reshape(-1, 1, 1))
    for splitting in SPLITTINGS:
        point = mixing(sin2_2theta14=0.05, dm2_41=splitting)
        templates, exact = (dayabay.expected(release, point, pulls, response) for response in ("templates", "exact"))
        assert deviance(templates, exact).item() < 0.02


def test_response_pulls_act_on_the_sterile_part(release, mixing, random_pulls, deviance):
    pulls = random_pulls(3, names=["energy_scale", "energy_loss", "nonlinearity", "resolution"])
    for splitting in (3e-3, 0.03, 0.2, 0.5):
        point = mixing(sin2_2theta14=0.02, dm2_41=splitting)
        templates, exact = (dayabay.expected(release, point, pulls, response) for response in ("templates", "exact"))
        assert deviance(templates, exact).item() < 0.1


def test_without_mixing_or_splitting_it_is_three_flavors(release, mixing):
    three = dayabay.expected(release, mixing(), dayabay.Pulls())
    none = dayabay.expected(release, mixing(sin2_2theta14=0.0, dm2_41=0.3), dayabay.Pulls())
    torch.testing.assert_close(none, three, rtol=1e-12, atol=0)


def test_beyond_the_tables_a_single_point_is_exact_and_a_lane_is_nan(release, mixing):
    point = mixing(sin2_2theta14=0.1, dm2_41=20.0)
    torch.testing.assert_close(
        dayabay.expected(release, point, dayabay.Pulls()), dayabay.expected(release, point, dayabay.Pulls(), "exact")
    )
    batch = torch.tensor([0.1, 20.0], dtype=torch.float64).reshape(2, 1, 1, 1, 1, 1, 1, 1)
    counts = dayabay.expected(release, mixing(sin2_2theta14=0.1, dm2_41=batch), dayabay.Pulls())
    assert counts.isnan().flatten(1).any(-1).tolist() == [False, True]


def test_the_gradient_in_the_splitting_is_right(release, mixing, central):
    pulls = dayabay.Pulls(spectrum_correction=central)
    splitting = torch.tensor(0.008, dtype=torch.float64, requires_grad=True)
    counts = dayabay.expected(release, mixing(sin2_2theta14=0.1, dm2_41=splitting), pulls)[0]
    (gradient,) = torch.autograd.grad(counts[5], splitting)
    up, down = (
        dayabay.expected(release, mixing(sin2_2theta14=0.1, dm2_41=0.008 + step), pulls, "exact")[0, 5]
        for step in (1e-5, -1e-5)
    )
    assert gradient.item() == pytest.approx(((up - down) / 2e-5).item(), rel=1e-2)


def test_the_table_keeps_its_tolerance(release):
    splitting = 10 ** (4.0 * torch.rand(60, generator=torch.Generator().manual_seed(2), dtype=torch.float64) - 3.0)
    exact = dayabay_sterile.fraction(release, splitting)[0][:, 0]
    table = dayabay_sterile.sterile_tables(release).fraction(splitting)
    assert (table - exact).abs().max().item() < 2e-4
