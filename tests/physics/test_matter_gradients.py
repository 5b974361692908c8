"""Gradients of oscillation in matter: finite differences, boundaries, degeneracies, and both ways of computing them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from nuppl.physics.hamiltonian import Hamiltonian, potential_scale, time_scale
from nuppl.physics.oscillation import (
    FourFlavor,
    Mixing,
    ThreeFlavor,
    matter_probability,
    nonstandard,
    slabs_probability,
)
from nuppl.physics.spectral import evolution

ACTIVE = {"sin2_theta13": 0.0217, "sin2_theta12": 0.307, "sin2_theta23": 0.56, "delta_cp": 1.2, "dm2_21": 7.5e-5}
THREE = ACTIVE | {"dm2_31": 2.5e-3}
FOUR = THREE | {
    **{"sin2_theta14": 0.1, "sin2_theta24": 0.06, "sin2_theta34": 0.12, "delta_14": 0.7, "delta_24": 2.1},
    "dm2_41": 0.013,
}
UNITS = {"dm2_21": 1e-5, "dm2_31": 1e-3, "dm2_41": 1e-3}  # so that steps of finite differences are alike


def build(values: dict[str, Any]) -> Mixing:
    return FourFlavor(**values) if "dm2_41" in values else ThreeFlavor(**values)


def leaves(values: dict[str, float]) -> dict[str, Tensor]:
    return {
        name: torch.tensor(value / UNITS.get(name, 1.0), dtype=torch.float64, requires_grad=True)
        for name, value in values.items()
    }


def scaled(names: dict[str, Any], tensors: tuple[Tensor, ...]) -> Mixing:
    return build({name: tensor * UNITS.get(name, 1.0) for name, tensor in zip(names, tensors, strict=True)})


@pytest.mark.parametrize("values", [THREE, FOUR], ids=["three", "four"])
@pytest.mark.parametrize("antineutrino", [False, True])
def test_gradients_against_finite_differences(values: dict[str, float], antineutrino: bool) -> None:
    surroundings = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (4.0, 1.3, 2.8, 0.49)]

    def channels(energy: Tensor, length: Tensor, density: Tensor, fraction: Tensor, *parameters: Tensor) -> Tensor:
        return matter_probability(
            scaled(values, parameters),
            energy,
            length * 1000.0,
            density,
            electron_fraction=fraction,
            antineutrino=antineutrino,
        )

    inputs = (*surroundings, *leaves(values).values())
    assert torch.autograd.gradcheck(channels, inputs, eps=1e-6, atol=1e-7, rtol=1e-5)


def test_gradients_through_slabs_and_nonstandard_interactions() -> None:
    lengths = torch.tensor([0.5, 1.0, 0.2], dtype=torch.float64, requires_grad=True)
    densities = torch.tensor([2.5, 9.0, 0.0], dtype=torch.float64, requires_grad=True)
    coupling = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)

    def channels(length: Tensor, density: Tensor, epsilon: Tensor, *parameters: Tensor) -> Tensor:
        return slabs_probability(
            scaled(THREE, parameters),
            3.0,
            length * 1000.0,
            density,
            epsilon=nonstandard({"emu": epsilon, "ee": epsilon}),
        )

    inputs = (lengths, densities, coupling, *leaves(THREE).values())
    # a density of exactly zero steps to either side of it inside a slab, which only the checked front door refuses
    shifted = (lengths, (densities + 0.01).detach().requires_grad_(), *inputs[2:])
    assert torch.autograd.gradcheck(channels, shifted, eps=1e-6, atol=1e-7, rtol=1e-5)


def test_second_derivatives_against_finite_differences() -> None:
    def appearance(*parameters: Tensor) -> Tensor:
        return matter_probability(scaled(THREE, parameters), 2.0, 1300.0, 2.8, initial="mu", final="e")

    assert torch.autograd.gradgradcheck(appearance, tuple(leaves(THREE).values()), eps=1e-6, atol=1e-6, rtol=1e-4)


def test_gradients_of_a_batch_in_chunks_equal_those_of_its_lanes() -> None:
    energy = torch.linspace(0.5, 9.0, 20_011, dtype=torch.float64)

    def gradients(energies: Tensor) -> list[Tensor]:
        given = leaves(FOUR)
        mixing = scaled(FOUR, tuple(given.values()))
        total = matter_probability(mixing, energies, 1300.0, 2.8, initial="mu").square().sum()
        return list(torch.autograd.grad(total, list(given.values())))

    parts = [a + b for a, b in zip(gradients(energy[:9000]), gradients(energy[9000:]), strict=True)]
    for whole, part in zip(gradients(energy), parts, strict=True):
        torch.testing.assert_close(whole, part, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("values", [THREE, FOUR], ids=["three", "four"])
@pytest.mark.parametrize("gap", [0.0, 1e-14, 1e-9, 1e-7, 1e-6])
def test_gradients_where_masses_meet(values: dict[str, float], gap: float) -> None:
    """Masses 3 and 2 (or 4 and 3) at distances that take both methods; one gradient fits all."""
    name, other = ("dm2_41", "dm2_31") if "dm2_41" in values else ("dm2_31", "dm2_21")
    values = values | {name: values[other] * (1.0 + gap)}

    def gradients(build_with: float) -> list[Tensor]:
        given = leaves(values | {name: values[other] * (1.0 + build_with)})
        mixing = scaled(values, tuple(given.values()))
        curve = matter_probability(mixing, 2.0, 1300.0, 0.0, initial="mu", final="e")
        return list(torch.autograd.grad(curve, list(given.values())))

    for at_gap, at_zero in zip(gradients(gap), gradients(0.0), strict=True):
        torch.testing.assert_close(at_gap, at_zero, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("density", [0.0, 2.8])
def test_no_gradient_is_nan_on_any_boundary(value: float, density: float) -> None:
    names = ("sin2_theta12", "sin2_theta13", "sin2_theta23", "sin2_theta14", "sin2_theta24", "sin2_theta34")
    angles = {name: torch.tensor(value, dtype=torch.float64, requires_grad=True) for name in names}
    masses = {
        name: torch.tensor(0.0, dtype=torch.float64, requires_grad=True) for name in ("dm2_21", "dm2_31", "dm2_41")
    }
    given = [*angles.values(), *masses.values()]
    total = (
        matter_probability(FourFlavor(**angles, **masses), 3.0, 1300.0, density) * torch.arange(16).reshape(4, 4)
    ).sum()
    assert all(bool(torch.isfinite(g)) for g in torch.autograd.grad(total, given))


def test_electron_survival_has_its_gradient_without_mixing() -> None:
    """At theta13 = 0: P_ee = 1 - c sin2_theta13, c = 4 sin^2(phase) (dm2/gap)^2, for two flavors in matter."""

    def survival(sin2: Tensor) -> Tensor:
        mixing = ThreeFlavor(sin2_theta13=sin2, dm2_31=2.5e-3, sin2_theta12=0.0, dm2_21=7.5e-5)
        return matter_probability(mixing, 5.0, 3000.0, 4.5, initial="e", final="e")

    at_zero = torch.tensor(0.0, dtype=torch.float64, requires_grad=True)
    step = 1e-7
    expected = (survival(torch.tensor(step, dtype=torch.float64)) - 1.0) / step
    gradient = torch.autograd.grad(survival(at_zero), at_zero)[0]
    assert gradient.item() == pytest.approx(expected.item(), rel=1e-5)
    assert abs(expected.item()) > 0.1


def test_the_general_method_has_the_same_gradients() -> None:
    given = leaves(FOUR)
    mixing = scaled(FOUR, tuple(given.values()))
    fast = matter_probability(mixing, 2.0, 1300.0, 2.8)
    weights = torch.rand(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = torch.autograd.grad((fast * weights).sum(), list(given.values()), retain_graph=True)
    hamiltonian = Hamiltonian.of(mixing, antineutrino=False)._replace(chi=None, adjugate=None)
    two, length, density = (torch.tensor(v, dtype=torch.float64) for v in (2.0, 1300.0, 2.8))
    channels = [(a, b) for a in range(4) for b in range(4)]
    real, imaginary = hamiltonian.amplitudes(
        channels, potential_scale(two, density, 0.5, False), time_scale(two, length)
    )
    slow = (real.square() + imaginary.square()).reshape(4, 4)
    torch.testing.assert_close(slow, fast, rtol=0, atol=1e-12)
    for a, b in zip(torch.autograd.grad((slow * weights).sum(), list(given.values())), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


def test_the_general_method_against_finite_differences_at_a_degeneracy() -> None:
    generator = torch.Generator().manual_seed(3)
    vectors = torch.linalg.qr(torch.randn(4, 4, dtype=torch.complex128, generator=generator))[0]

    def channels(matrix: Tensor, time: Tensor) -> Tensor:
        return torch.view_as_real(evolution(0.5 * (matrix + matrix.mH), time))

    for values in ([1.0, 1.0, 2.0, 2.0], [1.0, 1.0, 1.0, 1.0], [0.0, 1.0, 1.0, 3.0]):
        matrix = (vectors * torch.tensor(values, dtype=torch.float64)) @ vectors.mH
        time = torch.tensor(1.7, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(channels, (matrix.requires_grad_(), time), eps=1e-6, atol=1e-7)
