"""What oscillation accepts and refuses, in pairs, and the values and names it falls back on."""

import math
from typing import Any

import pytest
import torch

from nuppl.physics import oscillation
from nuppl.physics.oscillation import FourFlavor, NFlavor, Rotation, ThreeFlavor, probability

THREE = {"sin2_2theta13": 0.085, "dm2_31": 2.5e-3, "sin2_theta23": 0.55, "delta_cp": 1.2}
FOUR = THREE | {"sin2_2theta14": 0.3, "dm2_41": 0.7, "sin2_theta24": 0.08, "sin2_theta34": 0.15}

BAD: list[tuple[dict[str, Any], str]] = [
    ({"sin2_2theta13": 0.1}, "dm2_31 and dm2_32: expected exactly one"),
    ({"sin2_2theta13": 0.1, "dm2_31": 2.5e-3, "dm2_32": 2.4e-3}, "dm2_31 and dm2_32: expected exactly one"),
    ({"dm2_31": 2.5e-3}, "sin2_2theta13 and sin2_theta13: expected exactly one"),
    ({"sin2_2theta13": 0.1, "sin2_theta13": 0.02, "dm2_31": 2.5e-3}, "sin2_2theta13 and sin2_theta13"),
    ({"sin2_2theta13": 1.01, "dm2_31": 2.5e-3}, "sin2_2theta13: expected values in"),
    ({"sin2_2theta13": 0.1, "dm2_31": 2.5e-3, "sin2_theta12": -0.1}, "sin2_theta12: expected values in"),
    ({"sin2_2theta13": 0.1, "dm2_31": 2.5e-3, "sin2_theta23": torch.tensor([0.5, 1.5, math.nan])}, "got 1.5"),
]


@pytest.mark.parametrize("parameters, message", BAD)
def test_bad_parameters_are_refused_by_name(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ThreeFlavor(**parameters)
    ThreeFlavor(sin2_2theta13=1.0 + 1e-15, dm2_31=2.5e-3, sin2_theta23=torch.tensor([0.0, 1.0, math.nan]))


@pytest.mark.parametrize("name", ["sin2_2theta14", "sin2_theta24", "sin2_theta34"])
def test_bad_sterile_mixing_is_refused_by_name(name: str) -> None:
    FourFlavor(**(FOUR | {name: 1.0}))
    with pytest.raises(ValueError, match=f"{name}: expected values in"):
        FourFlavor(**(FOUR | {name: 1.2}))


def test_sterile_mixing_is_given_once() -> None:
    with pytest.raises(ValueError, match="sin2_2theta14 and sin2_theta14: expected exactly one"):
        FourFlavor(**FOUR, sin2_theta14=0.1)


def test_bad_rotations_are_refused() -> None:
    with pytest.raises(ValueError, match="R14 needs 4 states, dm2_k1 defines 3"):
        NFlavor(rotations=[Rotation(1, 4, 0.1)], dm2_k1=[7.5e-5, 2.5e-3])
    with pytest.raises(ValueError, match="1 <= first < second, got 2, 1"):
        Rotation(2, 1, 0.1)
    with pytest.raises(ValueError, match="sin2_theta of R12: expected values in"):
        NFlavor(rotations=[Rotation(1, 2, 1.5)], dm2_k1=[1.0])
    with pytest.raises(ValueError, match="at least two flavors"):
        NFlavor(rotations=[], dm2_k1=[])


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"energy": 0.0}, "energy: expected values above 0, got 0"),
        ({"energy": torch.tensor([1.0, -2.0])}, "energy: expected values above 0, got -2"),
        ({"baseline": -1.0}, "baseline: expected values from 0, got -1"),
        ({"baseline": torch.tensor([math.nan, -3.0])}, "baseline: expected values from 0, got -3"),
        ({"initial": "electron"}, "unknown initial flavor 'electron'.*expected one of e, mu, tau"),
        ({"final": "s"}, "unknown final flavor 's'.*expected one of e, mu, tau"),
    ],
)
def test_bad_arguments_are_refused_by_name(arguments: dict[str, Any], message: str) -> None:
    mixing = ThreeFlavor(**THREE)
    good: dict[str, Any] = {"energy": 4.0, "baseline": 0.0}
    assert probability(mixing, **good, initial="e", final="e").item() == 1.0
    with pytest.raises(ValueError, match=message):
        probability(mixing, **(good | arguments))


def test_flavor_names_by_number_of_states() -> None:
    def names(count: int) -> tuple[str, ...]:
        return NFlavor(rotations=[], dm2_k1=[0.1] * (count - 1)).flavors

    assert [names(count) for count in (2, 3, 4, 5)] == [
        ("e", "mu"),
        ("e", "mu", "tau"),
        ("e", "mu", "tau", "s"),
        ("e", "mu", "tau", "s1", "s2"),
    ]
    assert probability(FourFlavor(**FOUR), 4.0, 10.0, initial="s", final="tau").shape == ()


def test_defaults_are_those_of_the_named_global_fit() -> None:
    fit = oscillation.NUFIT_6_0
    assert fit.edition.startswith("NuFIT 6.0")
    default = ThreeFlavor(sin2_theta13=fit.sin2_theta13, dm2_31=fit.dm2_31)
    for name in ("sin2_theta12", "sin2_theta23", "delta_cp", "dm2_21"):
        assert getattr(default, name) == getattr(fit, name)
