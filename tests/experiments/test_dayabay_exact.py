"""The non-linear prediction against the official model and under refinement of the quadrature."""

import importlib.util
from pathlib import Path

import pytest
import torch

from nuppl.errors import InputError
from nuppl.experiments import dayabay, dayabay_exact
from nuppl.physics import ibd

_SPEC = importlib.util.spec_from_file_location("dayabay_reference", Path(__file__).with_name("dayabay_reference.py"))
reference = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(reference)

OFFICIAL = torch.tensor(reference.EXPECTED, dtype=torch.float64).reshape(8, 26)
OFFICIAL_NODES = (5, 3)


def test_the_release_holds_the_published_number_of_candidates(release):
    assert release.counts.sum().item() == 5_546_118
    assert release.counts.shape == (8, 26)
    assert int(release.active.sum()) == 21


def test_constants_are_those_of_the_release():
    from nuppl.experiments.dayabay_files import Files

    files = Files()
    assert ibd.Constants() == ibd.Constants(
        electron_mass=files.value("pdg2024", "ElectronMass"),
        proton_mass=files.value("pdg2024", "ProtonMass"),
        neutron_mass=files.value("pdg2024", "NeutronMass"),
        neutron_lifetime=files.value("pdg2024", "NeutronLifeTime"),
        phase_space=files.value("ibd_constants", "PhaseSpaceFactor"),
        vector=files.value("ibd_constants", "f"),
        axial=files.value("ibd_constants", "g"),
        magnetic=files.value("ibd_constants", "f2"),
    )


def test_on_the_official_nodes_every_bin_is_the_official_one(release, mixing, deviance):
    expected = dayabay_exact.expected(release, mixing(), dayabay.Pulls(), OFFICIAL_NODES)
    torch.testing.assert_close(expected, OFFICIAL, rtol=1e-8, atol=0)
    assert deviance(expected, release.counts).item() == pytest.approx(reference.POISSON_CHI2, rel=1e-7)


def test_converged_it_is_within_a_thousandth_per_bin(release, mixing, deviance):
    expected = dayabay_exact.expected(release, mixing(), dayabay.Pulls())
    torch.testing.assert_close(expected, OFFICIAL, rtol=1e-3, atol=0)
    assert expected.sum().item() == pytest.approx(OFFICIAL.sum().item(), rel=1e-4)
    assert deviance(expected, release.counts).item() == pytest.approx(reference.POISSON_CHI2, rel=5e-3)


def test_doubling_the_nodes_changes_nothing(release, mixing):
    coarse, fine = (dayabay_exact.expected(release, mixing(), dayabay.Pulls(), order) for order in (3, 6))
    torch.testing.assert_close(coarse, fine, rtol=1e-5, atol=0)


@pytest.mark.parametrize(("name", "coords"), list(reference.PULLED), ids=lambda value: str(value))
def test_every_kind_of_pull_does_what_it_does_officially(release, mixing, one_pull, name, coords):
    total, place, change = reference.PULLED[name, coords]
    moved = dayabay_exact.expected(release, mixing(), one_pull(name, coords), OFFICIAL_NODES) - OFFICIAL
    assert int(moved.abs().argmax()) == place
    assert moved.flatten()[place].item() == pytest.approx(change, rel=1e-4)
    assert moved.sum().item() == pytest.approx(total, rel=1e-4, abs=1e-3 * abs(change))


@pytest.mark.parametrize(("name", "coords"), list(reference.BACKGROUND_RATES), ids=lambda value: str(value))
def test_errors_of_background_rates_are_taken_per_day(release, mixing, one_pull, name, coords):
    """The official model multiplies them by the rate: relative to ours its pulls are off by that factor."""
    total, rate = reference.BACKGROUND_RATES[name, coords]
    moved = dayabay_exact.expected(release, mixing(), one_pull(name, coords), OFFICIAL_NODES) - OFFICIAL
    assert moved.sum().item() * rate == pytest.approx(total, rel=1e-4)


def test_a_batch_is_its_points_one_by_one(release, mixing, random_pulls):
    theta = torch.tensor([0.05, 0.09, 0.12], dtype=torch.float64).reshape(3, 1, 1, 1, 1, 1, 1, 1)
    pulls = random_pulls(4, 3, 1, 1, 1)
    batch = dayabay.expected(release, mixing(sin2_2theta13=theta), pulls, response="exact")
    assert batch.shape == (3, 1, 1, 1, 1, 1, 8, 26)
    for lane in range(3):
        single = dayabay.Pulls(**{k: v[lane, 0, 0, 0] if v.ndim == 8 else v for k, v in vars(pulls).items()})
        one = dayabay.expected(release, mixing(sin2_2theta13=float(theta[lane])), single, response="exact")
        torch.testing.assert_close(batch[lane].reshape(8, 26), one, rtol=1e-12, atol=0)


def test_a_pull_of_the_wrong_shape_is_refused(release, mixing):
    pulls = dayabay.Pulls(thermal_power=torch.zeros(5, 1, 1, dtype=torch.float64))
    with pytest.raises(InputError, match=r"thermal_power: expected shape \(\*batch, 1, 6, 1, 1\), got \(5, 1, 1\)"):
        dayabay.expected(release, mixing(), pulls)


def test_an_unknown_response_is_refused(release, mixing):
    with pytest.raises(InputError, match=r"unknown response 'exakt' \(did you mean 'exact'\?\)"):
        dayabay.expected(release, mixing(), dayabay.Pulls(), response="exakt")
