r"""The response of Daya Bay's detectors for many points at once, as fast as a template and without linearising.

The four matrices of `physics.response` act here without being built for each point:

- energy loss: one matrix product with the migrations, and the renormalisation in closed form;
- non-linearity and energy scale s: events below an edge of visible energy are the cumulative histogram at the matching
  scintillation energy, which second-order Newton finds from the nominal one, s (y_0 + sum_k a_k y_k)(E) = E_edge, as a
  quadratic function of 1/s;
- resolution and final bins: a polynomial in the relative changes of a^2 and c^2 and in the pull of b, fitted to the
  exact matrix over three standard deviations, in blocks of the fine bins and the final bins that they reach.

Bins below the least scintillation energy of the curves (0.5 MeV) are left out: what falls there is lost. An empty bin
stands at either end (`visible`), so that the cumulative histogram is constant beyond.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from nuppl.experiments.dayabay_exact import detector_scales
from nuppl.experiments.dayabay_release import Release
from nuppl.physics import response

__all__ = ["Chain", "chain", "reconstruct", "visible"]

_POWERS = (8, 5, 3)  # greatest power of b beside zero, one and two factors of a and c
_SAMPLES = 600
_BLOCKS = 4
_MARGIN = 4  # fine bins of visible energy into which the curves may bend events from above their beginning
_NOTHING = 1e-13  # entries of the resolution matrix that may be left out


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
    smearing: Tensor  # (features, F * E)


class _Block(NamedTuple):
    """Edges of fine bins and the final bins that they reach, from `first`."""

    edges: int
    first: int
    bins: int
    smearing: Tensor  # (features, edges * bins)


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
        smearing=_smearing(release),
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
        blocks=_blocks(at.smearing.reshape(len(at.smearing), len(at.kept), -1)[:, seen]),
    )


def reconstruct(release: Release, events: Tensor, values: Mapping[str, Tensor]) -> Tensor:
    """`visible` bins of deposited energy with shape (*, D, F) to the bins of the analysis (*, D, E)."""
    at, scale = _arranged(release), detector_scales(release, values)[1]
    events = _lose(at, events, 1.0 + release.relative_errors["energy_loss"] * values["energy_loss"])
    below = _bend(at, events, _positions(at, scale, values["nonlinearity"]))
    features = _features(*_resolution_variables(release, values["resolution"]))
    total = torch.zeros((), dtype=torch.float64)
    for block, part in zip(at.blocks, below.split([block.edges for block in at.blocks], -1), strict=True):
        reached = part @ (features @ block.smearing).unflatten(-1, (block.edges, block.bins))
        total = total + pad(reached, (block.first, len(release.centers) - block.first - block.bins))
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
    """Events below each edge of visible energy with shape (*, D, edges)."""
    bins = events.shape[-1]
    left = position.detach().long().clamp_(0, bins - 1)  # the ends are empty, and what lies beyond stays there
    shape = torch.broadcast_shapes(events.shape[:-1], left.shape[:-1])
    left, events = left.expand(*shape, -1), events.expand(*shape, -1)
    return torch.addcmul(events.cumsum(-1).gather(-1, left), (position - left).sub_(1.0), events.gather(-1, left))


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


def _resolution_variables(release: Release, pulls: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Relative changes of a^2 and c^2, and the pull of b, each with shape (*,)."""
    errors = release.resolution[:, 1]
    a, b, c = pulls.unbind(-1)
    return (1.0 + errors[0] * a).square() - 1.0, b, (1.0 + errors[2] * c).square() - 1.0


def _features(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Monomials a^i c^j b^k with shape (*, features), one first."""
    powers = [torch.ones_like(b)]
    for _ in range(_POWERS[0]):
        powers.append(powers[-1] * b)
    basis = torch.stack(powers, dim=-1)
    terms = [basis]
    for factors, top in zip(((a, c), (a * a, a * c, c * c)), _POWERS[1:], strict=True):
        terms += [factor[..., None] * basis[..., : top + 1] for factor in factors]
    return torch.cat(terms, dim=-1)


def _smearing(release: Release) -> Tensor:
    """Coefficients of the resolution matrix, transposed, in the monomials: least squares, exact at zero."""
    points = 3.0 * (2.0 * torch.quasirandom.SobolEngine(3).draw(_SAMPLES, dtype=torch.float64) - 1.0)
    points = torch.cat([torch.zeros(1, 3, dtype=torch.float64), points[(points.square().sum(-1) < 10.0)]])
    collect = response.rebinning(release.fine_edges, release.edges)
    terms = release.resolution[:, 0] * (1.0 + release.resolution[:, 1] * points)
    matrices = (collect @ response.resolution(release.fine_edges, *terms.unbind(-1))).mT.flatten(1)
    design = _features(*_resolution_variables(release, points))
    weight = (-0.25 * points.square().sum(-1)).exp().sqrt()[1:, None]
    rest = torch.linalg.lstsq(design[1:, 1:] * weight, (matrices[1:] - matrices[0]) * weight).solution
    return torch.cat([matrices[:1], rest])


def _blocks(smearing: Tensor) -> tuple[_Block, ...]:
    """Coefficients (features, F, E) of fine bins as those of cumulative events at their edges, in blocks."""
    smearing = torch.where(smearing.abs().amax(0) > _NOTHING, smearing, 0.0)
    edges = pad(smearing, (0, 0, 1, 0)) - pad(smearing, (0, 0, 0, 1))
    blocks = []
    for part in edges.tensor_split(_BLOCKS, dim=1):
        reached = part.abs().amax((0, 1)).nonzero()[:, 0]
        first, last = int(reached[0]), int(reached[-1])
        chosen = part[:, :, first : last + 1]
        blocks.append(_Block(chosen.shape[1], first, chosen.shape[2], chosen.flatten(1)))
    return tuple(blocks)
