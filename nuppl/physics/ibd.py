"""Inverse beta decay, nu_e-bar + p -> e+ + n, to first order in 1/M.

The rate in a bin of deposited energy E_dep = E_e + m_e is an integral over neutrino energy and positron angle,

    N_b = int dE_nu phi(E_nu) K_b(E_nu),    K_b(E_nu) = int dcos(theta) dsigma/dcos(theta) [E_dep(E_nu, cos) in b],

with dsigma/dcos(theta) from P. Vogel and J. F. Beacom, Phys. Rev. D 60, 053003 (1999), eq. 12 and 13, and the exact
kinematics of two bodies. `segments` lays the nodes so that the integrand is smooth between any two neighbours: borders
lie where an edge of a bin enters or leaves the reach of the recoil, and where the flux table has a kink. Between two
borders the nodes are Gauss-Legendre in 1/E_nu, in which vacuum phases are linear.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nuppl.units import HBAR_C, SPEED_OF_LIGHT

__all__ = [
    "Constants",
    "Quadrature",
    "cosine",
    "cross_section",
    "gauss_legendre",
    "jacobian",
    "neutrino_energy",
    "product_rule",
    "segments",
    "threshold",
]

_HBAR = 1e-6 * HBAR_C / SPEED_OF_LIGHT  # MeV s
_HBAR_C = 1e-4 * HBAR_C  # MeV cm


@dataclass(frozen=True)
class Constants:
    """Masses (MeV), neutron lifetime (s) and couplings; PDG 2024, with Daya Bay's phase-space factor."""

    electron_mass: float = 0.5109989500
    proton_mass: float = 938.27208816
    neutron_mass: float = 939.5654205
    neutron_lifetime: float = 878.4
    phase_space: float = 1.71465
    vector: float = 1.0
    axial: float = 1.2701
    magnetic: float = 3.706

    @property
    def delta(self) -> float:
        """Neutron minus proton mass, in MeV."""
        return self.neutron_mass - self.proton_mass

    @property
    def scale(self) -> float:
        """sigma_0 of Vogel and Beacom (eq. 8) in cm^2 / MeV^2, fixed by the neutron's lifetime."""
        rate = _HBAR / self.neutron_lifetime
        coupling = self.vector**2 + 3.0 * self.axial**2
        natural = 2.0 * math.pi**2 * rate / (self.phase_space * coupling * self.electron_mass**5)
        return natural * _HBAR_C**2


PDG = Constants()


class Quadrature(NamedTuple):
    """Nodes in neutrino energy and what a unit of flux there puts into the bins of deposited energy.

    Attributes:
        energy: nodes with shape (n,), in MeV.
        kernel: cross section times weight with shape (bins, n), in cm^2 MeV.
        borders: 1/E_nu at the borders of the segments with shape (segments + 1,), in order of the nodes; empty where
            the nodes do not lie on segments.
    """

    energy: Tensor
    kernel: Tensor
    borders: Tensor


def threshold(constants: Constants = PDG) -> float:
    """The least neutrino energy in the proton's rest frame, in MeV.

    >>> round(threshold(), 4)
    1.8061
    """
    final = (constants.neutron_mass + constants.electron_mass) ** 2
    return (final - constants.proton_mass**2) / (2.0 * constants.proton_mass)


def _velocity(energy: Tensor, mass: float) -> Tensor:
    return (1.0 - (mass / energy) ** 2).clamp_min(0.0).sqrt()


def neutrino_energy(positron_energy: Tensor, cosine: Tensor, constants: Constants = PDG) -> Tensor:
    """E_nu that gives a positron of this total energy (MeV) at this angle; shapes broadcast."""
    m = constants
    shift = 0.5 * (m.neutron_mass**2 - m.proton_mass**2 - m.electron_mass**2) / m.proton_mass
    recoil = positron_energy / m.proton_mass * (1.0 - _velocity(positron_energy, m.electron_mass) * cosine)
    return (positron_energy + shift) / (1.0 - recoil)


def cosine(neutrino_energy: Tensor, positron_energy: Tensor, constants: Constants = PDG) -> Tensor:
    """The inverse of `neutrino_energy` in the angle, clipped to [-1, 1] (-1 below the positron's mass)."""
    m = constants
    shift = 0.5 * (m.neutron_mass**2 - m.proton_mass**2 - m.electron_mass**2) / m.proton_mass
    safe = positron_energy.clamp_min(m.electron_mass * (1.0 + 1e-9))
    recoil = (1.0 - (safe + shift) / neutrino_energy) * m.proton_mass / safe
    return ((1.0 - recoil) / _velocity(safe, m.electron_mass)).clamp(-1.0, 1.0)


def jacobian(neutrino_energy: Tensor, positron_energy: Tensor, cosine: Tensor, constants: Constants = PDG) -> Tensor:
    """dE_nu / dE_e at fixed angle; zero where there is no positron."""
    m = constants
    velocity = _velocity(positron_energy, m.electron_mass)
    above = positron_energy > m.electron_mass
    numerator = m.proton_mass + neutrino_energy * (1.0 - cosine / torch.where(above, velocity, 1.0))
    denominator = m.proton_mass - positron_energy * (1.0 - velocity * cosine)
    return torch.where(above, numerator / denominator, 0.0)


def cross_section(neutrino_energy: Tensor, cosine: Tensor, constants: Constants = PDG) -> Tensor:
    """dsigma/dcos(theta) to order 1/M (Vogel and Beacom, eq. 12), in cm^2; zero below threshold.

    Arguments:
        neutrino_energy: with shape (*,), in MeV.
        cosine: of the positron's angle to the neutrino, broadcast against the energy.

    >>> sideways = cross_section(torch.tensor(4.0, dtype=torch.float64), torch.tensor(0.0, dtype=torch.float64))
    >>> round(sideways.item() / 1e-43, 1)
    3.4
    """
    m, f, g = constants, constants.vector, constants.axial
    nucleon, light = 0.5 * (m.neutron_mass + m.proton_mass), m.electron_mass
    energy0 = neutrino_energy - m.delta
    velocity0 = _velocity(energy0, light)
    y2 = 0.5 * (m.delta**2 - light**2)
    energy1 = energy0 * (1.0 - neutrino_energy / nucleon * (1.0 - velocity0 * cosine)) - y2 / nucleon
    velocity1 = _velocity(energy1, light)
    leading = ((f**2 + 3 * g**2) + (f**2 - g**2) * velocity1 * cosine) * energy1**2 * velocity1
    along = (energy0 + m.delta) * (1.0 - cosine / velocity0) - m.delta
    gamma = (
        2.0 * g * (f + m.magnetic) * ((2.0 * energy0 + m.delta) * (1.0 - velocity0 * cosine) - light**2 / energy0)
        + (f**2 + g**2) * (m.delta * (1.0 + velocity0 * cosine) + light**2 / energy0)
        + (f**2 + 3 * g**2) * along
        + (f**2 - g**2) * along * velocity0 * cosine
    )
    sigma = 0.5 * m.scale * (leading - energy0**2 * velocity0 * gamma / nucleon)
    allowed = (neutrino_energy >= threshold(m)) & (energy0 > light) & (energy1 > light)
    return torch.where(allowed, sigma, 0.0)


def gauss_legendre(order: int) -> tuple[Tensor, Tensor]:
    """Nodes in (-1, 1) and weights, each with shape (order,), float64."""
    nodes, weights = np.polynomial.legendre.leggauss(order)
    return torch.from_numpy(nodes), torch.from_numpy(weights)


def product_rule(edges: Tensor, orders: tuple[int, int], constants: Constants = PDG) -> Quadrature:
    """Gauss-Legendre in deposited energy (per bin) and angle: simple, and slow to converge across kinks of the flux.

    Arguments:
        edges: bins of deposited energy with shape (bins + 1,), in MeV.
        orders: nodes per bin in energy, and in the cosine.
    """
    node, weight = gauss_legendre(orders[0])
    angle, angle_weight = gauss_legendre(orders[1])
    half = 0.5 * edges.diff()
    positron = (edges[:-1, None] + half[:, None] * (1.0 + node))[:, :, None] - constants.electron_mass
    energy = neutrino_energy(positron, angle, constants)
    value = cross_section(energy, angle, constants) * jacobian(energy, positron, angle, constants)
    value = value * (half[:, None] * weight)[:, :, None] * angle_weight
    bins, per_bin = len(half), orders[0] * orders[1]
    kernel = torch.block_diag(*value.reshape(bins, 1, per_bin))
    return Quadrature(energy.reshape(-1), kernel, energy.new_empty(0))


def segments(edges: Tensor, knots: Tensor, order: int = 3, constants: Constants = PDG) -> Quadrature:
    """Nodes between all kinks of the integrand; converges exponentially with `order`.

    Arguments:
        edges: bins of deposited energy with shape (bins + 1,), ascending and equally wide, in MeV.
        knots: neutrino energies where the flux has kinks, in MeV, any shape.
        order: nodes per segment.
    """
    borders = _borders(edges, knots, constants)
    node, weight = gauss_legendre(order)
    half = 0.5 * borders.diff()
    inverse = borders[:-1, None] + half[:, None] * (1.0 + node)
    energy = 1.0 / inverse
    measure = (half.abs()[:, None] * weight * energy**2).reshape(-1)
    kernel = _kernel(edges, energy.reshape(-1), constants) * measure
    return Quadrature(energy.reshape(-1), kernel, borders)


def _borders(edges: Tensor, knots: Tensor, constants: Constants) -> Tensor:
    positron = edges[edges > 2.0 * constants.electron_mass] - constants.electron_mass
    ends = [neutrino_energy(positron, positron.new_tensor(angle), constants) for angle in (-1.0, 1.0)]
    low, high = threshold(constants), float(ends[0].max())
    inside = torch.cat([*ends, knots.reshape(-1)])
    inside = inside[(inside > low) & (inside < high)]
    energies = torch.cat([inside.new_tensor([low]), inside.sort().values, inside.new_tensor([high])])
    keep = torch.cat([energies.diff() > 1e-7, energies.new_ones(1, dtype=torch.bool)])
    return 1.0 / energies[keep]


def _kernel(edges: Tensor, energy: Tensor, constants: Constants, order: int = 5) -> Tensor:
    """Cross section into each bin at fixed neutrino energy, with shape (bins, n): an integral over the angle."""
    angles = cosine(energy, (edges - constants.electron_mass)[:, None], constants)
    lower, upper = angles[:-1], angles[1:]
    column, row = torch.nonzero((upper > lower).T, as_tuple=True)
    node, weight = gauss_legendre(order)
    half = 0.5 * (upper - lower)[row, column]
    points = lower[row, column][:, None] + half[:, None] * (1.0 + node)
    values = (cross_section(energy[column][:, None], points, constants) * weight).sum(-1) * half
    return angles.new_zeros(lower.shape).index_put((row, column), values)
