r"""The prediction of Daya Bay from templates, for many points at once.

Events in fine bins of deposited energy come from the templates of `dayabay_templates`, bilinear in the oscillation and
the free spectrum correction; spectra and sources act with their exact dependence on the pulls. The response is that of
`dayabay_chain`: not linearised. Further neutrinos take away what `dayabay_sterile` says.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import repeat

import torch
from torch import Tensor

from nuppl.experiments.dayabay_chain import reconstruct
from nuppl.experiments.dayabay_exact import background, detector_scales, survival_by_lane
from nuppl.experiments.dayabay_release import Release
from nuppl.experiments.dayabay_sources import WITH_NONEQUILIBRIUM, fissions, isotope_errors
from nuppl.experiments.dayabay_sterile import sterile_fraction
from nuppl.experiments.dayabay_systematics import Pulls, axes, lanes_of
from nuppl.experiments.dayabay_templates import Templates, basis, templates
from nuppl.physics.oscillation import Mixing

__all__ = ["expected"]

_CHUNK = 128  # points per pass


def expected(release: Release, mixing: Mixing, pulls: Pulls) -> Tensor:
    """Expected counts with shape (*batch, 1, 1, 8, 26), or (8, 26) without batch; NaN beyond the templates' range."""
    inner = {name: len(plates) for name, plates in axes(release).items()} | {"weights": 1, "splittings": 1}
    weights, splittings = survival_by_lane(mixing)
    values = lanes_of(release, pulls) | {"weights": weights, "splittings": splittings}
    batch = torch.broadcast_shapes(*(value.shape[: value.ndim - inner[name]] for name, value in values.items()))
    flat = {name: _flatten(value, inner[name], batch) for name, value in values.items()}
    if not batch:
        return _total(release, flat)
    parts = [_total(release, part) for part in _chunks(flat, inner, math.prod(batch))]
    return (
        torch.cat([part.reshape(-1, *part.shape[-2:]) for part in parts])
        .expand(math.prod(batch), -1, -1)
        .reshape(*batch, 1, 1, *parts[0].shape[-2:])
    )


def _flatten(value: Tensor, inner: int, batch: torch.Size) -> Tensor:
    """One batch axis, or none where the value is the same for all points."""
    sizes = value.shape[value.ndim - inner :]
    if math.prod(value.shape[: value.ndim - inner]) == 1:
        return value.reshape(sizes)
    return value.expand(*batch, *sizes).reshape(-1, *sizes)


def _chunks(flat: dict[str, Tensor], inner: dict[str, int], count: int) -> Iterator[dict[str, Tensor]]:
    """Points in groups whose intermediates stay in the cache."""
    pieces = [
        value.split(_CHUNK) if value.ndim > inner[name] else repeat(value, -(-count // _CHUNK))
        for name, value in flat.items()
    ]
    return (dict(zip(flat, piece, strict=True)) for piece in zip(*pieces, strict=True))


def _total(release: Release, values: dict[str, Tensor]) -> Tensor:
    fold, weights, splittings = templates(release), values["weights"], values["splittings"]
    reweighted = _reweighting(release, fold, values)
    coefficients = basis(weights[..., :3], splittings[..., :3])
    signal = reconstruct(release, _deposited(fold, coefficients, *reweighted), values)
    if weights.shape[-1] > 3:
        alone = torch.zeros_like(coefficients)
        alone[..., 0] = 1.0
        unoscillated = reconstruct(release, _deposited(fold, alone, *reweighted), values)
        signal = signal - unoscillated * sterile_fraction(release, weights[..., 3:], splittings[..., 3:], values)
    efficiency = detector_scales(release, values)[0][..., None]
    return efficiency * signal + background(release, values)


def _project(coefficients: Tensor, template: Tensor) -> Tensor:
    """Contract (*, K) with (K, *out) to (*, *out)."""
    flat = coefficients @ template.flatten(1)
    return flat.reshape(*flat.shape[:-1], *template.shape[1:])


def _deposited(fold: Templates, coefficients: Tensor, factor: Tensor, added: Tensor) -> Tensor:
    """Events in fine bins of deposited energy with shape (*, D, F)."""
    return _project(coefficients, fold.equilibrium) * factor + _project(coefficients, fold.remainder) + added


def _reweighting(release: Release, fold: Templates, values: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Factor on the equilibrium events, and events added by sources, each with shape (*, D, F)."""
    burned = fissions(release, values) / fold.fissions
    change = _project((burned - 1.0).flatten(-2), fold.reactors)
    correction = 1.0 + values["spectrum_correction"] @ fold.correction
    factor = correction[..., None, :] * (1.0 + change) + _spectra(release, fold, burned, values)
    return factor, _project(_sources(release, burned, values), fold.sources)


def _spectra(release: Release, fold: Templates, burned: Tensor, values: Mapping[str, Tensor]) -> Tensor:
    """sum_i s_i u_i (1 + y_di) with shape (*, D, F)."""
    errors = (isotope_errors(release, values) - 1.0) @ fold.knots * fold.isotopes
    share = torch.einsum("dir,...ri->...di", fold.mean_reactors, burned)
    return share @ errors


def _sources(release: Release, burned: Tensor, values: Mapping[str, Tensor]) -> Tensor:
    """Relative changes of the non-equilibrium part per isotope and reactor, and of spent fuel, with shape (*, L)."""
    errors = release.relative_errors
    excess = burned[..., WITH_NONEQUILIBRIUM] * (1.0 + errors["nonequilibrium"] * values["nonequilibrium"].mT)
    parts = [(excess - 1.0).flatten(-2), errors["spent_fuel"] * values["spent_fuel"]]
    shape = torch.broadcast_shapes(*(part.shape[:-1] for part in parts))
    return torch.cat([part.expand(*shape, part.shape[-1]) for part in parts], dim=-1)
