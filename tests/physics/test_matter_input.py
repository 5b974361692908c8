"""What oscillation in matter accepts and refuses, in pairs."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from nuppl.physics.oscillation import ThreeFlavor, matter_probability, nonstandard, slabs_probability

MIXING = ThreeFlavor(sin2_theta13=0.02, dm2_31=2.5e-3)
SKEW = torch.tensor([[0.0, 0.1, 0.0], [0.2, 0.0, 0.0], [0.0, 0.0, 0.0]], dtype=torch.complex128)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"energy": 0.0}, "energy: expected values above 0, got 0"),
        ({"energy": torch.tensor([1.0, -2.0])}, "energy: expected values above 0, got -2"),
        ({"baseline": -1.0}, "baseline: expected values from 0, got -1"),
        ({"density": torch.tensor([2.0, -3.0])}, "density: expected values from 0, got -3"),
        ({"electron_fraction": 1.2}, r"electron_fraction: expected values in \[1e-06, 1\], got 1.2"),
        ({"electron_fraction": 0.0}, "electron_fraction: expected values in"),
        ({"initial": "electron"}, "unknown initial flavor 'electron'"),
        ({"initial": "nu4"}, "unknown initial flavor 'nu4'"),
        ({"final": "nu1"}, "unknown final flavor 'nu1'"),
        ({"epsilon": SKEW}, "epsilon: expected a Hermitian matrix"),
        ({"epsilon": torch.eye(4)}, r"epsilon: expected shape \(\*, 3, 3\), got \(4, 4\)"),
    ],
)
def test_bad_arguments_are_refused_by_name(arguments: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {"energy": 4.0, "baseline": 1300.0, "density": 2.8, "initial": "nu2"}
    assert 0.0 < matter_probability(MIXING, **good, final="e").item() < 1.0
    with pytest.raises(ValueError, match=message):
        matter_probability(MIXING, **(good | arguments))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"lengths": 5.0}, r"lengths: expected shape \(\*, K\)"),
        ({"densities": 5.0}, r"densities: expected shape \(\*, K\)"),
        ({"lengths": [1.0, -1.0]}, "lengths: expected values from 0, got -1"),
        ({"densities": [1.0, -1.0]}, "densities: expected values from 0, got -1"),
        ({"densities": [1.0, 1.0, 1.0]}, r"lengths, densities, electron_fraction: expected as many slabs .* 2, 3, 1"),
        ({"final": "x"}, "unknown final flavor 'x'"),
    ],
)
def test_bad_slabs_are_refused_by_name(arguments: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {"energy": [1.0, 2.0, 3.0], "lengths": [100.0, 200.0], "densities": [2.8]}
    assert slabs_probability(MIXING, **good, initial="mu").shape == (3, 3)
    with pytest.raises(ValueError, match=message):
        slabs_probability(MIXING, **(good | arguments))


def test_elements_of_nonstandard_interactions() -> None:
    epsilon = nonstandard({"mutau": torch.tensor([0.1 + 0.2j, 0.0]), "ee": 0.3})
    assert epsilon.shape == (2, 3, 3)
    torch.testing.assert_close(epsilon, epsilon.mH)
    with pytest.raises(ValueError, match="unknown element flavor 'mue'"):
        nonstandard({"mue": 0.1})
    with pytest.raises(ValueError, match="mumu: expected a real diagonal element"):
        nonstandard({"mumu": 0.1j})
