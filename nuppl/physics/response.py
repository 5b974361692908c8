r"""From deposited to reconstructed energy: four matrices on histograms, applied one after the other.

    N_rec = B R(sigma) C(f) A(s) N_dep

A moves events to lower energy where the positron or its annihilation photons lose energy in passive material (the
acrylic vessel); C maps scintillation energy to visible energy f(E), bin contents taken as flat; R is the Gaussian
resolution sigma^2 = a^2 E^2 + b^2 E + c^2; B adds fine bins up to the analysis bins. All matrices have shape
(*, out, in), act from the left and are differentiable in their parameters. The order is that of the Daya Bay analysis
(F. P. An et al., Phys. Rev. D 95, 072006 (2017), section V).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nuppl.errors import InputError

__all__ = ["energy_loss", "nonlinearity", "rebinning", "resolution"]


def energy_loss(matrix: Tensor, scale: Tensor) -> Tensor:
    """Scale the migrations (all but the diagonal) and normalise each column again.

    Arguments:
        matrix: fraction of the events of bin j that end in bin i, with shape (bins, bins).
        scale: of the migrations with shape (*,), 1 for the matrix as it is.
    """
    kept = torch.diag_embed(matrix.diagonal())
    scaled = kept + scale[..., None, None] * (matrix - kept)
    total = scaled.sum(-2, keepdim=True)
    return scaled / torch.where(total == 0.0, 1.0, total)


def nonlinearity(edges: Tensor, energy: Tensor, visible: Tensor) -> Tensor:
    """Map bins of scintillation energy to bins of visible energy along a monotone curve.

    Arguments:
        edges: of both axes with shape (bins + 1,), in MeV.
        energy: abscissae of the curve, ascending with shape (k,), in MeV.
        visible: visible energy there with shape (*, k), ascending, in MeV.

    Returns:
        fractions of each scintillation bin with shape (*, bins, bins); what lies off the curve is lost.
    """
    back = _inverse(edges, energy, visible)
    low = torch.maximum(back[..., :-1, None], edges[:-1])
    high = torch.minimum(back[..., 1:, None], edges[1:])
    return (high - low).clamp_min(0.0) / edges.diff()


def _inverse(target: Tensor, energy: Tensor, visible: Tensor) -> Tensor:
    """Energies at which the curve reaches `target`, with shape (*, n); the ends of the curve beyond its range."""
    goal = target.expand(*visible.shape[:-1], len(target)).contiguous()
    left = (torch.searchsorted(visible.detach().contiguous(), goal, right=True) - 1).clamp(0, len(energy) - 2)
    y0, y1 = visible.gather(-1, left), visible.gather(-1, left + 1)
    fraction = ((goal - y0) / (y1 - y0)).clamp(0.0, 1.0)
    return energy[left] + fraction * (energy[left + 1] - energy[left])


def resolution(edges: Tensor, nonuniformity: Tensor, statistics: Tensor, noise: Tensor) -> Tensor:
    """Gaussian smearing between bin centres, with shape (*, bins, bins).

    Arguments:
        edges: with shape (bins + 1,), in MeV.
        nonuniformity: a with shape (*,).
        statistics: b with shape (*,), in MeV^(1/2).
        noise: c with shape (*,), in MeV.
    """
    centers = 0.5 * (edges[1:] + edges[:-1])
    a, b, c = (value[..., None] for value in (nonuniformity, statistics, noise))
    sigma = (a**2 * centers**2 + b**2 * centers + c**2).sqrt()[..., None, :]
    distance = (centers[:, None] - centers) / sigma
    return (-0.5 * distance**2).exp() * (edges.diff()[:, None] / math.sqrt(2.0 * math.pi)) / sigma


def rebinning(fine: Tensor, coarse: Tensor) -> Tensor:
    """Sum fine bins into coarse ones, with shape (coarse bins, fine bins).

    Raises:
        InputError: a coarse edge that is not an edge of the fine bins.
    """
    nearest = (coarse[:, None] - fine).abs().min(-1)
    if bool((nearest.values > 1e-9).any()):
        wrong = coarse[nearest.values > 1e-9].tolist()
        raise InputError(f"coarse: expected edges among those of the fine bins, got {wrong}: choose edges on the grid")
    first = torch.arange(len(fine) - 1, device=fine.device)
    inside = (first >= nearest.indices[:-1, None]) & (first < nearest.indices[1:, None])
    return inside.to(fine.dtype)
