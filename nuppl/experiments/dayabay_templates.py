r"""Templates of Daya Bay: everything that does not change from point to point, folded once.

    A(P, S)   counts for survival probability P and spectrum correction S: bilinear, exact, even Chebyshev in dm2
    F_g(P, S) relative change with feature g of the response (`dayabay_expansion`), and F_gh its second order
    H_k       relative change with the spectrum of an isotope at a knot, as a product of few singular vectors
    H_gk      its dependence on the response
    Y_l       relative change with fissions per reactor and isotope, non-equilibrium and spent fuel

F_gh, H and Y stand at the point of expansion (P_0, S_0): the release's default oscillation, and the correction that then
describes the counts best. `dayabay_linear` puts them together.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nuppl.experiments import dayabay_expansion as expansion
from nuppl.experiments.dayabay_exact import background, sin2
from nuppl.experiments.dayabay_release import Release
from nuppl.experiments.dayabay_sources import WITH_NONEQUILIBRIUM, Tables, fissions, tables
from nuppl.experiments.dayabay_systematics import Pulls, lanes_of
from nuppl.physics.oscillation import ThreeFlavor, survival_terms
from nuppl.physics.templates import chebyshev_coefficients, chebyshev_nodes, even_chebyshev

__all__ = ["COUNT", "LIMIT", "Templates", "basis", "default_mixing", "emitted", "fold", "templates"]

LIMIT = 5e-3
"""Greatest splitting of the Chebyshev templates, in eV^2."""

COUNT = 14
"""Even Chebyshev polynomials; the truncation error of sin^2 is 2e-9."""

_SINGULAR = 1e-3  # relative size of the singular values of H to keep
_DEFAULT = {"sin2_2theta13": 0.0856, "dm2_32": 2.453e-3}  # of the release


@dataclass(frozen=True, eq=False)
class Templates:
    """Axes: M polynomials after the unoscillated term, C spectrum components (19 knots, remainder), F features.

    D detectors and E bins are always the last two axes, I isotopes, R reactors.
    """

    counts: Tensor  # (1 + M, C, D, E)
    by_spectrum: Tensor  # (C, 1 + F, D, E) at P_0: counts and their changes
    by_mixing: Tensor  # (1 + M, 1 + F, D, E) at S_0
    at_expansion: Tensor  # (F, D, E)
    second: Tensor  # (pairs, D, E)
    shifted: Tensor  # (D, E, shifts): counts above each lower edge that a shift adds beyond second order
    reference: Tensor  # (D, E): A(P_0, S_0)
    knots_in: Tensor  # (I, K, rank)
    knots_out: Tensor  # (I, rank, D, E)
    knots_response: Tensor  # (I * rank, F, D, E): H_gk - F_g H_k
    reactors: Tensor  # (L, D, E)
    shares: Tensor  # (D, I, R): of each reactor in what a detector sees from an isotope
    fissions: Tensor  # (R, I), central
    correction: Tensor  # (19,), S_0 - 1
    matrices: Tensor  # (1 + F, E, n): response features times kernel


def basis(weights: Tensor, splittings: Tensor) -> Tensor:
    """Coefficients (1, -sum_p w_p T_2m(dm2_p)) of the templates with shape (*, 1 + M); NaN beyond the limit."""
    polynomials = (weights[..., None] * even_chebyshev(splittings, LIMIT, COUNT)).sum(-2)
    return torch.cat([torch.ones_like(polynomials[..., :1]), -polynomials], dim=-1)


def default_mixing(release: Release) -> ThreeFlavor:
    """The oscillation at which the release's parameters stand."""
    sin2_2theta12, dm2_21 = release.solar["sin2_2theta12"][0], release.solar["dm2_21"][0]
    return ThreeFlavor(sin2_theta12=0.5 * (1.0 - math.sqrt(1.0 - sin2_2theta12)), dm2_21=dm2_21, **_DEFAULT)


@functools.cache
def templates(release: Release) -> Templates:
    """The templates of a release, folded when first asked for."""
    return fold(release)


def fold(release: Release) -> Templates:
    """All templates, from the quadrature of `dayabay_sources` and the response of `dayabay_expansion`; a few seconds."""
    at, values = tables(release), lanes_of(release, Pulls())
    burned, knots = fissions(release, values), at.correction
    waves = _waves(release, at)
    carried = tuple(torch.einsum("drn,mdrn->mdn", part, waves) for part in emitted(at, burned))
    expanded = expansion.matrices(release)
    shifted = expansion.shift_matrices(release, *expanded)
    first, second, third = (matrix @ at.quadrature.kernel for matrix in (*expanded, shifted))
    counts = _counts(first[0], knots, *carried)
    default = basis(*survival_terms(default_mixing(release)))
    correction = _correction(release, torch.tensordot(default, counts, dims=1), background(release, values))
    shape = 1.0 + knots @ correction
    total = carried[0] * shape + carried[1]
    at_default = [torch.tensordot(default, part, dims=1) for part in (*carried, total)]
    reference = torch.einsum("gen,dn->gde", first, at_default[2])
    shares = torch.einsum("drn,ri,in->drin", at.exposure[..., None] * torch.tensordot(default, waves, dims=1), burned, at.spectra * shape)
    survival = torch.tensordot(default, waves, dims=1)
    return Templates(
        counts=counts,
        by_spectrum=torch.cat(
            [
                torch.einsum("gen,nc,dn->cgde", first, knots, at_default[0]),
                torch.einsum("gen,dn->gde", first, at_default[1])[None],
            ]
        ),
        by_mixing=torch.einsum("gen,mdn->mgde", first, total),
        at_expansion=reference[1:] / reference[0],
        second=torch.einsum("gen,dn->gde", second, at_default[2]) / reference[0],
        shifted=torch.einsum("gen,dn->deg", third, at_default[2]).contiguous(),
        reference=reference[0],
        **_knots(at, first, shares.sum(1), reference),
        reactors=_reactors(at, first[0], burned, shares, survival) / reference[0],
        shares=_shares(shares, first[0]),
        fissions=burned,
        correction=correction,
        matrices=first,
    )


def emitted(at: Tables, burned: Tensor) -> tuple[Tensor, Tensor]:
    """Flux times exposure that follows the spectrum correction, and that does not, each with shape (D, R, n)."""
    equilibrium = at.exposure[..., None] * (burned @ at.spectra)
    excess = burned[:, WITH_NONEQUILIBRIUM] @ at.nonequilibrium
    return equilibrium, at.exposure[..., None] * excess + at.exposure_time[..., None] * at.spent_fuel


def _waves(release: Release, at: Tables) -> Tensor:
    """One, then the Chebyshev coefficients of sin^2 in dm2, with shape (1 + M, D, R, n)."""
    values = sin2(release, at, chebyshev_nodes(LIMIT, COUNT))
    return torch.cat([torch.ones_like(values[:1]), chebyshev_coefficients(values)])


def _counts(matrix: Tensor, knots: Tensor, equilibrium: Tensor, remainder: Tensor) -> Tensor:
    """A with shape (1 + M, C, D, E)."""
    first = torch.einsum("en,nc,mdn->mcde", matrix, knots, equilibrium)
    return torch.cat([first, torch.einsum("en,mdn->mde", matrix, remainder)[:, None]], dim=1)


def _correction(release: Release, counts: Tensor, backgrounds: Tensor) -> Tensor:
    """S - 1 at the knots that describes the counts best: weighted least squares, with shape (19,)."""
    weight = release.counts.rsqrt().flatten()
    target = (release.counts - backgrounds - counts.sum(0)).flatten() * weight
    design = counts[:-1].flatten(1) * weight
    return torch.linalg.lstsq(design.T, target[:, None]).solution[:, 0]


def _knots(at: Tables, first: Tensor, isotopes: Tensor, reference: Tensor) -> dict[str, Tensor]:
    """H and H_g - F_g H per isotope; the detectors resolve far fewer shapes than there are knots."""
    full = torch.einsum("gen,nk,din->ikgde", first, at.knots, isotopes) / reference[0]
    full[:, :, 1:] -= full[:, :, :1] * (reference[1:] / reference[0])
    left, singular, right = torch.linalg.svd(full.flatten(2), full_matrices=False)
    rank = int((singular > _SINGULAR * singular.max()).sum(-1).max())
    right = right[:, :rank].unflatten(-1, full.shape[2:])
    return {
        "knots_in": left[..., :rank] * singular[:, None, :rank],
        "knots_out": right[:, :, 0].contiguous(),
        "knots_response": right[:, :, 1:].flatten(0, 1).contiguous(),
    }


def _reactors(at: Tables, matrix: Tensor, burned: Tensor, shares: Tensor, survival: Tensor) -> Tensor:
    """Counts from each isotope of each reactor, their non-equilibrium part, and spent fuel, with shape (L, D, E)."""
    exposure = at.exposure[..., None] * survival
    excess = torch.einsum("drn,ri,in->drin", exposure, burned[:, WITH_NONEQUILIBRIUM], at.nonequilibrium)
    spent = (at.exposure_time[..., None] * survival * at.spent_fuel)[:, :, None]
    sources = torch.cat([part.flatten(1, 2) for part in (shares, excess, spent)], dim=1)
    return torch.einsum("en,dln->lde", matrix, sources)


def _shares(shares: Tensor, matrix: Tensor) -> Tensor:
    counts = torch.einsum("en,drin->dir", matrix, shares)
    return counts / counts.sum(-1, keepdim=True)
