r"""What a fourth neutrino takes away, from tables over four orders of magnitude of its splittings.

    n = n(P_3) - n(P = 1) sum_{j<4} w_4j [g(dm2_4j) + sum_m e_m g_m(dm2_4j)],    g_m = <p_m sin^2>

in fine bins of deposited energy, before the response, which therefore acts as it is. g is an average at the central
systematics (`dayabay_waves`). Spectra that vary within a bin, e_m = <p_m u> for relative errors u, matter where the
oscillation turns within it: at the near detectors around 1.5 eV^2. Reactors do not share one g: where pulls move them
apart, a table in the bins of the analysis says what that changes, at the central response.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from nuppl.experiments.dayabay_chain import visible
from nuppl.experiments.dayabay_release import Release
from nuppl.experiments.dayabay_sources import WITH_NONEQUILIBRIUM, tables
from nuppl.experiments.dayabay_templates import templates
from nuppl.experiments.dayabay_waves import GREATEST, central_response, emission, near_detectors, waves
from nuppl.physics.blocks import BlockMatrix
from nuppl.physics.templates import Spacing, SplineTable, spline_tables

__all__ = ["SPACING", "SterileTables", "sterile_share", "sterile_shift", "sterile_tables"]

SPACING = Spacing(fine=7e-5, coarse=1.6e-3, turn=0.06)
"""Distances between splittings, in eV^2: errors of g in the bins of the analysis stay below 5e-6. 250 MB."""


class SterileTables(NamedTuple):
    """Functions of a splitting; D detectors (N near), R reactors, F visible bins, E bins of the analysis."""

    share: SplineTable  # g - 1/2, (D * F)
    bent: SplineTable  # g_1 and g_2, (N * 2 * F)
    reactors: SplineTable  # counts that follow a reactor's g and not the mean one, (D * R * E)
    isotopes: Tensor  # (I, K), shares of the isotopes in the spectrum
    slopes: BlockMatrix  # (K, 2 * F), from errors of the spectrum to e_m
    changes: Tensor  # (R * (I + 3 + 1), R * E), from relative changes of sources to those of a reactor's counts


def sterile_share(release: Release, weights: Tensor, splittings: Tensor, errors: Tensor) -> Tensor:
    """sum_j w_4j [g + sum_m e_m g_m] with shape (*, D, F); NaN beyond the tables.

    Arguments:
        weights, splittings: of the pairs with new states, (*, 3) for one.
        errors: relative errors of the spectra with shape (*, I, K).
    """
    at = sterile_tables(release)
    share = at.share(splittings.abs(), weights) + 0.5 * weights.sum(-1, keepdim=True)
    bent = at.bent(*_together(weights, splittings)).unflatten(-1, (4, 2, -1))
    slopes = at.slopes((errors * at.isotopes).sum(-2)).unflatten(-1, (1, 2, -1))
    near = (bent * slopes).sum(-2)
    plain = share.reshape(*share.shape[:-1], 8, -1)
    return plain + pad(near, (0, 0, 0, plain.shape[-2] - near.shape[-2]))


def sterile_shift(release: Release, weights: Tensor, splittings: Tensor, changes: Tensor) -> Tensor:
    """Counts that the fourth neutrino takes away because sources changed, with shape (*, D, E).

    Arguments:
        weights, splittings: of the pairs with new states, (*, 3) for one.
        changes: relative changes of sources, in the order of `SterileTables.changes`.
    """
    at = sterile_tables(release)
    counts = at.reactors(*_together(weights, splittings)).unflatten(-1, (8, 6, -1))
    moved = (changes @ at.changes).unflatten(-1, (1, 6, -1))
    shift: Tensor = (counts * moved).sum(-2)
    return shift


def _together(weights: Tensor, splittings: Tensor) -> tuple[Tensor, Tensor]:
    """(splittings, weights) for a correction: one new state has one splitting, for dm2_43 has 3 % of the weight."""
    if splittings.shape[-1] > 3:
        return splittings.abs(), weights
    return splittings[..., :1].abs(), weights.sum(-1, keepdim=True)


@functools.cache
def sterile_tables(release: Release) -> SterileTables:
    """Tabulate when first asked for: some seconds."""
    with _one_thread():
        share, bent, reactors = spline_tables(functools.partial(_folded, release), SPACING, GREATEST)
    return SterileTables(share, bent, reactors, _isotopes(release), _slopes(release), _changes(release))


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Thousands of small passes: handing each to several threads costs more than it saves, on busy cores ten times."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _folded(release: Release, splitting: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of the three tables for splittings with shape (k,)."""
    wave, bent = waves(release, splitting)
    events, near = emission(release).events, near_detectors(release)
    total = events.sum(1, keepdim=True)
    shares = (events / torch.where(total == 0.0, 1.0, total)).float()
    mean = (wave * shares).sum(2, keepdim=True)
    response = visible(release, central_response(release)).T.float()
    apart = ((wave - mean) * events.float()) @ response
    turned = (bent * shares[near, :, None]).sum(2)
    return tuple(-0.5 * part.flatten(1) for part in (mean, turned, apart))  # type: ignore[return-value]


def _isotopes(release: Release) -> Tensor:
    spectra = templates(release).fissions.mean(0)[:, None] * release.spectra
    shares: Tensor = spectra / spectra.sum(0)
    return shares


def _slopes(release: Release) -> BlockMatrix:
    """<p_m hat_k> of the knots k."""
    return BlockMatrix(torch.einsum("mfn,nk->kmf", emission(release).moments[1:], tables(release).knots).flatten(1), 16)


def _changes(release: Release) -> Tensor:
    """From relative changes of fissions (R, I), non-equilibrium (R, 3) and spent fuel (R) to those of counts (R, E)."""
    at, fissions, source = tables(release), templates(release).fissions, emission(release)
    response = central_response(release) @ at.quadrature.kernel
    exposure, running = at.exposure.sum(0)[:, None], at.exposure_time.sum(0)[:, None]
    burned = (exposure * fissions)[..., None] * (source.equilibrium @ response.T)
    excess = (exposure * fissions[:, WITH_NONEQUILIBRIUM])[..., None] * (at.nonequilibrium @ response.T)
    spent = (running * (at.spent_fuel @ response.T))[:, None]
    total = sum(part.sum(1, keepdim=True) for part in (burned, excess, spent))
    return torch.cat([torch.block_diag(*(part / total)) for part in (burned, excess, spent)])
