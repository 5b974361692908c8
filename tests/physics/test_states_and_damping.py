"""Adiabatic conversion, averages, damping, decay, non-unitary mixing and reference values, against known limits."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from nuppl.physics import oscillation, reference
from nuppl.physics.oscillation import (
    FourFlavor,
    ThreeFlavor,
    adiabatic_weights,
    arriving,
    averaged_probability,
    damped_probability,
    probability,
    profile_probability,
)
from nuppl.units import OSCILLATION_PHASE

MIXING = ThreeFlavor(sin2_theta13=0.0222, dm2_31=2.5e-3)


def test_weights_in_vacuum_are_those_of_the_mixing() -> None:
    for mixing in (MIXING, ThreeFlavor(sin2_theta13=0.0222, dm2_31=-2.4e-3)):
        weights = adiabatic_weights(mixing, 0.01, 0.0)
        torch.testing.assert_close(weights, mixing.electron_weights, rtol=0, atol=1e-12)
        both = arriving(mixing, weights)
        torch.testing.assert_close(both, averaged_probability(mixing, initial="e"), rtol=0, atol=1e-12)


def test_a_supernova_sends_electron_neutrinos_out_as_the_heaviest_state() -> None:
    """The potential exceeds all splittings: nu3 (normal) or nu2 (inverted); antineutrinos nu1 or nu3."""
    inverted = ThreeFlavor(sin2_theta13=0.0222, dm2_31=-2.4e-3)
    for mixing, antineutrino, state in (
        *((MIXING, False, 2), (inverted, False, 1)),
        *((MIXING, True, 0), (inverted, True, 2)),
    ):
        weights = adiabatic_weights(mixing, 0.015, 1e11, antineutrino=antineutrino)
        assert weights[state].item() == pytest.approx(1.0, abs=1e-6)


def test_adiabatic_conversion_is_the_limit_of_a_slow_profile() -> None:
    """An exponential fall over many oscillation lengths, solved in steps, and a mean over energies."""
    mixing = ThreeFlavor(sin2_theta13=0.0222, dm2_31=2.5e-3, sin2_theta12=0.3)
    nodes = torch.linspace(-4.0, 4.0, 161, dtype=torch.float64)
    weights = torch.exp(-0.5 * nodes.square()) / torch.exp(-0.5 * nodes.square()).sum()
    energy = 0.01 * (1.0 + 0.02 * nodes)
    two = ThreeFlavor(sin2_theta13=0.0, dm2_31=2.5e-3, sin2_theta12=0.3, dm2_21=7.5e-5)
    edges = torch.linspace(0.0, 60_000.0, 1_001, dtype=torch.float64)
    solved = profile_probability(two, energy, lambda x: 100.0 * torch.exp(-x / 5_000.0), edges, initial="e", final="e")
    expected = arriving(two, adiabatic_weights(two, energy, 100.0), final="e")
    assert (weights * solved).sum().item() == pytest.approx((weights * expected).sum().item(), abs=5e-3)
    assert expected.max() < 0.42 < averaged_probability(mixing, initial="e", final="e").item()


def test_gradients_of_weights() -> None:
    def weights(sin2: Tensor, dm2: Tensor, density: Tensor) -> Tensor:
        mixing = ThreeFlavor(sin2_theta13=0.0222, dm2_31=2.5e-3, sin2_theta12=sin2, dm2_21=dm2 * 1e-5)
        return adiabatic_weights(mixing, 0.003, density)

    inputs = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (0.3, 7.5, 80.0)]
    assert torch.autograd.gradcheck(weights, inputs, eps=1e-6, atol=1e-7)


def test_averages_are_those_of_many_phases() -> None:
    four = FourFlavor(sin2_theta13=0.0222, dm2_31=2.5e-3, sin2_theta14=0.1, dm2_41=1.3)
    many = probability(four, torch.linspace(1.0, 2.0, 200_001, dtype=torch.float64), 1e9).mean(0)
    torch.testing.assert_close(averaged_probability(four), many, rtol=0, atol=5e-3)
    for initial, row in zip(four.flavors, averaged_probability(four), strict=True):
        torch.testing.assert_close(averaged_probability(four, initial=initial), row)
        torch.testing.assert_close(averaged_probability(four, final=initial), row)


@pytest.mark.parametrize("antineutrino", [False, True])
def test_without_damping_it_is_vacuum(antineutrino: bool) -> None:
    four = FourFlavor(sin2_theta13=0.0222, dm2_31=2.5e-3, sin2_theta14=0.1, sin2_theta24=0.1, dm2_41=1.3, delta_14=1.0)
    energy = torch.logspace(-1.0, 1.0, 21, dtype=torch.float64)
    given = damped_probability(four, energy, 1300.0, antineutrino=antineutrino)
    expected = probability(four, energy, 1300.0, antineutrino=antineutrino)
    torch.testing.assert_close(given, expected, rtol=0, atol=1e-11)


def test_a_spread_is_the_mean_over_a_gaussian() -> None:
    nodes = torch.linspace(-6.0, 6.0, 2_001, dtype=torch.float64)
    weights = torch.exp(-0.5 * nodes.square())
    spread = 0.05
    lengths = 1300.0 * (1.0 + spread * nodes)
    mean = (probability(MIXING, 1.0, lengths) * weights[:, None, None]).sum(0) / weights.sum()
    torch.testing.assert_close(damped_probability(MIXING, 1.0, 1300.0, spread=spread), mean, rtol=0, atol=1e-7)


def test_decoherence_and_decay() -> None:
    strong = damped_probability(MIXING, 1.0, 1300.0, decoherence=[10.0, 10.0, 10.0])
    torch.testing.assert_close(strong, averaged_probability(MIXING), rtol=0, atol=1e-12)
    rate = 1e-4
    lost = damped_probability(MIXING, 1.0, 1300.0, decay=[rate] * 3)
    survival = math.exp(-4.0 * OSCILLATION_PHASE * rate * 1300.0)
    torch.testing.assert_close(lost, survival * probability(MIXING, 1.0, 1300.0), rtol=0, atol=1e-12)
    assert (damped_probability(MIXING, 1.0, 1300.0, decay=[0.0, 0.0, rate]).sum(-1) < 1.0).all()


def test_mixing_that_is_not_unitary_is_seen_at_the_source() -> None:
    lower = torch.tensor([[0.99, 0.0, 0.0], [0.01j, 0.98, 0.0], [0.0, 0.02, 1.0]], dtype=torch.complex128)
    near = damped_probability(MIXING, 1.0, 0.0, nonunitarity=lower)
    torch.testing.assert_close(near, (lower @ lower.mH).abs().square(), rtol=0, atol=1e-14)
    same = damped_probability(MIXING, 1.0, 1300.0, nonunitarity=torch.eye(3))
    torch.testing.assert_close(same, probability(MIXING, 1.0, 1300.0), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"spread": -0.1}, "spread: expected values from 0"),
        ({"decoherence": [0.1]}, r"decoherence: expected shape \(\*, 3\)"),
        ({"decay": [0.1]}, r"decay: expected shape \(\*, 3\)"),
        ({"decay": [-0.1, 0.0, 0.0]}, "decay: expected values from 0"),
        ({"nonunitarity": torch.ones(3, 3)}, "nonunitarity: expected lower triangular"),
    ],
)
def test_bad_damping_is_refused_by_name(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        damped_probability(MIXING, 1.0, 1300.0, **arguments)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="weights: expected shape"):
        arriving(MIXING, torch.ones(2))


def test_reference_values_and_conversions() -> None:
    for name, fit in oscillation.REFERENCES.items():
        assert ("inverted" in name) == (fit.dm2_31 < 0.0)
        dm2_32 = oscillation.dm2_32_from_dm2_31(fit.dm2_31, fit.dm2_21)
        assert oscillation.dm2_31_from_dm2_32(dm2_32, fit.dm2_21) == pytest.approx(fit.dm2_31, rel=1e-15)
        effective = oscillation.dm2_ee_from_dm2_31(fit.dm2_31, fit.dm2_21, fit.sin2_theta12)
        back = oscillation.dm2_31_from_dm2_ee(effective, fit.dm2_21, fit.sin2_theta12)
        assert back == pytest.approx(fit.dm2_31, rel=1e-15)
    wrong = {"mirrored": oscillation.NUFIT_6_0._replace(dm2_31=-2.5e-3)}
    with pytest.raises(ValueError, match="mirrored: expected"):
        reference._checked(wrong)
