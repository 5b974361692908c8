"""A fourth neutrino: tables against the exact four-flavor probability, integrated directly."""

import math

import pytest
import torch

from nuppl.experiments import dayabay, dayabay_exact, dayabay_sterile, dayabay_waves
from nuppl.experiments.dayabay_chain import visible
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
    return dayabay_waves.central_correction(release).reshape(-1, 1, 1)


@pytest.mark.parametrize("splitting", SPLITTINGS)
def test_reference_and_tables_are_converged(release, mixing, brute_force, central, splitting):
    pulls = dayabay.Pulls(spectrum_correction=central)
    point = mixing(sin2_2theta14=0.3, dm2_41=splitting)
    direct = brute_force(point, pulls)
    torch.testing.assert_close(dayabay.expected(release, point, pulls, "exact"), direct, rtol=1e-5, atol=0)
    torch.testing.assert_close(dayabay.expected(release, point, pulls), direct, rtol=2e-5, atol=0)


def test_the_spectrum_correction_need_not_be_the_central_one(release, mixing, correction, deviance):
    pulls = dayabay.Pulls(spectrum_correction=correction + 0.02 * torch.arange(19).remainder(2).reshape(-1, 1, 1))
    for splitting in SPLITTINGS:
        point = mixing(sin2_2theta14=0.3, dm2_41=splitting)
        templates, exact = (dayabay.expected(release, point, pulls, response) for response in ("templates", "exact"))
        assert deviance(templates, exact).item() < 0.02


def test_all_pulls_together_leave_the_likelihood_in_place(release, mixing, random_pulls, deviance):
    """At large mixing, where it is hardest, each point with pulls of its own; 1.5 eV^2 turns once per fine bin."""
    splittings = [*SPLITTINGS, 0.0158, 0.0457, 0.4, 0.9, 1.24, 1.5, 1.64, 1.78]
    lanes = torch.tensor(splittings, dtype=torch.float64).reshape(-1, 1, 1, 1, 1, 1, 1, 1)
    pulls = random_pulls(3, len(splittings), 1, 1, 1)
    templates = dayabay.expected(release, mixing(sin2_2theta14=0.3, dm2_41=lanes), pulls).reshape(-1, 8, 26)
    for lane, splitting in enumerate(splittings):
        single = dayabay.Pulls(**{k: v[lane, 0, 0, 0] if v.ndim == 8 else v for k, v in vars(pulls).items()})
        exact = dayabay.expected(release, mixing(sin2_2theta14=0.3, dm2_41=splitting), single, "exact")
        assert deviance(templates[lane], exact).item() < 0.1


@pytest.mark.parametrize(
    ("names", "splitting", "bound"),
    [
        (("thermal_power", "fission_fractions", "energy_per_fission"), 0.0156, 0.01),
        (("nonequilibrium", "spent_fuel"), 0.0152, 0.01),
        (("spectrum_uncorrelated",), 1.78, 0.03),
        (("energy_scale", "energy_loss", "nonlinearity", "resolution"), 0.2, 0.03),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else None,
)
def test_groups_of_pulls_act_as_they_do_exactly(release, mixing, random_pulls, deviance, names, splitting, bound):
    """Each where it is hardest to follow; without the tables of reactors and of spectra the first three fail."""
    pulls = random_pulls(8, names=names)
    point = mixing(sin2_2theta14=0.3, dm2_41=splitting)
    templates, exact = (dayabay.expected(release, point, pulls, response) for response in ("templates", "exact"))
    assert deviance(templates, exact).item() < bound


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


def test_gradients_are_those_of_the_reference(release, mixing, random_pulls):
    gradients = []
    for response in ("templates", "exact"):
        theta, splitting = (torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (0.1, 0.008))
        pulls = random_pulls(6, names=["thermal_power", "spectrum_correlated", "efficiency"])
        power = pulls.thermal_power.requires_grad_()
        counts = dayabay.expected(release, mixing(sin2_2theta14=theta, dm2_41=splitting), pulls, response)
        weight = torch.linspace(0.5, 1.5, 26, dtype=torch.float64)
        gradients.append(torch.autograd.grad((counts * weight).sum(), [theta, splitting, power]))
    for templates, exact in zip(*gradients, strict=True):
        torch.testing.assert_close(templates, exact, rtol=2e-3, atol=1.0)


def test_the_second_derivative_is_that_of_the_first(release, mixing, central):
    def slope(splitting, create_graph=False):
        counts = dayabay.expected(
            release, mixing(sin2_2theta14=0.1, dm2_41=splitting), dayabay.Pulls(spectrum_correction=central)
        )
        return torch.autograd.grad(counts[0, 5], splitting, create_graph=create_graph)[0]

    at = torch.tensor(0.0081, dtype=torch.float64, requires_grad=True)
    (curvature,) = torch.autograd.grad(slope(at, create_graph=True), at)
    up, down = (slope((at.detach() + step).requires_grad_()) for step in (2e-6, -2e-6))
    assert curvature.item() == pytest.approx(((up - down) / 4e-6).item(), rel=1e-3)


def test_a_table_is_its_function_between_the_points(release):
    """A millionth, as the counts are; where the response washes an oscillation out, what is left of it may be off."""
    tables = dayabay_sterile.sterile_tables(release)
    splitting = 10 ** (4.0 * torch.rand(60, generator=torch.Generator().manual_seed(2), dtype=torch.float64) - 3.0)
    wave = dayabay_waves.waves(release, splitting)[0].double()
    events = dayabay_waves.emission(release).events
    response = visible(release, dayabay_waves.central_response(release))
    direct = ((0.5 - 0.5 * wave) * events).sum(2) @ response.T
    share = tables.share(splitting[:, None], torch.ones(1, dtype=torch.float64)).reshape(60, 8, -1) + 0.5
    total = events.sum(1)
    assert ((share * total) @ response.T / (total @ response.T) - direct / (total @ response.T)).abs().max() < 5e-6
