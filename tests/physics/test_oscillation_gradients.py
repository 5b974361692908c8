"""Gradients of vacuum oscillation against finite differences, inside and on every boundary of the mixing."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from nuppl import units
from nuppl.physics.oscillation import FourFlavor, Mixing, ThreeFlavor, probability


def test_gradients_in_chunks_equal_those_of_the_parts() -> None:
    energy = torch.linspace(1.8, 9.0, 40_009, dtype=torch.float64)

    def gradient(energies: Tensor) -> Tensor:
        dm2 = torch.tensor(2.5e-3, dtype=torch.float64, requires_grad=True)
        curve = probability(ThreeFlavor(sin2_2theta13=0.1, dm2_31=dm2), energies, 1.6e3, initial="e", final="mu")
        return torch.autograd.grad(curve.sum(), dm2)[0]

    parts = gradient(energy[:20_000]) + gradient(energy[20_000:])
    torch.testing.assert_close(gradient(energy), parts, rtol=1e-11, atol=0)


NAMES = ("sin2_2theta13", "dm2_31", "sin2_theta12", "sin2_theta23", "dm2_21", "delta_cp")
POINT = (0.085, 2.5, 0.31, 0.55, 7.5, 1.2)  # splittings in 1e-3 and 1e-5 eV^2, so that all steps are alike
SCALES = (1.0, 1e-3, 1.0, 1.0, 1e-5, 1.0)
STERILE = ("sin2_2theta14", "dm2_41", "sin2_theta24", "sin2_theta34", "delta_14", "delta_24")


def three(*values: Tensor) -> ThreeFlavor:
    return ThreeFlavor(**{name: value * scale for name, value, scale in zip(NAMES, values, SCALES, strict=True)})


def four(*values: Tensor) -> FourFlavor:
    active = {name: value * scale for name, value, scale in zip(NAMES, values[:6], SCALES, strict=True)}
    return FourFlavor(**active, **dict(zip(STERILE, values[6:], strict=True)))


def leaves(*values: float) -> list[Tensor]:
    return [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in values]


@pytest.mark.parametrize("antineutrino", [False, True])
@pytest.mark.parametrize("build, values", [(three, POINT), (four, (*POINT, 0.3, 0.02, 0.08, 0.15, 0.6, 2.0))])
def test_gradients_against_finite_differences(
    build: Callable[..., Mixing], values: tuple[float, ...], antineutrino: bool
) -> None:
    def channels(energy: Tensor, baseline: Tensor, *parameters: Tensor) -> Tensor:
        return probability(build(*parameters), energy, baseline, antineutrino=antineutrino)

    assert torch.autograd.gradcheck(channels, leaves(3.0, 1_000.0, *values), eps=1e-6, atol=1e-6, rtol=1e-4)


def test_second_derivatives_against_finite_differences() -> None:
    def survival(*parameters: Tensor) -> Tensor:
        return probability(four(*parameters), 3.0, 1_000.0, initial="e", final="e")

    values = leaves(*POINT, 0.3, 0.02, 0.08, 0.15, 0.6, 2.0)
    used = [value.detach() if index in (3, 5, 8, 9, 10, 11) else value for index, value in enumerate(values)]
    assert torch.autograd.gradgradcheck(survival, used, eps=1e-6, atol=1e-6, rtol=1e-4)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")  # torch's own use of it
def test_function_transforms_pass_through() -> None:
    """torch.func.hessian, forward over reverse, of one channel that interferes."""

    def appearance(parameters: Tensor) -> Tensor:
        return probability(three(*parameters.unbind()), 3.0, 1_000.0, initial="mu", final="e")

    point = torch.tensor(POINT, dtype=torch.float64)
    hessian = torch.func.hessian(appearance)(point)
    steps = 1e-5 * torch.eye(len(POINT), dtype=torch.float64)
    gradient = torch.func.grad(appearance)
    expected = torch.stack([(gradient(point + step) - gradient(point - step)) / 2e-5 for step in steps])
    torch.testing.assert_close(hessian, expected, rtol=1e-5, atol=1e-8)


def survival_gradient(**parameters: float) -> dict[str, float]:
    tensors = {name: torch.tensor(value, dtype=torch.float64, requires_grad=True) for name, value in parameters.items()}
    fixed = {"dm2_31": 2.5e-3, "dm2_41": 0.02, "dm2_21": 7.5e-5}
    curve = probability(FourFlavor(**(fixed | tensors)), 3.0, 1.6e3, initial="e", final="e")
    gradients = torch.autograd.grad(curve, list(tensors.values()), allow_unused=True)
    return {name: 0.0 if g is None else g.item() for name, g in zip(tensors, gradients, strict=True)}


def one_sided(step: float, name: str, **parameters: float) -> float:
    """Second-order difference that only steps to one side, away from a boundary."""
    fixed = {"dm2_31": 2.5e-3, "dm2_41": 0.02, "dm2_21": 7.5e-5}
    shifted = [parameters | {name: parameters[name] + k * step} for k in range(3)]
    y = [probability(FourFlavor(**(fixed | p)), 3.0, 1.6e3, initial="e", final="e").item() for p in shifted]
    return (-3.0 * y[0] + 4.0 * y[1] - y[2]) / (2.0 * step)


@pytest.mark.parametrize("name, step", [("sin2_theta12", 1e-5), ("sin2_2theta13", 1e-5), ("sin2_2theta14", 1e-5)])
def test_electron_survival_has_its_gradient_without_mixing(name: str, step: float) -> None:
    none = {"sin2_theta12": 0.0, "sin2_2theta13": 0.0, "sin2_2theta14": 0.0}
    for point in (none, none | {"sin2_2theta13": 0.085, "sin2_theta12": 0.3}, none | {"sin2_2theta14": 0.2}):
        if point[name] == 0.0:
            assert survival_gradient(**point)[name] == pytest.approx(one_sided(step, name, **point), abs=1e-8)


def test_survival_of_every_flavor_has_its_gradient_where_theta13_is_zero_and_alone() -> None:
    """With theta12 = 0 nothing interferes, so the sqrt-singular part must vanish and the regular one stay."""
    angle, heavy = leaves(0.0, 2.5e-3)
    mixing = ThreeFlavor(sin2_theta13=angle, dm2_31=heavy, sin2_theta12=0.0, dm2_21=0.0, sin2_theta23=0.5)
    sin2 = math.sin(units.OSCILLATION_PHASE * 2.5e-3 * 500.0) ** 2
    for flavor, expected in (("e", -4.0 * sin2), ("mu", 0.0)):
        gradient = torch.autograd.grad(probability(mixing, 1.0, 500.0, initial=flavor, final=flavor), angle)[0]
        assert gradient.item() == pytest.approx(expected, abs=1e-12)
    gradient = torch.autograd.grad(probability(mixing, 1.0, 500.0, initial="mu", final="e"), angle)[0]
    assert gradient.item() == pytest.approx(2.0 * sin2, abs=1e-12)


def test_gradient_at_maximal_mixing_keeps_the_part_linear_in_sin2_2theta14() -> None:
    """Short baseline: P = 1 - sin2_2theta14 sin^2(phi_41), whose gradient is finite although theta14's is not."""
    doubled = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    mixing = FourFlavor(sin2_theta13=0.0, dm2_31=0.0, dm2_21=0.0, sin2_2theta14=doubled, dm2_41=1.0)
    curve = probability(mixing, 4.0, 5.0, initial="e", final="e")
    expected = -(math.sin(units.OSCILLATION_PHASE * 1.25) ** 2)
    assert torch.autograd.grad(curve, doubled)[0].item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("flavors", [{}, {"initial": "e", "final": "e"}, {"initial": "mu", "final": "mu"}])
def test_no_gradient_is_nan_on_any_boundary(value: float, flavors: dict[str, Any]) -> None:
    names = ("sin2_theta12", "sin2_2theta13", "sin2_theta23", "sin2_2theta14", "sin2_theta24", "sin2_theta34")
    angles = dict(zip(names, leaves(*[value] * 6), strict=True))
    masses = dict(zip(("dm2_21", "dm2_31", "dm2_41"), leaves(0.0, 0.0, 0.0), strict=True))
    total = probability(FourFlavor(**angles, **masses), 3.0, 1.6e3, **flavors).sum()
    gradients = torch.autograd.grad(total, [*angles.values(), *masses.values()], allow_unused=True)
    assert all(gradient is None or bool(torch.isfinite(gradient)) for gradient in gradients)


def test_equal_masses_have_the_gradient_of_the_limit() -> None:
    """At dm2_31 = dm2_21 = 0, P = delta_ab - O(phi^2): every first derivative is zero, rounding apart."""
    masses = leaves(0.0, 0.0)
    curve = probability(ThreeFlavor(sin2_theta13=0.02, dm2_21=masses[0], dm2_31=masses[1]), 3.0, 1.6e3)[:, 0]
    assert [g.item() for g in torch.autograd.grad(curve.sum(), masses)] == pytest.approx([0.0, 0.0], abs=1e-12)
