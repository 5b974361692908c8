r"""The prediction of Daya Bay from templates, for many points at once.

    mu = eps A(P, S) [ R (1 + sum_l y_l Y_l + sum_k u_k (1 + y_k) H_k) + sum_gk phi_g u_k (H_gk - F_g H_k) ] + B
    R  = 1 + sum_g phi_g [F_g(P_0, S) + F_g(P, S_0) - F_g(P_0, S_0)] + sum_gh xi_g xi_h F_gh + F_s

with the templates of `dayabay_templates`, the features phi and variables xi of `dayabay_expansion`, and the exact
functions u (relative change of an isotope's spectrum at a knot) and y (relative change of the fissions) of the pulls.
With further neutrinos A(P, S) gets the terms of `dayabay_sterile`. Exact in the oscillation, the free spectrum correction, the efficiencies and the backgrounds, alone and together.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from nuppl.experiments import dayabay_expansion as expansion
from nuppl.experiments.dayabay_exact import background, detector_scales, survival_by_lane
from nuppl.experiments.dayabay_release import Release
from nuppl.experiments.dayabay_sources import WITH_NONEQUILIBRIUM, fissions, isotope_errors
from nuppl.experiments.dayabay_sterile import sterile_templates
from nuppl.experiments.dayabay_systematics import Pulls, lanes_of
from nuppl.experiments.dayabay_templates import Templates, basis, templates
from nuppl.physics.oscillation import Mixing

__all__ = ["expected"]


def expected(release: Release, mixing: Mixing, pulls: Pulls) -> Tensor:
    """Expected counts with shape (*batch, 1, 1, 8, 26), or (8, 26) without batch; NaN beyond the templates' range."""
    fold, values = templates(release), lanes_of(release, pulls)
    weights, splittings = survival_by_lane(mixing)
    mixed = basis(weights[..., :3], splittings[..., :3])
    knots = 1.0 + values["spectrum_correction"]
    spectrum = torch.cat([knots, torch.ones_like(knots[..., :1])], dim=-1)
    xi = expansion.variables(release, values)
    phi = expansion.features(xi)
    response = 1.0 + _first_order(fold, mixed, spectrum, phi) + _higher_orders(release, fold, xi)
    burned = fissions(release, values) / fold.fissions
    sources = _project(_source_changes(release, burned, values), fold.reactors)
    spectra, crossed = _spectra(release, fold, burned, phi, values)
    relative = response * (1.0 + sources + spectra) + crossed
    efficiency = detector_scales(release, values)[0][..., None]
    signal = _counts(fold, mixed, spectrum) * relative
    if weights.shape[-1] > 3:
        signal = signal - _sterile(release, (weights[..., 3:], splittings[..., 3:]), spectrum, relative, phi)
    total = efficiency * signal + background(release, values)
    return total if total.ndim == 2 else total[..., None, None, :, :]


def _sterile(
    release: Release, terms: tuple[Tensor, Tensor], spectrum: Tensor, relative: Tensor, phi: Tensor
) -> Tensor:
    """What oscillation into further mass states takes away, with shape (*, D, E).

    The response shifts it by the tables of the first of the new splittings, which the others equal to a few 1e-3 eV^2.
    """
    fold, table = templates(release), sterile_templates(release)
    weights, splittings = terms
    lost = (weights[..., None, None] * table.fraction(splittings)).sum(-3)
    moved = (phi[..., None] * table.response(splittings[..., 0])).sum(-3)
    return _project(spectrum, fold.counts[0]) * (lost * relative + weights.sum(-1)[..., None, None] * moved)


def _project(coefficients: Tensor, template: Tensor) -> Tensor:
    """Contract (*, K) with (K, *out) to (*, *out)."""
    return (coefficients @ template.flatten(1)).unflatten(-1, template.shape[1:])


def _counts(fold: Templates, mixed: Tensor, spectrum: Tensor) -> Tensor:
    """A(P, S) with shape (*, D, E)."""
    pairs = (mixed[..., :, None] * spectrum[..., None, :]).flatten(-2)
    return _project(pairs, fold.counts.flatten(0, 1))


def _first_order(fold: Templates, mixed: Tensor, spectrum: Tensor, phi: Tensor) -> Tensor:
    """sum_g phi_g F_g with shape (*, D, E)."""
    by_spectrum, by_mixing = _project(spectrum, fold.by_spectrum), _project(mixed, fold.by_mixing)
    changes = (
        by_spectrum[..., 1:, :, :] / by_spectrum[..., :1, :, :]
        + by_mixing[..., 1:, :, :] / by_mixing[..., :1, :, :]
        - fold.at_expansion
    )
    return (phi[..., None] * changes).sum(-3)


def _higher_orders(release: Release, fold: Templates, xi: Tensor) -> Tensor:
    """sum_gh xi_g xi_h F_gh + F_s with shape (*, D, E)."""
    second = torch.einsum("...gd,gde->...de", expansion.pair_features(xi), fold.second)
    above = _tabulated(fold.shifted, expansion.shift(release, xi)[..., :-1])
    return second + (above - torch.nn.functional.pad(above[..., 1:], (0, 1))) / fold.reference


def _tabulated(table: Tensor, s: Tensor) -> Tensor:
    """Cubic interpolation on SHIFTS of a table (D, E, shifts) at s (*, D, E); the ends hold beyond them."""
    grid = expansion.SHIFTS
    step = grid[1] - grid[0]
    position = ((s - grid[0]) / step).clamp(0.0, len(grid) - 1.0)
    left = position.detach().floor().clamp(1, len(grid) - 3).long()
    t = position - left
    rows = torch.arange(table[..., 0].numel()).reshape(table.shape[:-1]) * len(grid) + left
    y = [table.flatten()[rows + k] for k in (-1, 0, 1, 2)]
    slope0, slope1 = 0.5 * (y[2] - y[0]), 0.5 * (y[3] - y[1])
    rest = 1.0 - t
    ends = (1.0 + 2.0 * t) * rest**2 * y[1] + (1.0 + 2.0 * rest) * t**2 * y[2]
    return ends + t * rest * (rest * slope0 - t * slope1)


def _spectra(
    release: Release, fold: Templates, burned: Tensor, phi: Tensor, values: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """sum u (1 + y) H, each isotope with its share of the fissions, and its crossing with the response."""
    errors = isotope_errors(release, values) - 1.0
    amplitudes = torch.einsum("...ik,ikp->...ip", errors, fold.knots_in)
    share = torch.einsum("dir,...ri->...di", fold.shares, burned)
    by_isotope = torch.einsum("...ip,ipde->...ide", amplitudes, fold.knots_out)
    change = torch.einsum("...di,...ide->...de", share, by_isotope)
    crossing = _project(amplitudes.flatten(-2), fold.knots_response)
    return change, (phi[..., None] * crossing).sum(-3)


def _source_changes(release: Release, burned: Tensor, values: Mapping[str, Tensor]) -> Tensor:
    """Relative change of each source: isotopes of reactors, their non-equilibrium part, spent fuel; shape (*, L)."""
    errors = release.relative_errors
    excess = burned[..., WITH_NONEQUILIBRIUM] * (1.0 + errors["nonequilibrium"] * values["nonequilibrium"].mT)
    spent = errors["spent_fuel"] * values["spent_fuel"]
    parts = [(burned - 1.0).flatten(-2), (excess - 1.0).flatten(-2), spent]
    shape = torch.broadcast_shapes(*(part.shape[:-1] for part in parts))
    return torch.cat([part.expand(*shape, part.shape[-1]) for part in parts], dim=-1)
