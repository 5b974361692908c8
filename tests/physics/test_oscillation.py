"""Vacuum oscillation against a matrix exponential, its own symmetries, and finite differences."""

import math
from collections.abc import Callable
from itertools import pairwise

import mpmath  # type: ignore[import-untyped]
import numpy as np
import pytest
import torch
from scipy.linalg import expm

from nuppl import units
from nuppl.physics.oscillation import FourFlavor, Mixing, NFlavor, Rotation, ThreeFlavor, probability, survival_terms

THREE = {"sin2_2theta13": 0.085, "dm2_31": 2.5e-3, "sin2_theta23": 0.55, "delta_cp": 1.2}
FOUR = THREE | {"sin2_2theta14": 0.3, "dm2_41": 0.7, "sin2_theta24": 0.08, "sin2_theta34": 0.15}

MIXINGS: dict[str, Callable[[], Mixing]] = {
    "three": lambda: ThreeFlavor(**THREE),
    "three inverted": lambda: ThreeFlavor(sin2_theta13=0.7, dm2_32=-2.48e-3, delta_cp=4.8),
    "three maximal": lambda: ThreeFlavor(sin2_2theta13=1.0, dm2_31=2.5e-3, sin2_theta12=0.5, sin2_theta23=0.5),
    "three without mixing": lambda: ThreeFlavor(sin2_theta13=0.0, dm2_31=2.5e-3, sin2_theta12=0.0, sin2_theta23=0.0),
    "three permuted": lambda: ThreeFlavor(sin2_theta13=1.0, dm2_31=2.5e-3, sin2_theta12=1.0, sin2_theta23=1.0),
    "three equal masses": lambda: ThreeFlavor(sin2_theta13=0.02, dm2_31=0.0, dm2_21=0.0),
    "three batched": lambda: ThreeFlavor(
        sin2_2theta13=torch.linspace(0.0, 1.0, 5, dtype=torch.float64), dm2_31=2.5e-3, delta_cp=torch.rand(3, 1)
    ),
    "four": lambda: FourFlavor(**FOUR, delta_14=0.6, delta_24=2.0),
    "four inverted": lambda: FourFlavor(**(FOUR | {"dm2_31": -2.4e-3}), delta_14=5.0),
    "four maximal": lambda: FourFlavor(**(FOUR | {"sin2_2theta14": 1.0})),
    "five": lambda: NFlavor(
        rotations=[Rotation(i, j, 0.1 * i, 0.3 * j) for j in range(2, 6) for i in range(1, j)],
        dm2_k1=[7.5e-5, 2.5e-3, 0.5, 1.3],
    ),
}


@pytest.fixture(params=MIXINGS)
def mixing(request: pytest.FixtureRequest) -> Mixing:
    torch.manual_seed(1)
    return MIXINGS[request.param]()


def exponential(mixing: Mixing, length_over_energy: float, antineutrino: bool = False) -> np.ndarray:
    """P_ab = |(exp(-i H L))_ba|^2 from the Hamiltonian of an unbatched mixing."""
    u = mixing.pmns.numpy()
    u = u.conj() if antineutrino else u
    phase = 2.0 * units.OSCILLATION_PHASE * length_over_energy
    hamiltonian = u @ np.diag(mixing.squared_masses.numpy()) @ u.conj().T
    return np.asarray(np.abs(expm(-1j * phase * hamiltonian)).T ** 2)


def test_phase_constant_is_exact() -> None:
    mpmath.mp.dps = 30
    hbar_c = mpmath.mpf("6.62607015e-34") * 299792458 / (2 * mpmath.pi * mpmath.mpf("1.602176634e-19"))
    assert float(mpmath.mpf("1e-6") / (4 * hbar_c)) == pytest.approx(units.OSCILLATION_PHASE, rel=4e-16)
    assert pytest.approx(1.2669326790, rel=1e-10) == units.OSCILLATION_PHASE
    assert pytest.approx(6.582119569e-22, rel=1e-9) == 1e-6 * units.HBAR_C / units.SPEED_OF_LIGHT


def test_matrix_is_unitary(mixing: Mixing) -> None:
    product = mixing.pmns @ mixing.pmns.mH
    torch.testing.assert_close(product, torch.eye(product.shape[-1]).to(product).expand_as(product), rtol=0, atol=1e-14)


def test_matrix_is_the_product_of_its_factors() -> None:
    angles = {"12": 0.307, "13": 0.02, "23": 0.55, "14": 0.09, "24": 0.08, "34": 0.15}
    phases = {"13": 1.2, "14": 0.6, "24": 2.0}
    product = np.eye(4, dtype=complex)
    for name in ("34", "24", "14", "23", "13", "12"):
        i, j = (int(digit) - 1 for digit in name)
        s, c, d = math.sqrt(angles[name]), math.sqrt(1.0 - angles[name]), phases.get(name, 0.0)
        factor = np.eye(4, dtype=complex)
        factor[[i, j], [i, j]] = c
        factor[i, j], factor[j, i] = s * np.exp(-1j * d), -s * np.exp(1j * d)
        product = product @ factor
    mixing = FourFlavor(
        **{f"sin2_theta{name}": value for name, value in angles.items()},
        **{"delta_cp": phases["13"], "delta_14": phases["14"], "delta_24": phases["24"]},
        dm2_31=2.5e-3,
        dm2_41=1.0,
    )
    np.testing.assert_allclose(mixing.pmns.numpy(), product, rtol=0, atol=1e-15)
    np.testing.assert_allclose(mixing.electron_weights.numpy(), np.abs(product[0]) ** 2, rtol=0, atol=1e-15)


def test_closed_form_weights_are_those_of_the_matrix(mixing: Mixing) -> None:
    row = mixing.pmns[..., 0, :].abs().square()
    torch.testing.assert_close(mixing.electron_weights.expand_as(row), row, rtol=0, atol=1e-14)
    weights, splittings = survival_terms(mixing)
    masses = mixing.squared_masses
    pairs = [(i, j) for i in range(row.shape[-1]) for j in range(i)]
    for index, (i, j) in enumerate(pairs):
        product = 4.0 * row[..., i] * row[..., j]
        torch.testing.assert_close(weights[..., index].expand_as(product), product, rtol=0, atol=1e-14)
        assert (splittings[..., index] == masses[..., i] - masses[..., j]).all()
    assert weights.shape[-1] == splittings.shape[-1] == len(pairs)


@pytest.mark.parametrize("name", [name for name in MIXINGS if "batched" not in name])
@pytest.mark.parametrize("antineutrino", [False, True])
def test_probability_is_that_of_the_matrix_exponential(name: str, antineutrino: bool) -> None:
    mixing = MIXINGS[name]()
    for length_over_energy in (0.0, 1e-6, 0.3, 7.0, 400.0, 5e3):
        expected = exponential(mixing, length_over_energy, antineutrino)
        given = probability(mixing, 2.0, 2.0 * length_over_energy, antineutrino=antineutrino)
        np.testing.assert_allclose(given.numpy(), expected, rtol=0, atol=2e-12)


def test_small_probabilities_are_accurate_relatively() -> None:
    mixing = ThreeFlavor(**THREE)
    given = probability(mixing, 1.0, 1e-6, initial="mu", final="e")
    mpmath.mp.dps = 50
    u = mixing.pmns
    amplitude = mpmath.mpf(0)
    for k in range(3):
        product = u[0, k].item() * u[1, k].conj().item()
        phase = -2 * mpmath.mpf(units.OSCILLATION_PHASE) * mpmath.mpf(mixing.squared_masses[k].item()) * 1e-6
        amplitude += mpmath.mpc(product.real, product.imag) * mpmath.expm1(1j * phase)  # the constant part is zero
    assert given.item() == pytest.approx(float(abs(amplitude) ** 2), rel=1e-12)
    assert 0.0 < given.item() < 1e-17


@pytest.mark.parametrize("antineutrino", [False, True])
def test_rows_and_columns_sum_to_one_at_any_phase(mixing: Mixing, antineutrino: bool) -> None:
    baseline = torch.logspace(-6, 15, 43, dtype=torch.float64)[:, None, None]
    channels = probability(mixing, 3.0, baseline, antineutrino=antineutrino)
    ones = torch.ones_like(channels[..., 0])
    torch.testing.assert_close(channels.sum(-1), ones, rtol=0, atol=1e-13)
    torch.testing.assert_close(channels.sum(-2), ones, rtol=0, atol=1e-13)
    assert channels.min() > -1e-14 and channels.max() < 1.0 + 1e-14


def test_four_flavors_through_the_earth_to_fifty_digits() -> None:
    """A phase of 2e4 rad beside one of 1: the spectrum that float64 expansions of exp(-i H L) find hardest."""
    mpmath.mp.dps = 50
    mixing = FourFlavor(**(FOUR | {"dm2_31": -2.4e-3, "dm2_41": 1.3}), delta_14=0.7, delta_24=2.1)
    u = mpmath.matrix(mixing.pmns.tolist())
    phases = [mpmath.mpf(-2 * 12_742) * units.OSCILLATION_PHASE * m for m in mixing.squared_masses.tolist()]
    evolution = u * mpmath.diag([mpmath.expj(phase) for phase in phases]) * u.H
    expected = [[float(abs(evolution[b, a]) ** 2) for b in range(4)] for a in range(4)]
    np.testing.assert_allclose(probability(mixing, 1.0, 12_742.0).numpy(), expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("phase", [1e4, 1e7, 1e10])
def test_large_phases_lose_nothing_but_the_rounding_of_dm2_times_length(phase: float) -> None:
    mpmath.mp.dps = 50
    mixing = NFlavor(rotations=[Rotation(1, 2, 0.5)], dm2_k1=[1.0])
    baseline = phase / units.OSCILLATION_PHASE
    half_turns = mpmath.mpf(units.OSCILLATION_PHASE) * mpmath.mpf(baseline) / mpmath.pi
    expected = float(mpmath.sin(mpmath.pi * half_turns) ** 2)
    given = probability(mixing, 1.0, baseline, initial="e", final="mu")
    assert given.item() == pytest.approx(expected, abs=4e-16 * phase)


def test_one_channel_row_and_column_are_parts_of_all_channels(mixing: Mixing) -> None:
    energy = torch.linspace(0.5, 9.0, 7, dtype=torch.float64)[:, None, None]
    everything = probability(mixing, energy, 1.6e3)
    for a, initial in enumerate(mixing.flavors):
        torch.testing.assert_close(probability(mixing, energy, 1.6e3, initial=initial), everything[..., a, :])
        torch.testing.assert_close(probability(mixing, energy, 1.6e3, final=initial), everything[..., :, a])
        for b, final in enumerate(mixing.flavors):
            one = probability(mixing, energy, 1.6e3, initial=initial, final=final)
            expected = everything[..., a, b]
            torch.testing.assert_close(one.expand_as(expected), expected, rtol=0, atol=1e-15)


def test_survival_terms_give_the_survival_probability(mixing: Mixing) -> None:
    for flavor in mixing.flavors:
        weights, splittings = survival_terms(mixing, flavor)
        length_over_energy = 531.0
        phases = units.OSCILLATION_PHASE * splittings * length_over_energy
        expected = 1.0 - (weights * phases.sin().square()).sum(-1)
        given = probability(mixing, 1.0, length_over_energy, initial=flavor, final=flavor)
        torch.testing.assert_close(given, expected, rtol=0, atol=1e-13)


def test_antineutrinos_are_neutrinos_with_conjugate_matrix_and_time_reversed(mixing: Mixing) -> None:
    neutrino = probability(mixing, 3.0, 1.7e3)
    antineutrino = probability(mixing, 3.0, 1.7e3, antineutrino=True)
    torch.testing.assert_close(antineutrino, neutrino.mT, rtol=0, atol=1e-15)


def test_jarlskog_asymmetry() -> None:
    """P(mu -> e) - P(e -> mu) = -16 J sin sin sin for our order of the masses; J > 0 for delta_cp in (0, pi)."""
    mixing, length_over_energy = ThreeFlavor(**THREE), 500.0
    s13 = math.sqrt(0.5 * (1.0 - math.sqrt(1.0 - 0.085)))
    s12, s23 = math.sqrt(mixing.sin2_theta12), math.sqrt(0.55)
    c12, c23, c13 = (math.sqrt(1.0 - s * s) for s in (s12, s23, s13))
    jarlskog = s12 * c12 * s23 * c23 * s13 * c13**2 * math.sin(1.2)
    sines = math.prod(math.sin(units.OSCILLATION_PHASE * d * length_over_energy) for d in mixing.splittings.tolist())
    channels = probability(mixing, 1.0, length_over_energy)
    assert (channels[0, 1] - channels[1, 0]).item() == pytest.approx(16.0 * jarlskog * sines, abs=1e-15)
    assert abs(jarlskog * sines) > 1e-5


def test_three_flavors_are_four_without_sterile_mixing() -> None:
    energy = torch.logspace(-1, 2, 50, dtype=torch.float64)
    four = probability(FourFlavor(**THREE, dm2_41=1.3, sin2_2theta14=0.0), energy, 1.6e3)
    torch.testing.assert_close(four[..., :3, :3], probability(ThreeFlavor(**THREE), energy, 1.6e3), rtol=0, atol=1e-14)
    torch.testing.assert_close(four[..., 3, 3], torch.ones_like(energy), rtol=0, atol=1e-14)


def test_swapping_states_three_and_four_leaves_electron_survival() -> None:
    """The theta13/theta14 degeneracy of reactors: exchange dm2_31 with dm2_41 and |U_e3|^2 with |U_e4|^2."""
    one = FourFlavor(sin2_theta13=0.02, dm2_31=2.5e-3, sin2_theta14=0.3, dm2_41=2.9e-3)
    u_e3, u_e4 = one.electron_weights[2].item(), one.electron_weights[3].item()
    other = FourFlavor(sin2_theta13=u_e4 / (1.0 - u_e3), dm2_31=2.9e-3, sin2_theta14=u_e3, dm2_41=2.5e-3)
    energy = torch.linspace(1.8, 9.0, 40, dtype=torch.float64)
    curves = [probability(mixing, energy, 1.6e3, initial="e", final="e") for mixing in (one, other)]
    torch.testing.assert_close(*curves, rtol=0, atol=1e-14)
    assert curves[0].min() < 0.5


def test_swapping_states_one_and_two_leaves_everything() -> None:
    """sin2_theta12 -> cos2_theta12, dm2_21 -> -dm2_21, dm2_31 -> dm2_32 relabels the states (LMA-dark, in vacuum)."""
    one = ThreeFlavor(sin2_theta13=0.02, dm2_31=2.5e-3, dm2_21=7.5e-5, sin2_theta12=0.3, delta_cp=0.4)
    other = ThreeFlavor(
        sin2_theta13=0.02, dm2_31=2.5e-3 - 7.5e-5, dm2_21=-7.5e-5, sin2_theta12=0.7, delta_cp=0.4 + math.pi
    )
    energy = torch.linspace(0.5, 9.0, 40, dtype=torch.float64)
    torch.testing.assert_close(probability(one, energy, 5e4), probability(other, energy, 5e4), rtol=0, atol=1e-12)


def test_sin2_2theta_is_the_lower_octant() -> None:
    angle = torch.tensor([1e-9, 1e-3, 0.3, 0.5, 1.0], dtype=torch.float64)
    doubled = ThreeFlavor(sin2_2theta13=4.0 * angle * (1.0 - angle), dm2_31=2.5e-3)
    expected = torch.minimum(angle, 1.0 - angle)
    torch.testing.assert_close(doubled.electron_weights[:, 2], expected, rtol=1e-12, atol=0)


def test_splittings_from_either_convention_and_ordering() -> None:
    inverted = ThreeFlavor(sin2_theta13=0.02, dm2_32=-2.484e-3, dm2_21=7.49e-5)
    same = ThreeFlavor(sin2_theta13=0.02, dm2_31=-2.484e-3 + 7.49e-5, dm2_21=7.49e-5)
    torch.testing.assert_close(inverted.splittings, same.splittings, rtol=1e-15, atol=0)
    assert inverted.splittings.tolist() == pytest.approx([7.49e-5, -2.4091e-3, -2.484e-3], rel=1e-12)


def test_metres_and_mev_are_km_and_gev() -> None:
    mixing = ThreeFlavor(**THREE)
    metres = probability(mixing, 600.0, 295_000.0)
    torch.testing.assert_close(metres, probability(mixing, 0.6, 295.0), rtol=1e-13, atol=1e-15)


def test_batches_in_chunks_equal_one_at_a_time() -> None:
    """Parameters left of the data's axes, prime sizes, more points than a chunk holds."""
    depth = torch.linspace(0.0, 1.0, 31, dtype=torch.float64).reshape(31, 1, 1)
    heavy = torch.logspace(-3, 1, 31, dtype=torch.float64).reshape(31, 1, 1)
    energy = torch.linspace(1.8, 9.0, 607, dtype=torch.float64)
    baseline = torch.tensor([364.0, 504.0, 1_600.0], dtype=torch.float64)[:, None]
    mixing = FourFlavor(**(FOUR | {"sin2_2theta14": depth, "dm2_41": heavy}))
    batched = probability(mixing, energy, baseline)
    assert batched.shape == (31, 3, 607, 4, 4)
    for lane in (0, 7, 30):
        single = FourFlavor(**(FOUR | {"sin2_2theta14": depth[lane].item(), "dm2_41": heavy[lane].item()}))
        torch.testing.assert_close(batched[lane], probability(single, energy, baseline), rtol=0, atol=1e-15)
    one = probability(mixing, energy, baseline, initial="e", final="e")
    torch.testing.assert_close(one, batched[..., 0, 0], rtol=0, atol=1e-15)


def test_nan_lanes_stay_nan_and_leave_the_others() -> None:
    depth = torch.tensor([0.1, math.nan, 0.3], dtype=torch.float64)
    given = probability(ThreeFlavor(sin2_2theta13=depth, dm2_31=2.5e-3), 3.0, 1.6e3, initial="e", final="e")
    assert torch.isnan(given).tolist() == [False, True, False]


def test_survival_falls_from_one_as_the_baseline_grows() -> None:
    baseline = torch.linspace(0.0, 1.5e3, 20, dtype=torch.float64)
    curve = probability(ThreeFlavor(**THREE), 4.0, baseline, initial="e", final="e").tolist()
    assert curve[0] == 1.0 and all(later < sooner for sooner, later in pairwise(curve))
