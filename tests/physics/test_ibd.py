"""Inverse beta decay: kinematics, cross section, quadrature."""

import pytest
import torch

from nuppl.physics import ibd

EDGES = torch.linspace(0.0, 12.0, 241, dtype=torch.float64)
KNOTS = torch.arange(1.8, 12.8, 0.05, dtype=torch.float64)


def spectrum(energy):
    return torch.exp(3.2 - 3.1 * energy + 0.525 * energy**2 - 0.0497 * energy**3)


def test_angle_inverts_neutrino_energy():
    positron = torch.linspace(0.8, 9.0, 30, dtype=torch.float64)[:, None]
    angle = torch.linspace(-0.99, 0.99, 15, dtype=torch.float64)
    energy = ibd.neutrino_energy(positron, angle)
    torch.testing.assert_close(ibd.cosine(energy, positron), angle.expand(30, 15), rtol=0, atol=1e-10)


def test_jacobian_is_the_derivative_of_neutrino_energy():
    positron = torch.linspace(0.6, 9.0, 30, dtype=torch.float64).requires_grad_()
    angle = torch.linspace(-1.0, 1.0, 30, dtype=torch.float64)
    energy = ibd.neutrino_energy(positron, angle)
    (slope,) = torch.autograd.grad(energy.sum(), positron)
    torch.testing.assert_close(ibd.jacobian(energy, positron, angle).detach(), slope, rtol=1e-10, atol=0)


@pytest.mark.parametrize(("energy", "published"), [(2.01, 0.00351e-41), (4.0, 0.0859e-41), (8.01, 0.414e-41)])
def test_total_cross_section_is_the_published_one(energy, published):
    """Values of A. Strumia and F. Vissani, Phys. Lett. B 564, 42 (2003), table 1, whose neutron lives 886 s."""
    node, weight = ibd.gauss_legendre(20)
    total = (ibd.cross_section(torch.tensor(energy, dtype=torch.float64), node) * weight).sum().item()
    assert total == pytest.approx(published * 885.7 / 878.4, rel=0.02)


def test_no_cross_section_below_threshold():
    energy = torch.tensor([1.0, 1.8], dtype=torch.float64)
    assert ibd.cross_section(energy, torch.tensor(0.0, dtype=torch.float64)).tolist() == [0.0, 0.0]


def test_both_quadratures_converge_to_the_same_events():
    plain, fine = ibd.product_rule(EDGES, (24, 8)), ibd.segments(EDGES, KNOTS, 3)
    expected, got = (rule.kernel @ spectrum(rule.energy) for rule in (plain, fine))
    torch.testing.assert_close(got[30:160], expected[30:160], rtol=2e-4, atol=0)
    assert got.sum().item() == pytest.approx(expected.sum().item(), rel=1e-6)


def test_segments_are_converged_under_doubling():
    coarse, fine = (ibd.segments(EDGES, KNOTS, order) for order in (3, 6))
    got, expected = (rule.kernel @ spectrum(rule.energy) for rule in (coarse, fine))
    torch.testing.assert_close(got[24:], expected[24:], rtol=1e-5, atol=0)
