r"""Templates of Daya Bay: everything that does not change from point to point, folded once.

The expected counts factorise, to the accuracy stated in `dayabay_linear`, into

    mu = eps A(P, S) (1 + sum_g z_g [F_g(P_0, S) + F_g(P, S_0) - F_g(P_0, S_0)]) (1 + sum_k u_k H_k) (1 + sum_l y_l Y_l) + B

    A    counts for survival probability P and spectrum correction S: bilinear, exact, even Chebyshev in dm2
    F_g  relative change with a parameter z_g of the response: energy scale, non-linearity, resolution, vessel
    H_k  relative change with the spectrum of an isotope at a knot, compressed to its significant singular vectors
    Y_l  relative change with fissions per reactor and isotope, non-equilibrium and spent fuel

(P_0, S_0) is the point of expansion: the release's default oscillation, and the correction that then describes the
counts best. The parameters z, u and y are the exact non-linear functions of the pulls (`dayabay_sources`).
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nuppl.experiments.dayabay_exact import background, detector_scales, response_matrices, sin2
from nuppl.experiments.dayabay_release import ISOTOPES, NONEQUILIBRIUM, REACTORS, Release
from nuppl.experiments.dayabay_sources import Tables, fissions, tables
from nuppl.experiments.dayabay_systematics import Pulls, lanes_of
from nuppl.physics.oscillation import ThreeFlavor, survival_terms
from nuppl.physics.templates import chebyshev_coefficients, chebyshev_nodes, even_chebyshev

__all__ = ["COUNT", "LIMIT", "RESPONSE", "Templates", "basis", "fold", "response_parameters", "templates"]

LIMIT = 5e-3
"""Greatest splitting of the Chebyshev templates, in eV^2."""

COUNT = 14
"""Even Chebyshev polynomials; the truncation error of sin^2 is 2e-9."""

RESPONSE = ("energy_scale", "energy_loss", "lsnl0", "lsnl1", "lsnl2", "lsnl3", "nonuniformity", "statistics", "noise")
"""The parameters z of the response; the first two belong to one detector each."""

_SINGULAR = 1e-5  # relative size of singular values of H to keep
_DEFAULT = {"sin2_2theta13": 0.0856, "dm2_32": 2.453e-3}  # of the release


@dataclass(frozen=True, eq=False)
class Templates:
    """Axes: M polynomials and the unoscillated term, C spectrum components (19 knots, remainder), G response parameters.

    D detectors and E bins are always the last two axes.
    """

    counts: Tensor  # (M + 1, C, D, E)
    by_spectrum: Tensor  # (C, 1 + G, D, E) at P_0: counts and their changes
    by_mixing: Tensor  # (M + 1, 1 + G, D, E) at S_0
    at_expansion: Tensor  # (G, D, E), F_g(P_0, S_0)
    knots_in: Tensor  # (I K, rank)
    knots_out: Tensor  # (rank, D, E)
    reactors: Tensor  # (L, D, E)
    unoscillated: Tensor  # (C, D, E)
    correction: Tensor  # (19,), S_0 - 1
    fissions: Tensor  # (R, I), central


def basis(weights: Tensor, splittings: Tensor) -> Tensor:
    """Coefficients (1, -sum_p w_p T_2m(dm2_p)) of the templates with shape (*, M + 1); NaN beyond the limit."""
    polynomials = (weights[..., None] * even_chebyshev(splittings, LIMIT, COUNT)).sum(-2)
    return torch.cat([torch.ones_like(polynomials[..., :1]), -polynomials], dim=-1)


def response_parameters(release: Release, values: dict[str, Tensor]) -> Tensor:
    """z with shape (*, G, D): energy scale, vessel and non-linearity in standard deviations, change of a^2, b^2, c^2.

    The resolution enters through the variance, in which its effect is linear to 1e-3 for changes of 30 % in a, b or c.
    """
    scale = (detector_scales(release, values)[1] - 1.0) / release.correlations["detector_relative"][1].norm()
    own = torch.stack(torch.broadcast_tensors(scale, values["energy_loss"]), dim=-2)
    variance = (1.0 + release.resolution[:, 1] * values["resolution"]).square() - 1.0
    common = torch.cat(torch.broadcast_tensors(values["nonlinearity"], variance[..., :1])[:1] + (variance,), dim=-1)
    common = common[..., None].expand(*common.shape, len(release.detectors))
    return torch.cat([own, common.expand(*own.shape[:-2], *common.shape[-2:])], dim=-2)
