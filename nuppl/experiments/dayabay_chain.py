r"""The response of Daya Bay's detectors for many points at once, as fast as a template and without linearising.

The four matrices of `physics.response` act here without being built for each point:

- energy loss: one matrix product with the migrations, and the renormalisation in closed form;
- non-linearity and energy scale s: events below an edge of visible energy are the cumulative histogram at the matching
  scintillation energy, which second-order Newton finds from the nominal one, s (y_0 + sum_k a_k y_k)(E) = E_edge, as a
  quadratic function of 1/s;
- resolution and final bins: where the events of a fine bin go depends on the three terms through one number, its
  sigma: for each bin a polynomial in sigma^(-1/2) through the exact matrix at Chebyshev nodes, one of them moved to
  the nominal sigma, in blocks of the fine bins and the final bins that they reach. Beyond `WIDTHS`, where one in
  ten thousand draws of the pulls lies, sigma stays at the end.

Bins below the least scintillation energy of the curves (0.5 MeV) are left out: what falls there is lost. An empty bin
stands at either end (`visible`), so that the cumulative histogram is constant beyond.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from nuppl.experiments.dayabay_exact import detector_scales
from nuppl.experiments.dayabay_release import Release
from nuppl.physics import response

__all__ = ["WIDTHS", "Chain", "chain", "reconstruct", "visible"]

WIDTHS = (0.2, 2.1)
"""Least and greatest sigma in units of the nominal one."""

_NARROW, _WIDE = (1.0 / math.sqrt(width) for width in WIDTHS)
_CENTER, _HALF = 0.5 * (_NARROW + _WIDE), 0.5 * (_NARROW - _WIDE)
_TERMS = 11
_BLOCKS = 5
_MARGIN = 4  # fine bins of visible energy into which the curves may bend events from above their beginning
_NOTHING = 1e-6  # coefficients of the resolution that may be left out


@dataclass(frozen=True, eq=False)
class Chain:
    """Constants of the response on F fine bins."""

    kept: Tensor  # (F,), diagonal of the energy loss
    lost: Tensor  # (F,), sum of the migrations out of a bin
    migrations: Tensor  # (F, F), from rows to columns
    inverse: Tensor  # (F + 1,), scintillation energy of each edge of visible energy
    slope: Tensor  # (F + 1,), of the nominal curve there
    bend: Tensor  # (F + 1,), half its second derivative
    deviation: Tensor  # (4, F + 1), of the non-linearity there
    deviation_slope: Tensor  # (4, F + 1)
    shares: Tensor  # (F, 3), of a, b and c in the nominal sigma^2
    smearing: Tensor  # (terms, F, E), coefficients of the powers of `_sharpness`


class _Block(NamedTuple):
    """Fine bins and the final bins that they reach, from `first`."""

    fine: int
    first: int
    last: int
    smearing: Tensor  # (terms, fine, last - first)


class _Arranged(NamedTuple):
    """The constants in F visible bins and at the edges of visible energy, energies in fine bins."""

    kept: Tensor
    lost: Tensor
    total: Tensor  # kept, or one where nothing is kept or lost
    migrations: Tensor
    edges: Tensor
    inverse: Tensor
    slope: Tensor
    bend: Tensor
    deviation: Tensor
    deviation_slope: Tensor
    shares: Tensor
    blocks: tuple[_Block, ...]


@functools.cache
def chain(release: Release) -> Chain:
    """The constants of a release."""
    kept = release.vessel.diagonal()
    return Chain(
        kept=kept,
        lost=release.vessel.sum(0) - kept,
        migrations=(release.vessel - torch.diag(kept)).T.contiguous(),
        **_curves(release),
        **_smearing(release),
    )


def visible(release: Release, fine: Tensor) -> Tensor:
    """Histograms in fine bins with shape (*, 240), from the least scintillation energy on, between two empty bins."""
    return pad(fine[..., _first(release) :], (1, 1))


def _first(release: Release) -> int:
    return int((release.fine_edges <= release.scintillator_energy[0]).sum()) - 1


@functools.cache
def _arranged(release: Release) -> _Arranged:
    at, width, first = chain(release), release.fine_edges[1], _first(release)
    kept, lost = visible(release, at.kept), visible(release, at.lost)
    seen = slice(first - _MARGIN, None)
    return _Arranged(
        kept=kept,
        lost=lost,
        total=torch.where(kept + lost == 0.0, 1.0, kept),
        migrations=visible(release, visible(release, at.migrations).mT).mT.contiguous(),
        edges=release.fine_edges[seen] / width,
        inverse=at.inverse[seen] / width - (first - 1),
        slope=at.slope[seen],
        bend=at.bend[seen] * width,
        deviation=at.deviation[:, seen] / width,
        deviation_slope=at.deviation_slope[:, seen],
        shares=at.shares[seen],
        blocks=_blocks(at.smearing[:, seen]),
    )


def reconstruct(release: Release, events: Tensor, values: Mapping[str, Tensor]) -> Tensor:
    """`visible` bins of deposited energy with shape (*, D, F) to the bins of the analysis (*, D, E)."""
    at, scale = _arranged(release), detector_scales(release, values)[1]
    events = _lose(at, events, 1.0 + release.relative_errors["energy_loss"] * values["energy_loss"])
    events = _bend(at, events, _positions(at, scale, values["nonlinearity"]))
    powers = _powers(_sharpness(at.shares, release.resolution[:, 1], values["resolution"]))
    total = torch.zeros((), dtype=torch.float64)
    sizes = [block.fine for block in at.blocks]
    for block, part, power in zip(at.blocks, events.split(sizes, -1), powers.split(sizes, 1), strict=True):
        reached = part @ torch.einsum("tf...,tfe->...fe", power, block.smearing)
        total = total + pad(reached, (block.first, len(release.centers) - block.last))
    return total


def _lose(at: _Arranged, events: Tensor, scale: Tensor) -> Tensor:
    scale = scale[..., None]
    shares = events / torch.addcmul(at.total, scale, at.lost)
    return torch.addcmul(at.kept * shares, scale, shares @ at.migrations)


def _positions(at: _Arranged, scale: Tensor, pulls: Tensor) -> Tensor:
    """The scintillation energy of each edge of visible energy, with shape (*, D, edges)."""
    steepness = at.slope + pulls @ at.deviation_slope
    rise, fall = at.edges / steepness, (at.edges + pulls @ at.deviation) / steepness  # a Newton step is rise / s - fall
    bend = at.bend / steepness
    curved = 2.0 * bend * rise * fall + rise
    coefficients = torch.stack([at.inverse - fall - bend * fall * fall, curved, -bend * rise * rise], dim=-2)
    inverse = 1.0 / scale
    return torch.stack([torch.ones_like(inverse), inverse, inverse * inverse], dim=-1) @ coefficients


def _bend(at: _Arranged, events: Tensor, position: Tensor) -> Tensor:
    """Events in fine bins of visible energy with shape (*, D, bins)."""
    bins = events.shape[-1]
    left = position.detach().long().clamp_(0, bins - 1)  # the ends are empty, and what lies beyond stays there
    shape = torch.broadcast_shapes(events.shape[:-1], left.shape[:-1])
    left, events = left.expand(*shape, -1), events.expand(*shape, -1)
    below = torch.addcmul(events.cumsum(-1).gather(-1, left), (position - left).sub_(1.0), events.gather(-1, left))
    return below.diff(dim=-1)


def _curves(release: Release) -> dict[str, Tensor]:
    """The non-linearity and its derivatives where the nominal curve meets the edges of visible energy."""
    energy, visible, edges = release.scintillator_energy, release.visible_energy, release.fine_edges
    left = (torch.searchsorted(visible[0].contiguous(), edges, right=True) - 1).clamp(1, len(energy) - 3)
    width = energy[left + 1] - energy[left]
    slopes = (visible[:, left + 1] - visible[:, left]) / width
    wide = 5  # grid steps on either side: the curve is a spline, whose second derivative is rough on its own grid
    before, after = (left - wide).clamp_min(0), (left + 1 + wide).clamp_max(len(energy) - 1)
    steep = (visible[0, after] - visible[0, after - 1]) / (energy[after] - energy[after - 1])
    flat = (visible[0, before + 1] - visible[0, before]) / (energy[before + 1] - energy[before])
    fraction = (edges - visible[0, left]) / (slopes[0] * width)
    inverse = energy[left] + fraction * width
    return {
        "inverse": inverse,
        "slope": slopes[0],
        "bend": 0.5 * (steep - flat) / (energy[after] - energy[before]),
        "deviation": visible[1:, left] + fraction * width * slopes[1:],
        "deviation_slope": slopes[1:],
    }


def _sharpness(shares: Tensor, errors: Tensor, pulls: Tensor) -> Tensor:
    """sigma^(-1/2) of each fine bin with shape (F, *), from -1 at the widest resolution to 1 at the narrowest."""
    changes = (1.0 + errors * pulls).square().movedim(-1, 0)
    variance: Tensor = torch.tensordot(shares, changes, dims=1)
    variance = variance.clamp(WIDTHS[0] ** 2, WIDTHS[1] ** 2)
    return variance.rsqrt().sqrt() / _HALF - _CENTER / _HALF


def _powers(x: Tensor) -> Tensor:
    """1, x, x^2, ... with shape (terms, *)."""
    powers = [torch.ones_like(x)]
    for _ in range(_TERMS - 1):
        powers.append(powers[-1] * x)
    return torch.stack(powers)


def _smearing(release: Release) -> dict[str, Tensor]:
    """The resolution matrix, transposed, as a polynomial for each fine bin."""
    nominal, edges = release.resolution[:, 0], release.fine_edges
    centers = 0.5 * (edges[1:] + edges[:-1])
    variance = nominal.square() * torch.stack([centers.square(), centers, torch.ones_like(centers)], dim=-1)
    sharpness = _CENTER + _HALF * (math.pi * (torch.arange(_TERMS, dtype=torch.float64) + 0.5) / _TERMS).cos()
    sharpness[(sharpness - 1.0).abs().argmin()] = 1.0
    widths = torch.outer(nominal, sharpness**-2)
    matrices = (response.rebinning(edges, release.edges) @ response.resolution(edges, *widths)).mT
    rows = torch.linalg.solve(_powers((sharpness - _CENTER) / _HALF).T, matrices.flatten(1))
    rows = torch.where(rows.abs().amax(0) > _NOTHING, rows, 0.0)
    return {"shares": variance / variance.sum(-1, keepdim=True), "smearing": rows.unflatten(-1, matrices.shape[1:])}


def _blocks(smearing: Tensor) -> tuple[_Block, ...]:
    """Coefficients (terms, F, E) in blocks."""
    blocks = []
    for part in smearing.tensor_split(_BLOCKS, dim=1):
        reached = part.abs().amax((0, 1)).nonzero()[:, 0]
        first, last = int(reached[0]), int(reached[-1]) + 1
        blocks.append(_Block(part.shape[1], first, last, part[:, :, first:last].contiguous()))
    return tuple(blocks)
