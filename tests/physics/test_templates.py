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


SPACING = templates.Spacing(fine=2e-3, coarse=0.02, turn=0.1)


def wave(x):
    return torch.stack([(30 * x).cos(), (3 * x).cos() / (1 + x**2)], -1)


@pytest.fixture(scope="module")
def table():
    return templates.spline_tables(lambda x: (wave(x),), SPACING, 2.0)[0]


def test_points_are_where_the_coordinate_is_whole():
    points = SPACING.points(-3, 60)
    torch.testing.assert_close(SPACING.coordinate(points), torch.arange(-3.0, 61.0, dtype=torch.float64))
    assert points.diff()[3].item() == pytest.approx(SPACING.fine, rel=1e-3)
    assert bool((points.diff() < SPACING.coarse).all())


def test_a_table_sums_its_function_over_points(table):
    x = 2.0 * torch.rand(50, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weights = torch.tensor([0.7, 0.2, -0.1], dtype=torch.float64)
    torch.testing.assert_close(table(x, weights), (weights[:, None] * wave(x)).sum(1), rtol=0, atol=1e-4)
    ends = torch.tensor([[0.0], [2.0]], dtype=torch.float64)
    torch.testing.assert_close(table(ends, torch.ones_like(ends)), wave(ends[:, 0]), rtol=0, atol=1e-4)


def test_beyond_a_table_only_that_lane_is_nan(table):
    x = torch.tensor([[0.3, 0.1], [0.3, 2.1], [-0.1, 0.3]], dtype=torch.float64)
    assert table(x, torch.ones_like(x)).isnan().any(-1).tolist() == [False, True, True]


def test_derivatives_of_a_table_are_those_of_the_function(table):
    x = torch.tensor([[0.05], [0.4], [1.1]], dtype=torch.float64, requires_grad=True)
    weights = torch.full_like(x, 0.5, requires_grad=True)
    vector = torch.tensor([1.0, 0.3], dtype=torch.float64)
    first, by_weight = torch.autograd.grad((table(x, weights) @ vector).sum(), (x, weights), create_graph=True)
    second, mixed = torch.autograd.grad(first.sum(), (x, weights))
    point = x.detach().requires_grad_()
    value = wave(point[:, 0]) @ vector
    (slope,) = torch.autograd.grad(value.sum(), point, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), point)
    torch.testing.assert_close(by_weight[:, 0], value, rtol=0, atol=1e-4)
    torch.testing.assert_close(first, 0.5 * slope, rtol=0, atol=5e-3)
    torch.testing.assert_close(mixed, slope, rtol=0, atol=1e-2)
    torch.testing.assert_close(second, 0.5 * curvature, rtol=0, atol=5.0)


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
