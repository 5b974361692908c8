r"""The prediction of Daya Bay from templates, for many points at once.

    mu = eps A(P, S) (1 + sum_g z_g [F_g(P_0, S) + F_g(P, S_0) - F_g(P_0, S_0)]) (1 + sum_k u_k H_k) (1 + sum_l y_l Y_l) + B

with the templates of `dayabay_templates`. Exact in the oscillation, the free spectrum correction, the efficiencies and
the backgrounds, each alone and together; linear in the shifts of the response and in the relative changes of spectra
and of sources, whose dependence on the pulls is exact. With a fourth neutrino A gets the terms of `dayabay_sterile`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nuppl.experiments.dayabay_exact import background, detector_scales, survival_by_lane
from nuppl.experiments.dayabay_release import ISOTOPES, NONEQUILIBRIUM, Release
from nuppl.experiments.dayabay_sources import fissions, isotope_errors
from nuppl.experiments.dayabay_systematics import Pulls, lanes_of
from nuppl.experiments.dayabay_templates import Templates, basis, response_parameters, templates
from nuppl.physics.oscillation import Mixing

__all__ = ["expected"]


def expected(release: Release, mixing: Mixing, pulls: Pulls) -> Tensor:
    """Expected counts with shape (*batch, 1, 1, 8, 26), or (8, 26) without batch; NaN beyond the templates' range."""
    fold = templates(release)
    values = lanes_of(release, pulls)
    weights, splittings = survival_by_lane(mixing)
    mixed = basis(weights[..., :3], splittings[..., :3])
    spectrum = torch.cat([1.0 + values["spectrum_correction"], torch.ones_like(values["spectrum_correction"][..., :1])], -1)
    counts = _counts(fold, mixed, spectrum)
    shift = (response_parameters(release, values)[..., None] * _changes(fold, mixed, spectrum)).sum(-3)
    knots = (isotope_errors(release, values) - 1.0).flatten(-2) @ fold.knots_in
    reweighted = 1.0 + _project(knots, fold.knots_out)
    sources = 1.0 + _project(_source_changes(release, fold, values), fold.reactors)
    efficiency = detector_scales(release, values)[0][..., None]
    total = efficiency * counts * (1.0 + shift) * reweighted * sources + background(release, values)
    return total if total.ndim == 2 else total[..., None, None, :, :]


def _project(coefficients: Tensor, template: Tensor) -> Tensor:
    """Contract (*, K) with (K, *out) to (*, *out)."""
    return (coefficients @ template.flatten(1)).unflatten(-1, template.shape[1:])


def _counts(fold: Templates, mixed: Tensor, spectrum: Tensor) -> Tensor:
    """A(P, S) with shape (*, D, E)."""
    pairs = (mixed[..., :, None] * spectrum[..., None, :]).flatten(-2)
    return _project(pairs, fold.counts.flatten(0, 1))


def _changes(fold: Templates, mixed: Tensor, spectrum: Tensor) -> Tensor:
    """Relative change of the counts with each response parameter, with shape (*, G, D, E)."""
    by_spectrum, by_mixing = _project(spectrum, fold.by_spectrum), _project(mixed, fold.by_mixing)
    return (
        by_spectrum[..., 1:, :, :] / by_spectrum[..., :1, :, :]
        + by_mixing[..., 1:, :, :] / by_mixing[..., :1, :, :]
        - fold.at_expansion
    )


def _source_changes(release: Release, fold: Templates, values: dict[str, Tensor]) -> Tensor:
    """Relative change of each source: isotopes of reactors, their non-equilibrium part, spent fuel; shape (*, L)."""
    burned = fissions(release, values) / fold.fissions
    rows = [ISOTOPES.index(isotope) for isotope in NONEQUILIBRIUM]
    errors = release.relative_errors
    excess = burned[..., rows] * (1.0 + errors["nonequilibrium"] * values["nonequilibrium"].mT)
    spent = errors["spent_fuel"] * values["spent_fuel"]
    parts = [(burned - 1.0).flatten(-2), (excess - 1.0).flatten(-2), spent]
    shape = torch.broadcast_shapes(*(part.shape[:-1] for part in parts))
    return torch.cat([part.expand(*shape, part.shape[-1]) for part in parts], dim=-1)
