r"""Templates of Daya Bay for splittings over four orders of magnitude: a fourth neutrino.

    counts = counts(P_3) - counts(P = 1) sum_{j<4} w_4j f(dm2_4j),   f = counts with P = sin^2 over counts with P = 1

f goes from zero through a few periods to 1/2, where energy resolution washes it out; what is left there, 1e-3 and less,
still turns with every 0.01 eV^2 because the response of the release works in bins of 50 keV. The table is cubic Hermite
on a grid refined to a stated tolerance, with all pulls at their centres and the spectrum correction that describes the
counts best (`central_correction`). The response moves f by derivative tables of its own, up to 1 eV^2, where they
have faded; they are those of the first of the new splittings, which the others equal to a few 1e-3 eV^2.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from nuppl.experiments.dayabay_exact import background, detector_scales, response_matrix
from nuppl.experiments.dayabay_release import Release
from nuppl.experiments.dayabay_sources import tables
from nuppl.experiments.dayabay_systematics import Pulls, lanes_of
from nuppl.experiments.dayabay_templates import basis, default_mixing, emitted, templates
from nuppl.physics.filon import node_phases
from nuppl.physics.oscillation import survival_terms
from nuppl.physics.templates import HermiteTable, refined_table
from nuppl.units import OSCILLATION_PHASE

__all__ = [
    "GREATEST",
    "TOLERANCE",
    "SterileTables",
    "central_correction",
    "fraction",
    "sterile_fraction",
    "sterile_tables",
]

GREATEST = 12.0
"""Greatest splitting of the tables, in eV^2."""

TOLERANCE = 8e-5
"""Of f, aimed at; the largest error found between its points is 2e-4."""

_FADED = 1.0  # eV^2, where the response tables end
_HIGH = (1.008, 4.0, 0.008), (4.0, GREATEST + 0.0125, 0.0125)  # first grid: half a turn at the nearest reactors


@dataclass(frozen=True, eq=False)
class SterileTables:
    """f as a function of dm2 with outputs (D, E), and df/dx for nine pulls of the response, with outputs (9, D, E)."""

    fraction: HermiteTable
    response: HermiteTable


def sterile_fraction(release: Release, weights: Tensor, splittings: Tensor, values: Mapping[str, Tensor]) -> Tensor:
    """sum_p w_p f(dm2_p) with shape (*, D, E), for weights and splittings with shape (*, P); NaN beyond the tables."""
    table = sterile_tables(release)
    nominal = (weights[..., None, None] * table.fraction(splittings)).sum(-3)
    moved = (_response_pulls(release, values)[..., None] * table.response(splittings[..., 0])).sum(-3)
    return nominal + weights.sum(-1)[..., None, None] * moved


def _response_pulls(release: Release, values: Mapping[str, Tensor]) -> Tensor:
    """Energy scale (in its errors), vessel, four of the non-linearity, three of the resolution, shape (*, 9, D)."""
    scale = (detector_scales(release, values)[1] - 1.0) / _scale_error(release)
    common = [row[..., None] for name in ("nonlinearity", "resolution") for row in values[name].unbind(-1)]
    return torch.stack(torch.broadcast_tensors(scale, values["energy_loss"], *common), dim=-2)


def _scale_error(release: Release) -> float:
    return float(release.correlations["detector_relative"][1].norm())


@functools.cache
def sterile_tables(release: Release) -> SterileTables:
    """Tabulate when first asked for: some ten seconds."""
    low = torch.linspace(0.0, 0.04, 81, dtype=torch.float64)
    middle = 0.04 * (_FADED / 0.04) ** (torch.arange(1, 321, dtype=torch.float64) / 320)
    high = torch.cat([torch.arange(*bounds, dtype=torch.float64) for bounds in _HIGH])
    with _one_thread():
        fractions = refined_table(functools.partial(_nominal, release), torch.cat([low, middle, high]), TOLERANCE)
        return SterileTables(fractions, _response_table(release, torch.cat([low[::2], middle[:-1:2]])))


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Thousands of small passes: handing each to several threads costs more than it saves, on busy cores ten times."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _nominal(release: Release, splitting: Tensor) -> tuple[Tensor, Tensor]:
    value, slope = fraction(release, splitting)
    return value[:, 0], slope[:, 0]


def fraction(release: Release, splitting: Tensor, responses: slice = slice(1)) -> tuple[Tensor, Tensor]:
    """f and its slope for chosen rows of the response, each with shape (k, rows, D, E).

    Arguments:
        splitting: with shape (k,), in eV^2.
        responses: the first row is the nominal response and gives f; the others give df/dx.
    """
    at, (flux, sloped, matrices) = tables(release), _single_precision(release)
    borders, order = at.quadrature.borders, len(at.quadrature.energy) // (len(at.quadrature.borders) - 1)
    chosen, waves = matrices[responses], []
    for point in splitting:
        cosine, sine = node_phases(borders, order, release.baselines, point, torch.float32)
        waves.append(torch.stack([(flux * cosine).sum(1), (sloped * sine).sum(1)]))
    all_waves = torch.stack(waves)
    folded = torch.einsum("gen,ksdn->skgde", chosen, all_waves).double()
    unoscillated = torch.einsum("gen,dn->gde", chosen, flux.sum(1)).double()
    value, slope = 0.5 * (unoscillated - folded[0]) / unoscillated[0], 0.5 * folded[1] / unoscillated[0]
    relative = unoscillated[1:] / unoscillated[0]
    value = torch.cat([value[:, :1], value[:, 1:] - value[:, :1] * relative], dim=1)
    return value, torch.cat([slope[:, :1], slope[:, 1:] - slope[:, :1] * relative], dim=1)


@functools.cache
def _single_precision(release: Release) -> tuple[Tensor, Tensor, Tensor]:
    """Unoscillated flux and the same times the rate of the phase (D, R, n), and response times kernel (10, E, n).

    In float32, which is twice as fast and, scaled to order one, good to 1e-6.
    """
    at, fold = tables(release), templates(release)
    matrices = _responses(release)
    equilibrium, remainder = emitted(at, fold.fissions)
    flux = equilibrium * (1.0 + at.correction @ central_correction(release)) + remainder
    flux = flux / flux.max()
    rate = 2.0 * OSCILLATION_PHASE * release.baselines[..., None] / at.quadrature.energy
    kernels = matrices @ at.quadrature.kernel
    return flux.float(), (flux * rate).float(), (kernels / kernels[0].max()).float()


def _responses(release: Release) -> Tensor:
    """The response and its derivatives in nine pulls, by differences over one standard deviation: (10, E, F)."""
    points = torch.cat([torch.zeros(1, 9), torch.eye(9), -torch.eye(9)]).double()
    scale = 1.0 + _scale_error(release) * points[:, 0]
    rows = response_matrix(release, scale, points[:, 1], points[:, 2:6], points[:, 6:9])
    return torch.cat([rows[:1], 0.5 * (rows[1:10] - rows[10:])])


def central_correction(release: Release) -> Tensor:
    """S - 1 at the knots that describes the counts best at the default oscillation, with shape (19,)."""
    fold, matrix = templates(release), _responses(release)[0]
    default = basis(*survival_terms(default_mixing(release)))
    equilibrium, remainder = (torch.tensordot(default, part, dims=1) for part in (fold.equilibrium, fold.remainder))
    rest = release.counts - background(release, lanes_of(release, Pulls())) - (equilibrium + remainder) @ matrix.T
    weight = release.counts.rsqrt()
    design = torch.einsum("cf,df,ef,de->cde", fold.correction, equilibrium, matrix, weight).flatten(1)
    solution: Tensor = torch.linalg.lstsq(design.T, (rest * weight).reshape(-1, 1)).solution
    return solution[:, 0]


def _response_table(release: Release, grid: Tensor) -> HermiteTable:
    """df/dx, faded out smoothly over the last factor of two below the end."""
    value, slope = (part[:, 1:] for part in fraction(release, grid, slice(None)))
    t = (2.0 * grid / _FADED - 1.0).clamp(0.0, 1.0)
    fade = (1.0 - t**2 * (3.0 - 2.0 * t))[:, None, None, None]
    fall = (-12.0 * t * (1.0 - t) / _FADED)[:, None, None, None]
    ends = torch.tensor([_FADED, GREATEST], dtype=torch.float64)
    nothing = torch.zeros(2, *value.shape[1:], dtype=torch.float64)
    return HermiteTable(
        torch.cat([grid, ends]),
        torch.cat([value * fade, nothing]),
        torch.cat([slope * fade + value * fall, nothing]),
    )
