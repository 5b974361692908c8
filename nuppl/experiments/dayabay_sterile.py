r"""Templates of Daya Bay for splittings over four orders of magnitude: a fourth neutrino.

    A(P, S) = A_3(P, S) - U(S) sum_{j<4} w_4j f(dm2_4j),   f(dm2) = counts with P = sin^2 over counts with P = 1

f falls from oscillation through a few periods to 1/2, where energy resolution washes it out; what is left there, 1e-3 and
less, still turns with every 0.01 eV^2 because the response of the release works in bins of 50 keV. The table is cubic
Hermite on a grid refined to a stated tolerance. The response features act on f by tables E_g of their own up to 1 eV^2,
where they have faded.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from nuppl.experiments.dayabay_release import Release
from nuppl.experiments.dayabay_sources import tables
from nuppl.experiments.dayabay_templates import emitted, templates
from nuppl.physics.filon import node_phases
from nuppl.physics.templates import HermiteTable, refined_table
from nuppl.units import OSCILLATION_PHASE

__all__ = ["GREATEST", "SterileTemplates", "fraction", "sterile_templates"]

GREATEST = 12.0
"""Greatest splitting of the tables, in eV^2."""

TOLERANCE = 8e-5
"""Of f: twice that, relative to the counts, at maximal mixing."""

_HIGH = (1.008, 4.0, 0.008), (4.0, GREATEST + 0.0125, 0.0125)  # first grid: half a turn at the nearest reactors
_RESPONSE = 1.0  # eV^2, where the response tables end


@dataclass(frozen=True, eq=False)
class SterileTemplates:
    """f as a function of dm2 with outputs (D, E), and E_g = change of f with feature g, with outputs (F, D, E)."""

    fraction: HermiteTable
    response: HermiteTable


@functools.cache
def sterile_templates(release: Release) -> SterileTemplates:
    """Tabulate when first asked for: some ten seconds."""
    low = torch.linspace(0.0, 0.04, 81, dtype=torch.float64)
    middle = 0.04 * (_RESPONSE / 0.04) ** (torch.arange(1, 321, dtype=torch.float64) / 320)
    high = torch.cat([torch.arange(*bounds, dtype=torch.float64) for bounds in _HIGH])
    fractions = refined_table(lambda x: fraction(release, x), torch.cat([low, middle, high]), TOLERANCE)
    return SterileTemplates(fractions, _response_table(release, torch.cat([low[::2], middle[:-1:2]])))


def fraction(release: Release, splitting: Tensor, features: slice = slice(1)) -> tuple[Tensor, Tensor]:
    """f and df/d(dm2) for chosen response features, each with shape (k, F, D, E), or (k, D, E) for the nominal one.

    Arguments:
        splitting: with shape (k,), in eV^2.
        features: of the response; 0 is the nominal one.
    """
    at, (flux, sloped, matrices) = tables(release), _single_precision(release)
    borders, order = at.quadrature.borders, len(at.quadrature.energy) // (len(at.quadrature.borders) - 1)
    values = []
    for point in splitting:
        cosine, sine = node_phases(borders, order, release.baselines, point, torch.float32)
        waves = torch.stack([(flux * cosine).sum(1), (sloped * sine).sum(1)])
        values.append(torch.einsum("gen,sdn->sgde", matrices[features], waves).double())
    total = torch.einsum("gen,dn->gde", matrices[features], flux.sum(1)).double()
    folded, unoscillated = torch.stack(values, dim=1), torch.einsum("en,dn->de", matrices[0], flux.sum(1)).double()
    result = torch.stack([0.5 * (total - folded[0]), 0.5 * folded[1]]) / unoscillated
    result = result[:, :, 0] if features == slice(1) else result
    return result[0], result[1]


@functools.cache
def _single_precision(release: Release) -> tuple[Tensor, Tensor, Tensor]:
    """Unoscillated flux at S_0 and the same times the rate of the phase (D, R, n), and matrices (1 + F, E, n).

    In float32, which is twice as fast and, scaled to order one, good to 1e-6.
    """
    at, fold = tables(release), templates(release)
    equilibrium, remainder = emitted(at, fold.fissions)
    flux = equilibrium * (1.0 + at.correction @ fold.correction) + remainder
    flux = flux / flux.max()
    rate = 2.0 * OSCILLATION_PHASE * release.baselines[..., None] / at.quadrature.energy
    return flux.float(), (flux * rate).float(), (fold.matrices / fold.matrices[0].max()).float()


def _response_table(release: Release, grid: Tensor) -> HermiteTable:
    """E_g = V_g - f F_g, faded out smoothly over the last factor of two below the end."""
    values, slopes = fraction(release, grid, slice(None))
    change = templates(release).at_expansion
    value = values[:, 1:] - values[:, :1] * change
    slope = slopes[:, 1:] - slopes[:, :1] * change
    t = (2.0 * grid / _RESPONSE - 1.0).clamp(0.0, 1.0)
    fade = (1.0 - t**2 * (3.0 - 2.0 * t))[:, None, None, None]
    fall = (-6.0 * t * (1.0 - t) * 2.0 / _RESPONSE)[:, None, None, None]
    ends = torch.tensor([_RESPONSE, 2.0 * GREATEST], dtype=torch.float64)
    nothing = torch.zeros(2, *value.shape[1:], dtype=torch.float64)
    return HermiteTable(
        torch.cat([grid, ends]),
        torch.cat([value * fade, nothing]),
        torch.cat([slope * fade + value * fall, nothing]),
    )
