"""Reactor spectra and interpolation."""

import pytest
import torch

from nuppl.errors import InputError
from nuppl.physics import fluxes

KNOTS = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
ENERGY = torch.tensor([0.5, 1.0, 1.5, 3.0, 4.0, 5.0], dtype=torch.float64)


@pytest.mark.parametrize(
    ("outside", "expected"),
    [
        ("extrapolate", [2.0, 3.0, 4.0, 3.0, 1.0, -1.0]),
        ("constant", [3.0, 3.0, 4.0, 3.0, 1.0, 1.0]),
        ("zero", [0.0, 3.0, 4.0, 3.0, 1.0, 0.0]),
    ],
)
def test_linear_interpolation_and_its_outside(outside, expected):
    values = torch.tensor([3.0, 5.0, 1.0], dtype=torch.float64)
    assert fluxes.linear(ENERGY, KNOTS, values, outside).tolist() == pytest.approx(expected)


def test_exponential_table_reproduces_an_exponential_everywhere():
    values = torch.exp(2.0 - 0.7 * KNOTS)
    torch.testing.assert_close(fluxes.exponential(ENERGY, KNOTS, values), torch.exp(2.0 - 0.7 * ENERGY))


@pytest.mark.parametrize(("isotope", "yield_"), [("U235", 6.69), ("U238", 10.10), ("Pu239", 4.36), ("Pu241", 6.05)])
def test_huber_mueller_gives_the_published_yields(isotope, yield_):
    """Events per fission in 1e-43 cm^2: C. Giunti et al., Phys. Rev. D 99, 073005 (2019), table I (HM)."""
    from nuppl.physics import ibd

    rule = ibd.segments(torch.linspace(0.0, 12.0, 241, dtype=torch.float64), torch.tensor([2.0, 8.0]).double(), 3)
    total = (rule.kernel.sum(0) * fluxes.huber_mueller(isotope, rule.energy)).sum().item()
    assert total / 1e-43 == pytest.approx(yield_, rel=0.015)


def test_an_unknown_isotope_is_refused_with_the_nearest_name():
    with pytest.raises(InputError, match=r"unknown isotope 'Pu293' \(did you mean 'Pu239'\?\)"):
        fluxes.huber_mueller("Pu293", ENERGY)


def test_an_unknown_outside_is_refused():
    with pytest.raises(InputError, match="outside the knots"):
        fluxes.hats(ENERGY, KNOTS, "const")
