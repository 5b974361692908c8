"""Templates in the splitting, and averages of fast phases."""

import math

import pytest
import torch

from nuppl.physics import filon, ibd, templates
from nuppl.units import OSCILLATION_PHASE


def test_even_chebyshev_reproduces_sin2():
    nodes = templates.chebyshev_nodes(5e-3, 14)
    scale = 1200.0
    coefficients = templates.chebyshev_coefficients((scale * nodes).sin().square())
    splitting = torch.linspace(-5e-3, 5e-3, 101, dtype=torch.float64)
    got = templates.even_chebyshev(splitting, 5e-3, 14) @ coefficients
    torch.testing.assert_close(got, (scale * splitting).sin().square(), rtol=0, atol=1e-8)


def test_beyond_the_limit_only_that_lane_is_nan():
    basis = templates.even_chebyshev(torch.tensor([1e-3, 6e-3], dtype=torch.float64), 5e-3, 4)
    assert basis.isnan().any(-1).tolist() == [False, True]


def wave(x):
    return torch.stack([(30 * x).sin(), (3 * x).cos()], -1), torch.stack([30 * (30 * x).cos(), -3 * (3 * x).sin()], -1)


def test_a_refined_table_keeps_its_tolerance_between_all_points():
    table = templates.refined_table(wave, torch.linspace(0.0, 2.0, 12, dtype=torch.float64), 1e-6)
    x = torch.linspace(0.0, 2.0, 5001, dtype=torch.float64)
    assert (table(x) - wave(x)[0]).abs().max().item() < 1e-6
    assert table(torch.tensor([-0.3, 2.1], dtype=torch.float64)).isnan().any(-1).tolist() == [False, True]


def test_the_gradient_of_a_table_is_that_of_the_function_and_continuous():
    table = templates.refined_table(wave, torch.linspace(0.0, 2.0, 12, dtype=torch.float64), 1e-7)
    knot = table.grid[7].item()
    x = torch.tensor([0.4, knot - 1e-9, knot + 1e-9], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(table(x)[:, 0].sum(), x)
    torch.testing.assert_close(gradient, wave(x.detach())[1][:, 0], rtol=1e-4, atol=1e-4)
    assert gradient[1].item() == pytest.approx(gradient[2].item(), abs=1e-5)


def test_spherical_bessel_functions_join_series_and_recursion():
    theta = torch.tensor([1e-9, 0.29, 0.31, 5.0, -5.0], dtype=torch.float64)
    j0, j1, j2, j3 = filon.spherical_bessel(4, theta)
    torch.testing.assert_close(j0, torch.sinc(theta / math.pi), rtol=1e-14, atol=0)
    torch.testing.assert_close(j1[:3], (theta / 3 * (1 - theta**2 / 10 + theta**4 / 280 - theta**6 / 15120))[:3])
    recursion = 5.0 / theta * j2 - j1
    torch.testing.assert_close(j3[1:], recursion[1:], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(j1[3], -j1[4])


@pytest.fixture(scope="module")
def rules():
    edges, knots = torch.linspace(0.0, 12.0, 241, dtype=torch.float64), torch.arange(1.8, 12.0, 0.1).double()
    return ibd.segments(edges, knots, 3), ibd.segments(edges, knots, 100)


@pytest.mark.parametrize("splitting", [2.5e-3, 0.3, 10.0])
def test_averaged_phases_integrate_fast_oscillation(rules, splitting):
    """Three nodes per segment against a hundred, up to dozens of turns per segment."""
    coarse, fine = rules
    length = torch.tensor(400.0, dtype=torch.float64)
    cosine, _ = filon.node_phases(coarse.borders, 3, length, torch.tensor(splitting, dtype=torch.float64))
    direct = (2.0 * OSCILLATION_PHASE * splitting * length / fine.energy).cos()
    shape = [(-0.5 * (rule.energy - 4.0) ** 2).exp() for rule in (coarse, fine)]
    got, expected = coarse.kernel @ (shape[0] * cosine), fine.kernel @ (shape[1] * direct)
    scale = (fine.kernel @ shape[1]).max()
    torch.testing.assert_close(got / scale, expected / scale, rtol=0, atol=4e-5)
