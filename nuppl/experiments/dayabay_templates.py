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


@functools.cache
def templates(release: Release) -> Templates:
    """Fold once; takes a second."""
    return fold(release)


def fold(release: Release) -> Templates:
    """All templates from the quadrature of `dayabay_sources` and the response of `dayabay_exact`."""
    at, values = tables(release), lanes_of(release, Pulls())
    burned = fissions(release, values)
    components = torch.cat([at.correction, torch.ones_like(at.correction[:, :1])], dim=-1)
    waves = _waves(release, at)
    equilibrium, remainder = _emitted(at, burned)
    carried = torch.einsum("drn,mdrn->mdn", equilibrium, waves), torch.einsum("drn,mdrn->mdn", remainder, waves)
    matrices = _responses(release) @ at.quadrature.kernel
    counts = _by_component(matrices[:1], components, carried)[:, :, 0]
    default = basis(*survival_terms(default_mixing(release)))
    correction = _correction(release, torch.tensordot(default, counts, dims=1), background(release, values))
    spectrum = torch.cat([1.0 + correction, torch.ones(1, dtype=torch.float64)])
    by_mixing = _by_component(matrices, (components[:, :-1] @ spectrum[:-1])[:, None], carried).sum(1)
    at_default = tuple(torch.tensordot(default, part, dims=1)[None] for part in carried)
    by_spectrum = _by_component(matrices, components, at_default)[0]
    reference = torch.tensordot(spectrum, by_spectrum, dims=1)
    survival = torch.tensordot(default, waves, dims=1)
    knots, reactors = _reweighting(at, burned, components[:, :-1] @ spectrum[:-1], survival, matrices[0], reference[0])
    knots_in, knots_out = _compress(knots)
    return Templates(
        counts=counts,
        by_spectrum=by_spectrum,
        by_mixing=by_mixing,
        at_expansion=reference[1:] / reference[0],
        knots_in=knots_in,
        knots_out=knots_out,
        reactors=reactors,
        unoscillated=counts[0],
        correction=correction,
        fissions=burned,
    )


def default_mixing(release: Release) -> ThreeFlavor:
    """The oscillation at which the release's parameters stand."""
    sin2_2theta12, dm2_21 = release.solar["sin2_2theta12"][0], release.solar["dm2_21"][0]
    return ThreeFlavor(sin2_theta12=0.5 * (1.0 - math.sqrt(1.0 - sin2_2theta12)), dm2_21=dm2_21, **_DEFAULT)


def _waves(release: Release, at: Tables) -> Tensor:
    """One, then the Chebyshev coefficients of sin^2 in dm2, with shape (M + 1, D, R, n)."""
    values = sin2(release, at, chebyshev_nodes(LIMIT, COUNT))
    return torch.cat([torch.ones_like(values[:1]), chebyshev_coefficients(values)])


def _emitted(at: Tables, burned: Tensor) -> tuple[Tensor, Tensor]:
    """Flux times exposure that follows the spectrum correction, and that does not, each with shape (D, R, n)."""
    excess = burned[:, [ISOTOPES.index(isotope) for isotope in NONEQUILIBRIUM]] @ at.nonequilibrium
    equilibrium = at.exposure[..., None] * (burned @ at.spectra)
    return equilibrium, at.exposure[..., None] * excess + at.exposure_time[..., None] * at.spent_fuel


def _by_component(matrices: Tensor, components: Tensor, carried: tuple[Tensor, ...]) -> Tensor:
    """Counts with shape (m, C, G, D, E); the last component of several carries the remainder.

    A single component is followed by the remainder, so that C is 2.
    """
    equilibrium, remainder = carried
    knots = components[:, :-1] if components.shape[-1] > 1 else components
    first = torch.einsum("gen,nc,mdn->mcgde", matrices, knots, equilibrium)
    return torch.cat([first, torch.einsum("gen,mdn->mgde", matrices, remainder)[:, None]], dim=1)


def _responses(release: Release) -> Tensor:
    """The response of one detector and its derivatives in z, with shape (1 + G, E, F)."""
    nominal = response_matrices(release, lanes_of(release, Pulls()))[0]
    derivatives = []
    for g, pulls in enumerate(zip(_shifted(1.0), _shifted(-1.0), strict=True)):
        values = [lanes_of(release, pull) for pull in pulls]
        upper, lower = (response_matrices(release, value)[0] for value in values)
        step = torch.subtract(*(response_parameters(release, value)[g, 0] for value in values))
        derivatives.append((upper - lower) / step)
    return torch.stack([nominal, *derivatives])


def _shifted(size: float) -> list[Pulls]:
    """One set of pulls per response parameter, that parameter alone moved."""

    def unit(length: int, index: int) -> Tensor:
        return size * torch.eye(length, dtype=torch.float64)[index].reshape(-1, 1, 1)

    one = torch.full((), size, dtype=torch.float64)
    return [
        Pulls(energy_scale=one),
        Pulls(energy_loss=one),
        *(Pulls(nonlinearity=unit(4, k)) for k in range(4)),
        *(Pulls(resolution=unit(3, k)) for k in range(3)),
    ]


def _correction(release: Release, counts: Tensor, backgrounds: Tensor) -> Tensor:
    """S - 1 at the knots that describes the counts best: weighted least squares, with shape (19,)."""
    weight = release.counts.rsqrt().flatten()
    target = (release.counts - backgrounds - counts.sum(0)).flatten() * weight
    design = counts[:-1].flatten(1) * weight
    return torch.linalg.lstsq(design.T, target[:, None]).solution[:, 0]


def _reweighting(
    at: Tables, burned: Tensor, correction: Tensor, survival: Tensor, matrix: Tensor, reference: Tensor
) -> tuple[Tensor, Tensor]:
    """Relative changes per knot of each isotope (I K, D, E), and per reactor (L, D, E)."""
    exposure = at.exposure[..., None] * survival
    shares = torch.einsum("drn,ri,in->drin", exposure, burned, at.spectra * correction)
    rows = [ISOTOPES.index(isotope) for isotope in NONEQUILIBRIUM]
    excess = torch.einsum("drn,ri,in->drin", exposure, burned[:, rows], at.nonequilibrium)
    spent = (at.exposure_time[..., None] * survival * at.spent_fuel)[:, :, None]
    sources = torch.cat([part.flatten(1, 2) for part in (shares, excess, spent)], dim=1)
    reactors = torch.einsum("en,dln->lde", matrix, sources) / reference
    knots = torch.einsum("en,nk,din->ikde", matrix, at.knots, shares.sum(1)).flatten(0, 1) / reference
    return knots, reactors


def _compress(knots: Tensor) -> tuple[Tensor, Tensor]:
    """Factors of the matrix from knots to bins: the detectors resolve far fewer shapes than there are knots."""
    left, singular, right = torch.linalg.svd(knots.flatten(1), full_matrices=False)
    rank = int((singular > _SINGULAR * singular[0]).sum())
    return left[:, :rank] * singular[:rank], right[:rank].reshape(rank, *knots.shape[1:])
