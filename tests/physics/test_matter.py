"""Oscillation in matter against fifty digits, against its own composition, and against finite differences."""

from __future__ import annotations

import functools
import math
import subprocess
import sys
from typing import Any

import mpmath  # type: ignore[import-untyped]
import pytest
import torch
from torch import Tensor

from nuppl import units
from nuppl.physics.oscillation import (
    MATTER_POTENTIAL,
    FourFlavor,
    Mixing,
    NFlavor,
    Rotation,
    ThreeFlavor,
    matter_probability,
    nonstandard,
    probability,
    slabs_probability,
)

ACTIVE = {"sin2_theta13": 0.0217, "sin2_theta12": 0.307, "sin2_theta23": 0.56, "delta_cp": 1.2, "dm2_21": 7.5e-5}
STERILE = {"sin2_theta14": 0.1, "sin2_theta24": 0.06, "sin2_theta34": 0.12, "delta_14": 0.7, "delta_24": 2.1}
MIXINGS: dict[str, dict[str, float]] = {
    "three": ACTIVE | {"dm2_31": 2.5e-3},
    "three inverted": ACTIVE | {"dm2_31": -2.4e-3},
    "four": ACTIVE | STERILE | {"dm2_31": 2.5e-3, "dm2_41": 1.3},
    "four inverted": ACTIVE | STERILE | {"dm2_31": -2.4e-3, "dm2_41": 1.3},
    "four below": ACTIVE | STERILE | {"dm2_31": 2.5e-3, "dm2_41": -0.4},
    "four light": ACTIVE | STERILE | {"dm2_31": 2.5e-3, "dm2_41": 3e-3},
    "no mixing": ACTIVE | {"dm2_31": 2.5e-3, "sin2_theta12": 0.0, "sin2_theta13": 0.0, "sin2_theta23": 0.0},
    "permuted": ACTIVE | {"dm2_31": 2.5e-3, "sin2_theta12": 1.0, "sin2_theta13": 1.0, "sin2_theta23": 1.0},
    "equal masses": ACTIVE | {"dm2_31": 2.5e-3, "dm2_21": 0.0},
    "all masses equal": ACTIVE | {"dm2_31": 0.0, "dm2_21": 0.0},
    "four, two alike": ACTIVE | STERILE | {"dm2_31": 2.5e-3, "dm2_41": 2.5e-3},
    "four, in pairs": ACTIVE | STERILE | {"dm2_31": 1.0, "dm2_41": 1.0, "dm2_21": 1e-9},
    "sterile alone": ACTIVE | {"dm2_31": 2.5e-3, "dm2_41": 1.0, "sin2_theta14": 0.0},
}
SLABS = [(295.0, 2.6, 0.5), (1300.0, 2.85, 0.49), (9000.0, 4.5, 0.4957), (12_742.0, 13.0, 0.4656)]
ENERGIES = (0.1, 0.37, 1.0, 2.5, 5.9, 10.0, 31.0, 100.0)


def mixing_of(values: dict[str, Any]) -> Mixing:
    return FourFlavor(**values) if "dm2_41" in values else ThreeFlavor(**values)


@functools.cache
def digits(name: str, energy: float, slab: tuple[float, float, float], antineutrino: bool) -> Tensor:
    """All channels from the eigenvectors of the Hamiltonian, with fifty digits, from the matrix U that we use."""
    mpmath.mp.dps = 50
    mixing = mixing_of(MIXINGS[name])
    length, density, fraction = map(mpmath.mpf, slab)
    u = _unitary(mixing, antineutrino)
    count = u.rows
    x = 2 * mpmath.mpf("1e9") * mpmath.mpf(energy) * mpmath.mpf(MATTER_POTENTIAL) * density * fraction
    x = -x if antineutrino else x
    potential = mpmath.diag([x] + [0] * 2 + [x * (1 - fraction) / (2 * fraction)] * (count - 3))
    masses = mpmath.diag([mpmath.mpf(m) for m in mixing.squared_masses.tolist()])
    values, vectors = mpmath.eighe(u * masses * u.H + potential)
    phases = [mpmath.expj(-2 * mpmath.mpf(units.OSCILLATION_PHASE) * length / mpmath.mpf(energy) * v) for v in values]
    evolution = vectors * mpmath.diag(phases) * vectors.H
    rows = [[float(abs(evolution[b, a]) ** 2) for b in range(count)] for a in range(count)]
    return torch.tensor(rows, dtype=torch.float64)


def _unitary(mixing: Mixing, antineutrino: bool) -> Any:
    """U with fifty digits: the product of the rotations, whose angles are those that float64 holds."""
    count = mixing.squared_masses.shape[-1]
    u = mpmath.eye(count)
    for rotation in mixing.factors():
        i, j = rotation.first - 1, rotation.second - 1
        sin2 = mpmath.mpf(float(rotation.sin2_theta))
        s, c = mpmath.sqrt(sin2), mpmath.sqrt(1 - sin2)
        delta = mpmath.mpf(float(rotation.delta)) * (-1 if antineutrino else 1)
        factor = mpmath.eye(count)
        factor[i, i] = factor[j, j] = c
        factor[i, j], factor[j, i] = s * mpmath.expj(-delta), -s * mpmath.expj(delta)
        u = factor * u
    return u


@pytest.mark.parametrize("name", MIXINGS)
@pytest.mark.parametrize("antineutrino", [False, True])
def test_constant_density_to_fifty_digits(name: str, antineutrino: bool) -> None:
    mixing = mixing_of(MIXINGS[name])
    energy = torch.tensor(ENERGIES, dtype=torch.float64)
    for slab in SLABS:
        length, density, fraction = slab
        given = matter_probability(
            mixing, energy, length, density, electron_fraction=fraction, antineutrino=antineutrino
        )
        expected = torch.stack([digits(name, e, slab, antineutrino) for e in ENERGIES])
        torch.testing.assert_close(given, expected, rtol=0, atol=1e-9 if "four" in name else 1e-11)
        assert (given.sum(-1) - 1.0).abs().max() < 1e-11


def test_resonances_to_fifty_digits() -> None:
    """Where two eigenvalues come closest: the 1-3 resonance, and one of a nearly decoupled sterile state."""
    values = ACTIVE | {"dm2_31": 2.5e-3, "dm2_41": 0.9, "sin2_theta14": 1e-14, "sin2_theta24": 1e-10}
    MIXINGS["resonance"] = values
    slab = (12_742.0, 13.0, 0.4656)
    per_gev = 2e9 * MATTER_POTENTIAL * slab[1] * slab[2]
    three = 2.5e-3 * (1.0 - 2.0 * 0.0217) / per_gev
    sterile = 0.9 / (per_gev * (1.0 - (1.0 - slab[2]) / (2.0 * slab[2])))
    for centre in (three, sterile):
        for shift in (0.0, 1e-12, 1e-9, 1e-6, 1e-3):
            energy = centre * (1.0 + shift)
            given = matter_probability(mixing_of(values), energy, slab[0], slab[1], electron_fraction=slab[2])
            torch.testing.assert_close(given, digits("resonance", energy, slab, False), rtol=0, atol=1e-9)


def test_no_density_is_vacuum() -> None:
    energy = torch.logspace(-1, 2, 50, dtype=torch.float64)
    for name, values in MIXINGS.items():
        mixing = mixing_of(values)
        vacuum = probability(mixing, energy, 1300.0)
        tolerance = 1e-10 if "four" in name else 1e-12
        torch.testing.assert_close(matter_probability(mixing, energy, 1300.0, 0.0), vacuum, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", ["three", "four inverted"])
def test_channels_are_parts_of_all(name: str) -> None:
    mixing, energy = mixing_of(MIXINGS[name]), torch.logspace(-1, 2, 31, dtype=torch.float64)
    everything = matter_probability(mixing, energy, 1300.0, 2.8)
    for a, initial in enumerate(mixing.flavors):
        row = matter_probability(mixing, energy, 1300.0, 2.8, initial=initial)
        torch.testing.assert_close(row, everything[:, a], rtol=0, atol=1e-12)
        for b, final in enumerate(mixing.flavors):
            one = matter_probability(mixing, energy, 1300.0, 2.8, initial=initial, final=final)
            torch.testing.assert_close(one, everything[:, a, b], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["three", "three inverted", "four", "four inverted"])
@pytest.mark.parametrize("antineutrino", [False, True])
def test_identical_slabs_are_one(name: str, antineutrino: bool) -> None:
    mixing, energy = mixing_of(MIXINGS[name]), torch.tensor(ENERGIES, dtype=torch.float64)
    lengths = torch.tensor([0.0, 1000.0, 4000.0, 3.0, 7739.0], dtype=torch.float64)
    options: dict[str, Any] = {"antineutrino": antineutrino, "electron_fraction": 0.47}
    slabs = slabs_probability(mixing, energy, lengths, torch.tensor([11.0]), **options)
    whole = matter_probability(mixing, energy, 12_742.0, 11.0, **options)
    torch.testing.assert_close(slabs, whole, rtol=0, atol=1e-9 if "four" in name else 1e-11)
    assert (slabs.sum(-1) - 1.0).abs().max() < 1e-11


def test_slabs_are_the_product_of_their_evolutions() -> None:
    """Different densities and electron fractions, in order: (2, then 1) is not (1, then 2)."""
    mixing = mixing_of(MIXINGS["four"])
    slabs = [(500.0, 2.7, 0.49), (3000.0, 11.0, 0.466), (800.0, 4.0, 0.5)]
    energy = 3.3
    u, product = mixing.pmns, torch.eye(4, dtype=torch.complex128)
    for length, density, fraction in slabs:
        v = torch.diag(torch.tensor([1.0, 0.0, 0.0, (1 - fraction) / (2 * fraction)], dtype=torch.complex128))
        h = (u * mixing.squared_masses) @ u.mH + 2e9 * energy * MATTER_POTENTIAL * density * fraction * v
        product = torch.linalg.matrix_exp(-2j * units.OSCILLATION_PHASE * length / energy * h) @ product
    lengths, densities, fractions = (torch.tensor(c, dtype=torch.float64) for c in zip(*slabs, strict=True))
    given = slabs_probability(mixing, energy, lengths, densities, electron_fraction=fractions)
    torch.testing.assert_close(given, product.abs().square().mT, rtol=0, atol=1e-11)
    back = slabs_probability(mixing, energy, lengths.flip(0), densities.flip(0), electron_fraction=fractions.flip(0))
    assert (back - given).abs().max() > 1e-4
    nu2 = slabs_probability(mixing, energy, lengths, densities, electron_fraction=fractions, initial="nu2")
    torch.testing.assert_close(nu2, (product @ u[:, 1]).abs().square(), rtol=0, atol=1e-11)


def test_antineutrinos_flip_the_potential_and_conjugate() -> None:
    """CPT with reversed matter: antineutrinos are neutrinos of conjugate mixing in matter of negative density."""
    mixing = mixing_of(MIXINGS["three"])
    conjugate = ThreeFlavor(**(MIXINGS["three"] | {"delta_cp": -1.2, "dm2_31": -2.5e-3, "dm2_21": -7.5e-5}))
    bar = matter_probability(mixing, 2.0, 1300.0, 2.8, antineutrino=True)
    # exp(-i (H* - V) t) is the conjugate of exp(-i (-H + V) t)
    flipped = matter_probability(conjugate, 2.0, 1300.0, 2.8, antineutrino=False)
    reference = ThreeFlavor(**(MIXINGS["three"] | {"dm2_31": -2.5e-3, "dm2_21": -7.5e-5}))
    torch.testing.assert_close(matter_probability(reference, 2.0, 1300.0, 2.8), bar, rtol=0, atol=1e-13)
    assert (flipped - bar).abs().max() > 1e-3


def test_two_and_five_flavors_take_the_general_way() -> None:
    two = NFlavor(rotations=[Rotation(1, 2, 0.1)], dm2_k1=[2.5e-3])
    energy, length, density = 3.0, 1300.0, 2.8
    x = 2e9 * energy * MATTER_POTENTIAL * density * 0.5
    gap = math.hypot(2.5e-3 * 0.8 - x, 2.5e-3 * 0.6)
    expected = (2.5e-3 * 0.6 / gap) ** 2 * math.sin(units.OSCILLATION_PHASE * gap * length / energy) ** 2
    given = matter_probability(two, energy, length, density, initial="e", final="mu")
    assert given.item() == pytest.approx(expected, abs=1e-13)
    rotations = [Rotation(i, j, 0.05 * i, 0.3 * j) for j in range(2, 6) for i in range(1, j)]
    five = NFlavor(rotations=rotations, dm2_k1=[7.5e-5, 2.5e-3, 0.5, 1.3])
    total = matter_probability(five, torch.linspace(0.5, 5.0, 7, dtype=torch.float64), 1300.0, 2.8).sum(-1)
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-11)


def test_nonstandard_interactions_are_potentials() -> None:
    mixing, energy, length, density = mixing_of(MIXINGS["four"]), 8.0, 9000.0, 4.5
    epsilon = nonstandard({"ee": 0.2, "emu": 0.05 + 0.02j, "etau": -0.1j, "mutau": 0.03, "tautau": -0.15})
    for antineutrino in (False, True):
        u = mixing.pmns.conj() if antineutrino else mixing.pmns
        v = torch.zeros(4, 4, dtype=torch.complex128)
        v[:3, :3] = epsilon.conj() if antineutrino else epsilon
        v = v + torch.diag(torch.tensor([1.0, 0.0, 0.0, 0.5], dtype=torch.complex128))
        x = (-1 if antineutrino else 1) * 2e9 * energy * MATTER_POTENTIAL * density * 0.5
        h = (u * mixing.squared_masses) @ u.mH + x * v
        expected = torch.linalg.matrix_exp(-2j * units.OSCILLATION_PHASE * length / energy * h).abs().square().mT
        given = matter_probability(mixing, energy, length, density, epsilon=epsilon, antineutrino=antineutrino)
        torch.testing.assert_close(given, expected, rtol=0, atol=1e-11)
    assert (given - matter_probability(mixing, energy, length, density, antineutrino=True)).abs().max() > 1e-2


def test_batches_of_parameters_equal_one_at_a_time() -> None:
    depth = torch.linspace(0.01, 0.2, 7, dtype=torch.float64).reshape(7, 1, 1)
    energy = torch.linspace(0.5, 9.0, 4001, dtype=torch.float64)
    baseline = torch.tensor([300.0, 1300.0, 9000.0], dtype=torch.float64)[:, None]
    batched = matter_probability(FourFlavor(**(MIXINGS["four"] | {"sin2_theta14": depth})), energy, baseline, 3.0)
    assert batched.shape == (7, 3, 4001, 4, 4)
    for lane in (0, 3, 6):
        single = FourFlavor(**(MIXINGS["four"] | {"sin2_theta14": depth[lane].item()}))
        expected = matter_probability(single, energy, baseline, 3.0)
        torch.testing.assert_close(batched[lane], expected, rtol=0, atol=1e-11)


def test_nan_lanes_stay_nan_and_leave_the_others() -> None:
    depth = torch.tensor([0.01, math.nan, 0.03], dtype=torch.float64)
    for mixing in (ThreeFlavor(sin2_theta13=depth, dm2_31=2.5e-3), FourFlavor(**(MIXINGS["four"] | {"dm2_41": depth}))):
        given = matter_probability(mixing, 3.0, 1.3e3, 2.8, initial="mu", final="e")
        assert torch.isnan(given).tolist() == [False, True, False]


def test_ten_million_points_stay_below_one_gigabyte() -> None:
    program = (
        "import resource, torch; torch.set_num_threads(1)\n"
        "from nuppl.physics.oscillation import *\n"
        "mixing = ThreeFlavor(sin2_theta13=0.02, dm2_31=2.5e-3)\n"
        "e = torch.linspace(1.0, 9.0, {n}, dtype=torch.float64)\n"
        "matter_probability(mixing, e[:100], 1300.0, 2.8, initial='mu', final='e')\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "matter_probability(mixing, e, 1300.0, 2.8, initial='mu', final='e')\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / {n})"
    )
    # kilobytes a point at a million points: what scales does so linearly
    done = subprocess.run(
        [sys.executable, "-c", program.format(n=1_000_000)], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) * 1e7 < 1e6


def test_single_precision_on_request_is_the_rounded_result() -> None:
    mixing, energy = mixing_of(MIXINGS["four"]), torch.tensor(ENERGIES, dtype=torch.float64)
    for function in (matter_probability, probability):
        arguments = (mixing, energy, 1300.0) + ((2.8,) if function is matter_probability else ())
        single = function(*arguments, dtype=torch.float32)
        assert single.dtype == torch.float32
        assert (single.double() - function(*arguments)).abs().max() <= 6e-8


@pytest.mark.parametrize("name", ["three", "three inverted", "four", "four inverted"])
@pytest.mark.parametrize("antineutrino", [False, True])
def test_nu_osc_prob_exact_agrees(name: str, antineutrino: bool) -> None:
    """NuOscProbExact (Bustamante, arXiv:1904.12391) on the same Hamiltonian."""
    mixing = mixing_of(MIXINGS[name])
    count = mixing.squared_masses.shape[-1]
    module = pytest.importorskip(f"oscprob{count}nu", reason="the optional extra 'peers' is not installed")
    u = mixing.pmns.conj() if antineutrino else mixing.pmns
    vacuum = (u * mixing.squared_masses) @ u.mH
    # at 0.5 GeV NuOscProbExact is 1e-9 from us in 3+1, where fifty digits (above) agree with us to 4e-11
    for energy in (3.0, 30.0) if count == 4 else (0.5, 3.0, 30.0):
        x = (-1 if antineutrino else 1) * 2e9 * energy * MATTER_POTENTIAL * 4.5 * 0.5
        hamiltonian = vacuum + x * torch.diag(torch.tensor([1.0, 0.0, 0.0, 0.5][:count], dtype=torch.complex128))
        length = 2.0 * units.OSCILLATION_PHASE * 3000.0 / energy
        function = getattr(module, f"probabilities_{count}nu")
        expected = torch.tensor(function(hamiltonian.numpy(), length), dtype=torch.float64).reshape(count, count)
        given = matter_probability(mixing, energy, 3000.0, 4.5, antineutrino=antineutrino)
        torch.testing.assert_close(given, expected, rtol=0, atol=1e-9)
