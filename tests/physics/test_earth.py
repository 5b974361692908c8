"""The Earth: its density, paths through it, convergence, and a path of which the result is known."""

from __future__ import annotations

import math

import pytest
import torch

from nuppl.physics.earth import PREM, Earth, Shell, earth_probability, earth_slabs, path_length, profile_probability
from nuppl.physics.oscillation import FourFlavor, ThreeFlavor, matter_probability

MIXING = ThreeFlavor(sin2_theta13=0.0222, dm2_31=2.5e-3)
ENERGY = torch.logspace(0.0, 2.0, 9, dtype=torch.float64)


def test_mass_of_the_earth_is_that_of_the_model() -> None:
    """PREM was fitted to a mass of 5.974e24 kg."""
    radius = torch.linspace(0.0, 6371.0, 400_001, dtype=torch.float64)
    mass = torch.trapezoid(4.0 * math.pi * radius.square() * PREM.density(radius), radius) * 1e12
    assert mass.item() == pytest.approx(5.974e24, rel=1e-3)


def test_slabs_add_up_to_the_path_and_its_column() -> None:
    cosine = torch.linspace(-1.0, 1.0, 41, dtype=torch.float64)
    for depth in (0.0, 2.0):
        lengths, densities, _ = earth_slabs(cosine, 20.0, depth, PREM, 6)
        assert (lengths >= 0.0).all()
        length = path_length(cosine, 20.0, depth)
        torch.testing.assert_close(lengths.sum(-1), length, rtol=1e-11, atol=1e-9)
        for lane in (0, 7, 15, 40):
            inner, c = 6371.0 - depth, cosine[lane]
            x = torch.linspace(0.0, length[lane].item(), 400_001, dtype=torch.float64)
            radius = (inner**2 + x.square() + 2.0 * inner * x * c).clamp_min(0.0).sqrt()
            column = torch.trapezoid(PREM.density(radius), x)
            assert (lengths * densities).sum(-1)[lane].item() == pytest.approx(column.item(), rel=1e-4, abs=0.05)


@pytest.mark.parametrize("cosine", [-1.0, -0.85, -0.5, -0.1, 0.4])
def test_fourth_order_convergence(cosine: float) -> None:
    fine = earth_probability(MIXING, ENERGY, cosine, steps=32)
    errors = [(earth_probability(MIXING, ENERGY, cosine, steps=s) - fine).abs().max().item() for s in (8, 16)]
    assert errors[0] < 5e-6 and errors[1] < max(errors[0] / 10.0, 1e-12)
    assert (fine.sum(-1) - 1.0).abs().max() < 1e-11


def test_a_homogeneous_earth_is_constant_density() -> None:
    ball = Earth((Shell(3000.0, (5.0,), 0.5), Shell(6371.0, (5.0,), 0.5)))
    four = FourFlavor(sin2_theta13=0.0222, dm2_31=2.5e-3, sin2_theta14=0.02, sin2_theta24=0.02, dm2_41=1.0)
    for mixing, tolerance in ((MIXING, 1e-12), (four, 1e-10)):
        given = earth_probability(mixing, ENERGY, -0.95, production_height=0.0, earth=ball)
        expected = matter_probability(mixing, ENERGY, 2.0 * 6371.0 * 0.95, 5.0)
        torch.testing.assert_close(given, expected, rtol=0, atol=tolerance)


def test_profiles_against_many_slabs_and_gradients_through_them() -> None:
    slope = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)

    def appearance(value: torch.Tensor, steps: int) -> torch.Tensor:
        edges = torch.linspace(0.0, 3000.0, steps + 1, dtype=torch.float64)
        return profile_probability(
            MIXING, 3.0, lambda x: 3.0 + value * (x / 1000.0).square(), edges, initial="mu", final="e"
        )

    assert abs((appearance(slope, 8) - appearance(slope, 200)).item()) < 1e-6
    assert torch.autograd.gradcheck(lambda v: appearance(v, 4), slope, eps=1e-6, atol=1e-8)


def test_batches_of_zenith_and_energy_equal_one_at_a_time() -> None:
    cosine = torch.tensor([-1.0, -0.3, 0.7], dtype=torch.float64)[:, None]
    batch = earth_probability(MIXING, ENERGY, cosine, initial="mu", steps=3)
    assert batch.shape == (3, 9, 3)
    for lane in range(3):
        single = earth_probability(MIXING, ENERGY, cosine[lane].item(), initial="mu", steps=3)
        torch.testing.assert_close(batch[lane], single, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"cos_zenith": 1.1}, r"cos_zenith: expected values in \[-1, 1\], got 1.1"),
        ({"production_height": -1.0}, "production_height: expected values from 0, got -1"),
        ({"depth": -1.0}, "depth: expected values in"),
        ({"steps": 0}, "steps: expected at least 1, got 0"),
        ({"energy": 0.0}, "energy: expected values above 0, got 0"),
    ],
)
def test_bad_arguments_are_refused_by_name(arguments: dict[str, float], message: str) -> None:
    good = {"energy": 3.0, "cos_zenith": -0.5}
    with pytest.raises(ValueError, match=message):
        earth_probability(MIXING, **(good | arguments))  # type: ignore[arg-type]


def test_bad_edges_are_refused() -> None:
    with pytest.raises(ValueError, match="edges: expected at least two ascending distances"):
        profile_probability(MIXING, 3.0, lambda x: x, [3.0, 1.0])
    with pytest.raises(ValueError, match="density: expected values from 0"):
        profile_probability(MIXING, 3.0, lambda x: -x, [1.0, 3.0])
