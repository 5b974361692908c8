"""Reactor antineutrino spectra: tables with their interpolation, and the Huber-Mueller polynomials.

    phi_i(E) = exp(sum_p a_ip E^p)   antineutrinos per MeV and fission of isotope i, E in MeV

U235, Pu239 and Pu241: P. Huber, Phys. Rev. C 84, 024617 (2011); U238: T. A. Mueller et al., Phys. Rev. C 83, 054615
(2011). The parametrisations hold between about 2 and 8 MeV. Corrections that are linear in values at knots are a matrix
times these values: `hats` gives it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nuppl.errors import unknown

__all__ = ["HUBER_MUELLER", "exponential", "hats", "huber_mueller", "linear"]

HUBER_MUELLER: dict[str, tuple[float, ...]] = {
    "U235": (4.367, -4.577, 2.100, -0.5294, 0.06186, -0.002777),
    "U238": (0.4833, 0.1927, -0.1283, -0.006762, 0.002233, -0.0001536),
    "Pu239": (4.757, -5.392, 2.563, -0.6596, 0.0782, -0.003536),
    "Pu241": (2.990, -2.882, 1.278, -0.3343, 0.03905, -0.001754),
}
"""Coefficients a_0 to a_5 by isotope."""


def huber_mueller(isotope: str, energy: Tensor) -> Tensor:
    """Antineutrinos per MeV and fission, with the shape of `energy` (MeV).

    Raises:
        InputError: an isotope that is not in the table.

    >>> round(huber_mueller("U235", torch.tensor(4.0, dtype=torch.float64)).item(), 4)
    0.2923
    """
    if isotope not in HUBER_MUELLER:
        raise unknown("isotope", isotope, HUBER_MUELLER)
    exponent = torch.zeros_like(energy)
    for coefficient in reversed(HUBER_MUELLER[isotope]):
        exponent = exponent * energy + coefficient
    return exponent.exp()


def hats(energy: Tensor, knots: Tensor, outside: str = "extrapolate") -> Tensor:
    """Weights of linear interpolation, so that f(energy) = hats @ f(knots).

    Arguments:
        energy: with shape (n,), in MeV.
        knots: ascending with shape (k,), in MeV.
        outside: "extrapolate" the last segment, keep it "constant", or return "zero".

    Returns:
        weights with shape (n, k); rows sum to one, to zero where `outside` says so.

    >>> hats(torch.tensor([1.5, 4.0]), torch.tensor([1.0, 2.0, 3.0]), "constant").tolist()
    [[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]
    """
    if outside not in ("extrapolate", "constant", "zero"):
        raise unknown("treatment of energies outside the knots", outside, ("extrapolate", "constant", "zero"))
    left = (torch.searchsorted(knots, energy, right=True) - 1).clamp(0, len(knots) - 2)
    fraction = (energy - knots[left]) / (knots[left + 1] - knots[left])
    if outside == "constant":
        fraction = fraction.clamp(0.0, 1.0)
    weights = energy.new_zeros((len(energy), len(knots)))
    weights.scatter_(1, left[:, None], (1.0 - fraction)[:, None])
    weights.scatter_(1, left[:, None] + 1, fraction[:, None])
    if outside == "zero":
        weights *= ((energy >= knots[0]) & (energy <= knots[-1]))[:, None]
    return weights


def linear(energy: Tensor, knots: Tensor, values: Tensor, outside: str = "extrapolate") -> Tensor:
    """Piecewise linear table: `values` with shape (*, k) at `knots` (k,) to (*, n) at `energy` (n,)."""
    return values @ hats(energy, knots, outside).T


def exponential(energy: Tensor, knots: Tensor, values: Tensor) -> Tensor:
    """Piecewise exponential table (linear in the logarithm), extrapolated; shapes as in `linear`, values above 0."""
    return (values.log() @ hats(energy, knots).T).exp()
