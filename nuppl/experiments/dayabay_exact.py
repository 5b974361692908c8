"""The prediction of Daya Bay with every systematic as it is: the reference for the templates.

    mu_d = eps_d B R C_d A_d int dE K(E) sum_r dN_dr/dE P_ee(L_dr / E) + backgrounds

from the flux (`dayabay_sources`), the inverse-beta-decay kernel K and the response matrices. Slower than the templates
by a factor of some hundred, and valid for any splitting: phases are averaged between the nodes (`physics.filon`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from nuppl.experiments.dayabay_release import PERIODS, Release
from nuppl.experiments.dayabay_sources import Tables, flux, tables
from nuppl.experiments.dayabay_systematics import Pulls, by_lane, lanes_of
from nuppl.physics import response
from nuppl.physics.filon import node_phases
from nuppl.physics.oscillation import Mixing, survival_terms
from nuppl.units import OSCILLATION_PHASE

__all__ = [
    "background",
    "deposited",
    "detector_scales",
    "expected",
    "response_matrices",
    "response_matrix",
    "sin2",
    "survival_by_lane",
]


def expected(release: Release, mixing: Mixing, pulls: Pulls, order: int | tuple[int, int] = 3) -> Tensor:
    """Expected counts with shape (*batch, 1, 1, 8, 26), or (8, 26) without batch.

    Arguments:
        release: the data release.
        mixing: of three or more flavors, parameters with shape (*batch, 1, 1, 1, 1) or ().
        pulls: the systematics.
        order: nodes per segment of the quadrature, or (energy, cosine) nodes of a plain product rule.
    """
    values = lanes_of(release, pulls)
    events = deposited(release, mixing, values, order)
    matrix, efficiency = response_matrices(release, values), detector_scales(release, values)[0]
    counts = efficiency[..., None] * (matrix @ events[..., None])[..., 0] + background(release, values)
    return counts if counts.ndim == 2 else counts[..., None, None, :, :]


def survival_by_lane(mixing: Mixing) -> tuple[Tensor, Tensor]:
    """Weights and splittings of the survival probability with shape (*batch, P)."""
    return tuple(  # type: ignore[return-value]
        torch.stack([by_lane(term, {}, "mixing") for term in terms.unbind(-1)], dim=-1)
        for terms in survival_terms(mixing)
    )


def deposited(
    release: Release, mixing: Mixing, values: Mapping[str, Tensor], order: int | tuple[int, int] = 3
) -> Tensor:
    """Events in fine bins of deposited energy, with shape (*batch, 8, 240)."""
    at = tables(release, order)
    weights, splittings = survival_by_lane(mixing)
    survival = torch.ones((), dtype=torch.float64)
    for weight, splitting in zip(weights.unbind(-1), splittings.unbind(-1), strict=True):
        survival = survival - weight[..., None, None, None] * sin2(release, at, splitting)
    arriving = (flux(release, at, values) * survival).sum(-2)
    return arriving @ at.quadrature.kernel.T


def sin2(release: Release, at: Tables, splitting: Tensor) -> Tensor:
    """sin^2 of the phase for each detector, reactor and node, averaged around the node: shape (*, 8, 6, n)."""
    quadrature, split = at.quadrature, splitting[..., None, None]
    if len(quadrature.borders):
        order = len(quadrature.energy) // (len(quadrature.borders) - 1)
        return 0.5 * (1.0 - node_phases(quadrature.borders, order, release.baselines, split)[0])
    turns = (OSCILLATION_PHASE / math.pi) * split[..., None] * release.baselines[..., None] / quadrature.energy
    return (turns.frac() * math.pi).sin().square()


def detector_scales(release: Release, values: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Relative efficiency and energy scale of each detector, each with shape (*batch, 8)."""
    normal = torch.stack([values["efficiency"], values["energy_scale"]], dim=-1)
    scales = 1.0 + normal @ release.correlations["detector_relative"].T
    return scales[..., 0], scales[..., 1]


def response_matrices(release: Release, values: Mapping[str, Tensor]) -> Tensor:
    """From deposited energy (240 bins) to the bins of the analysis (26), with shape (*batch, 8, 26, 240)."""
    scale = detector_scales(release, values)[1]
    terms = values["nonlinearity"][..., None, :], values["resolution"][..., None, :]
    return response_matrix(release, scale, values["energy_loss"], *terms)


def response_matrix(release: Release, scale: Tensor, loss: Tensor, nonlinearity: Tensor, resolution: Tensor) -> Tensor:
    """The same for scales (*,) and pulls of the vessel (*,), the non-linearity (*, 4) and the resolution (*, 3)."""
    edges = release.fine_edges
    moved = response.energy_loss(release.vessel, 1.0 + release.relative_errors["energy_loss"] * loss)
    visible = release.visible_energy[0] + nonlinearity @ release.visible_energy[1:]
    bent = response.nonlinearity(edges, release.scintillator_energy, scale[..., None] * visible)
    terms = release.resolution[:, 0] * (1.0 + release.resolution[:, 1] * resolution)
    collected = response.rebinning(edges, release.edges) @ response.resolution(edges, *terms.unbind(-1))
    return collected @ bent @ moved


def background(release: Release, values: Mapping[str, Tensor]) -> Tensor:
    """Expected background counts with shape (*batch, 8, 26)."""
    active, halls = release.active, list(release.halls)
    total = torch.zeros((), dtype=torch.float64)
    for kind, counts in release.backgrounds.items():
        value = values[kind]
        if kind in ("accidentals", "alpha_neutron"):
            per_run = value.new_zeros(*value.shape[:-1], *active.shape)
            per_run[..., active] = value
        elif kind == "amc":
            per_run = value[..., None, None].expand(*value.shape, len(PERIODS), len(halls))
        else:
            per_run = value[..., halls]
        factor = 1.0 + release.background_errors[kind] * per_run
        total = total + torch.einsum("...pd,pde->...de", factor, counts)
    return total
