r"""The response of Daya Bay's detectors for many points at once, as fast as a template and without linearising.

The four matrices of `physics.response` act here without being built for each point:

- energy loss: one matrix product with the migrations, and the renormalisation in closed form;
- non-linearity and energy scale: events below an edge of visible energy are the cumulative histogram at the matching
  scintillation energy, which second-order Newton finds from the nominal one: s (y_0 + sum_k a_k y_k)(E) = E_edge;
- resolution and final bins: a polynomial in the relative changes of a^2 and c^2 and in the pull of b, fitted to the
  exact matrix over three standard deviations.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from nuppl.experiments.dayabay_exact import detector_scales
from nuppl.experiments.dayabay_release import Release
from nuppl.physics import response

__all__ = ["Chain", "chain", "reconstruct"]

_POWERS = (8, 5, 3)  # greatest power of b beside zero, one and two factors of a and c
_SAMPLES = 600


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


def reconstruct(release: Release, events: Tensor, values: Mapping[str, Tensor]) -> Tensor:
    """Fine bins of deposited energy (*, D, F) to the bins of the analysis (*, D, E)."""
    constants = chain(release)
    scale = detector_scales(release, values)[1]
    events = _lose(constants, events, 1.0 + release.relative_errors["energy_loss"] * values["energy_loss"])
    events = _bend(release, constants, events, scale, values["nonlinearity"])
    features = _features(*_resolution_variables(release, values["resolution"]))
    matrix = features @ constants.smearing
    return events @ matrix.reshape(*matrix.shape[:-1], len(constants.kept), -1)


def _lose(constants: Chain, events: Tensor, scale: Tensor) -> Tensor:
    total = constants.kept + scale[..., None] * constants.lost
    shares = events / torch.where(total == 0.0, 1.0, total)
    return constants.kept * shares + scale[..., None] * (shares @ constants.migrations)


def _bend(release: Release, constants: Chain, events: Tensor, scale: Tensor, pulls: Tensor) -> Tensor:
    """Fine bins of visible energy with shape (*, D, F)."""
    edges = release.fine_edges
    deviation = (pulls @ constants.deviation)[..., None, :]
    steepness = constants.slope + (pulls @ constants.deviation_slope)[..., None, :]
    step = (edges / scale[..., None] - edges - deviation) / steepness
    source = constants.inverse + step - constants.bend * step.square() / steepness
    source = source.clamp(float(release.scintillator_energy[0]), float(edges[-1]))
    below = torch.nn.functional.pad(events.cumsum(-1), (1, 0))
    position = source / float(edges[1] - edges[0])
    left = position.detach().floor().clamp(0, len(edges) - 2).long()
    shape = torch.broadcast_shapes(below.shape[:-1], left.shape[:-1])
    left, below = left.expand(*shape, -1), below.expand(*shape, -1)
    lower, upper = below.gather(-1, left), below.gather(-1, left + 1)
    return (lower + (position - left) * (upper - lower)).diff(dim=-1)


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
    terms = []
    for factors, top in zip(((powers[0],), (a, c), (a * a, a * c, c * c)), _POWERS, strict=True):
        terms += [factor * power for factor in factors for power in powers[: top + 1]]
    return torch.stack(terms, dim=-1)


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
