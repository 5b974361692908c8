r"""Templates of Daya Bay in fine bins of deposited energy: what does not change from point to point, folded once.

    n_d(P, S, u, y) = E_d(P) [S (1 + sum_ri Y_dri y_ri) + sum_i s_i u_i (1 + y_di)] + X_d(P) + sum_l X_dl y_l

    E, X   events of the equilibrium spectrum and of the remainder, in even Chebyshev polynomials of the splittings
    S      free spectrum correction, u_i relative change of the spectrum of isotope i: averages over a fine bin
    y      relative changes: of the fissions of isotope i in reactor r (shares Y; y_di is their mean at detector d), of
           the non-equilibrium part and of spent fuel (events X_l)
    s_i    share of isotope i

Bins are 50 keV wide, so that averages may be multiplied; the error is 1e-5. Shares stand at the release's default
oscillation. `dayabay_folded` evaluates n and sends it through the response.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nuppl.experiments.dayabay_exact import sin2
from nuppl.experiments.dayabay_release import Release
from nuppl.experiments.dayabay_sources import WITH_NONEQUILIBRIUM, Tables, fissions, tables
from nuppl.experiments.dayabay_systematics import Pulls, lanes_of
from nuppl.physics.oscillation import ThreeFlavor, survival_terms
from nuppl.physics.templates import chebyshev_coefficients, chebyshev_nodes, even_chebyshev

__all__ = ["COUNT", "LIMIT", "Templates", "basis", "default_mixing", "emitted", "templates"]

LIMIT = 5e-3
"""Greatest splitting of the Chebyshev templates, in eV^2."""

COUNT = 14
"""Even Chebyshev polynomials; the truncation error of sin^2 is 2e-9."""

_DEFAULT = {"sin2_2theta13": 0.0856, "dm2_32": 2.453e-3}  # of the release


@dataclass(frozen=True, eq=False)
class Templates:
    """Axes: M polynomials after the unoscillated term, D detectors, F fine bins, I isotopes, R reactors, L sources."""

    equilibrium: Tensor  # (1 + M, D, F)
    remainder: Tensor  # (1 + M, D, F)
    correction: Tensor  # (19, F)
    knots: Tensor  # (K, F), of the spectrum errors
    isotopes: Tensor  # (I, F), shares
    reactors: Tensor  # (R * I, D, F), shares
    mean_reactors: Tensor  # (D, I, R), shares in what a detector sees from an isotope
    sources: Tensor  # (L, D, F), events of the non-equilibrium part of each isotope and reactor, and of spent fuel
    fissions: Tensor  # (R, I), central


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
    """The templates of a release, folded when first asked for: below a second."""
    at = tables(release)
    burned, waves = fissions(release, lanes_of(release, Pulls())), _waves(release, at)
    kernel = at.quadrature.kernel
    equilibrium, remainder = (torch.einsum("drn,mdrn->mdn", part, waves) for part in emitted(at, burned))
    survival = torch.tensordot(basis(*survival_terms(default_mixing(release))), waves, dims=1)
    exposure = at.exposure[..., None] * survival
    shares = torch.einsum("fn,drn,in,ri->ridf", kernel, exposure, at.spectra, burned)
    spectrum = (burned @ at.spectra).mean(0)
    return Templates(
        equilibrium=equilibrium @ kernel.T,
        remainder=remainder @ kernel.T,
        correction=_average(kernel, spectrum, at.correction).T.contiguous(),
        knots=_average(kernel, spectrum, at.knots).T.contiguous(),
        isotopes=_divide((burned.mean(0)[:, None] * at.spectra) @ kernel.T, spectrum @ kernel.T),
        reactors=_divide(shares, shares.sum((0, 1))).flatten(0, 1),
        mean_reactors=_divide(shares.sum(-1), shares.sum((0, -1))).permute(2, 1, 0).contiguous(),
        sources=_sources(at, burned, survival),
        fissions=burned,
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


def _average(kernel: Tensor, spectrum: Tensor, functions: Tensor) -> Tensor:
    """Mean of functions (n, k) over the events of each fine bin, with shape (F, k)."""
    weight = kernel * spectrum
    return _divide(weight @ functions, weight.sum(-1, keepdim=True))


def _divide(part: Tensor, whole: Tensor) -> Tensor:
    """The ratio; zero in bins below threshold."""
    return part / torch.where(whole == 0.0, 1.0, whole)


def _sources(at: Tables, burned: Tensor, survival: Tensor) -> Tensor:
    exposure = at.exposure[..., None] * survival
    excess = torch.einsum("drn,ri,in->ridn", exposure, burned[:, WITH_NONEQUILIBRIUM], at.nonequilibrium)
    spent = (at.exposure_time[..., None] * survival * at.spent_fuel).transpose(0, 1)
    return torch.cat([excess.flatten(0, 1), spent]) @ at.quadrature.kernel.T
