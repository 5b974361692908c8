r"""Averages of sin^2 of an oscillation phase between quadrature nodes, for any number of periods per segment.

Where the flux and the kernel are smooth but the phase omega u (u = 1/E) runs through many turns within a segment, the
polynomial through the Gauss nodes x_j of the smooth factor f integrates exactly:

    int_{-1}^{1} f(x) e^{i theta x} dx = sum_j w_j f(x_j) sum_k (2k+1) i^k j_k(theta) P_k(x_j),   k < number of nodes

with spherical Bessel functions j_k and Legendre polynomials P_k (L. N. G. Filon, Proc. R. Soc. Edinburgh 49, 38 (1928);
for Legendre polynomials N. S. Bakhvalov and L. G. Vasil'eva, USSR Comput. Math. 8, 241 (1968)). The inner sum is what
e^{i theta x} is worth at node j. For slow phases it is e^{i theta x_j}; for fast ones it goes to zero.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nuppl.physics.ibd import gauss_legendre
from nuppl.units import OSCILLATION_PHASE

__all__ = ["node_phases", "spherical_bessel"]

_SMALL = 0.3  # below it the recursion loses digits and the series needs few terms
_SERIES_TERMS = 6  # the next one is below 1e-15


def spherical_bessel(count: int, theta: Tensor) -> list[Tensor]:
    """j_0 to j_{count-1} with the shape of `theta`; by series below 0.3, by upward recursion above.

    >>> [round(j.item(), 6) for j in spherical_bessel(3, torch.tensor(2.0, dtype=torch.float64))]
    [0.454649, 0.435398, 0.198448]
    """
    small = theta.abs() < _SMALL
    safe = torch.where(small, 1.0, theta)
    sine, cosine = safe.sin(), safe.cos()
    recursion = [sine / safe, (sine / safe - cosine) / safe]
    for k in range(2, count):
        recursion.append((2 * k - 1) / safe * recursion[-1] - recursion[-2])
    return [torch.where(small, _series(k, torch.where(small, theta, 0.0)), recursion[k]) for k in range(count)]


def _series(k: int, theta: Tensor) -> Tensor:
    term = theta**k / math.prod(range(1, 2 * k + 2, 2))
    total = term
    for m in range(1, _SERIES_TERMS):
        term = term * (-0.5 * theta**2) / (m * (2 * k + 1 + 2 * m))
        total = total + term
    return total


def node_phases(
    borders: Tensor, order: int, length: Tensor, splitting: Tensor, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    """What cos and sin of twice the phase, 2 * 1.2669... dm2 L/E, are worth at the nodes of `ibd.segments`.

    Arguments:
        borders: 1/E at the borders of the segments with shape (S + 1,), in 1/MeV.
        order: nodes per segment.
        length: baselines with shape (*,), in m.
        splitting: dm2 with a shape that broadcasts to (*,), in eV^2.
        dtype: of the result; phases are reduced to one turn in float64 first, so float32 is good to 1e-6.

    Returns:
        cos and sin, each with shape (*, S * order).
    """
    node, _ = gauss_legendre(order)
    middle, half = 0.5 * (borders[1:] + borders[:-1]), 0.5 * borders.diff()
    turns = (splitting * length)[..., None] * (OSCILLATION_PHASE / math.pi)
    center = (2.0 * math.pi * (turns * middle).frac()).to(dtype)
    bessel = spherical_bessel(order, (2.0 * math.pi * turns * half).to(dtype))
    cosine, sine = center.cos(), center.sin()
    moments = [(2 * k + 1) * (-1) ** (k // 2) * bessel[k] for k in range(order)]
    even = torch.stack([cosine * m if k % 2 == 0 else -sine * m for k, m in enumerate(moments)], dim=-1)
    odd = torch.stack([sine * m if k % 2 == 0 else cosine * m for k, m in enumerate(moments)], dim=-1)
    legendre = torch.stack(_legendre(order, node.to(dtype)))
    return (even @ legendre).flatten(-2), (odd @ legendre).flatten(-2)


def _legendre(count: int, x: Tensor) -> list[Tensor]:
    values = [torch.ones_like(x), x]
    for k in range(1, count - 1):
        values.append(((2 * k + 1) * x * values[k] - k * values[k - 1]) / (k + 1))
    return values[:count]
