r"""The prediction of Daya Bay from templates, for many points at once.

Events in fine bins of deposited energy come from the templates of `dayabay_templates`, bilinear in the oscillation and
the free spectrum correction; spectra and sources act with their exact dependence on the pulls. The response is that of
`dayabay_chain`: not linearised. Further neutrinos take away what `dayabay_sterile` says.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping
from itertools import repeat
from typing import NamedTuple

import torch
from torch import Tensor

from nuppl.experiments.dayabay_chain import reconstruct, visible
from nuppl.experiments.dayabay_exact import background, detector_scales, survival_by_lane
from nuppl.experiments.dayabay_release import Release
from nuppl.experiments.dayabay_sources import WITH_NONEQUILIBRIUM, fissions, isotope_errors
from nuppl.experiments.dayabay_sterile import sterile_share, sterile_shift
from nuppl.experiments.dayabay_systematics import Pulls, axes, lanes_of
from nuppl.experiments.dayabay_templates import basis, default_mixing, templates
from nuppl.physics.blocks import BlockMatrix
from nuppl.physics.oscillation import Mixing, survival_terms

__all__ = ["expected"]

_CHUNK = 256  # points per pass
_GROUPS = 8  # of fine bins, each near few knots of the spectra


class _Arranged(NamedTuple):
    """Templates in F visible bins, in the order in which they are used; templates that follow each other share a row.

    Names of axes as in `templates`.
    """

    equilibrium: Tensor  # (1 + M, D * F)
    unoscillated: Tensor  # (D, F), the first row
    others: Tensor  # (1 + M + L, D * F): remainder, sources
    unoscillated_others: Tensor  # (1 + L, D * F)
    reactors: Tensor  # (1 + R * I, D * F): one, shares
    correction: Tensor  # (1 + 19, F): one, knots
    knots: BlockMatrix  # (K, F)
    isotopes: Tensor  # (I, F)
    mean_reactors: Tensor  # (D, I, R)
    fissions: Tensor  # (R, I)
    backgrounds: Tensor  # (1 + pulls of the rates, D * E): central, change per pull


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


@functools.cache
def _arranged(release: Release) -> _Arranged:
    fold, bins = templates(release), functools.partial(visible, release)
    ones = torch.ones_like(fold.equilibrium[:1])
    default = torch.tensordot(basis(*survival_terms(default_mixing(release))), fold.equilibrium, dims=1)
    survival = torch.where(default == 0.0, 1.0, default / fold.equilibrium[0])
    return _Arranged(
        equilibrium=bins(fold.equilibrium).flatten(1),
        unoscillated=bins(fold.equilibrium[0]),
        others=bins(torch.cat([fold.remainder, fold.sources])).flatten(1),
        unoscillated_others=bins(torch.cat([fold.remainder[:1], fold.sources / survival])).flatten(1),
        reactors=bins(torch.cat([ones, fold.reactors])).flatten(1),
        correction=bins(torch.cat([ones[0, :1], fold.correction])),
        knots=BlockMatrix(bins(fold.knots), _GROUPS),
        isotopes=bins(fold.isotopes),
        mean_reactors=fold.mean_reactors,
        fissions=fold.fissions,
        backgrounds=_backgrounds(release),
    )


def _backgrounds(release: Release) -> Tensor:
    """Background counts are linear in the pulls: those at zero, and what each pull changes."""
    central = lanes_of(release, Pulls())
    size = sum(central[kind].numel() for kind in release.backgrounds)
    units = torch.cat([torch.zeros(1, size, dtype=torch.float64), torch.eye(size, dtype=torch.float64)])
    columns = units.split([central[kind].numel() for kind in release.backgrounds], dim=1)
    pulled = {k: column.reshape(-1, *central[k].shape) for k, column in zip(release.backgrounds, columns, strict=True)}
    rows = background(release, pulled).flatten(1)
    return torch.cat([rows[:1], rows[1:] - rows[:1]])


def _total(release: Release, values: dict[str, Tensor]) -> Tensor:
    fold, weights, splittings = _arranged(release), values["weights"], values["splittings"]
    burned, errors = fissions(release, values) / fold.fissions, isotope_errors(release, values)
    one, changes = burned.new_ones(1), _changes(release, burned, values)
    oscillation, sources = basis(weights[..., :3], splittings[..., :3]), changes[..., fold.fissions.numel() :]
    oscillating = _by_detector(oscillation @ fold.equilibrium)
    others = _by_detector(_join(oscillation, sources) @ fold.others)
    fourth = weights[..., 3:], splittings[..., 3:]
    if fourth[0].shape[-1]:
        share = sterile_share(release, *fourth, errors)
        oscillating = torch.addcmul(oscillating, share, fold.unoscillated, value=-1.0)
        lost = _by_detector(_join(one, sources) @ fold.unoscillated_others)
        others = torch.addcmul(others, share, lost, value=-1.0)
    signal = torch.addcmul(others, oscillating, _factor(fold, burned, errors, values))
    signal = reconstruct(release, signal, values)
    if fourth[0].shape[-1]:
        signal = signal - sterile_shift(release, *fourth, changes)
    efficiency = detector_scales(release, values)[0][..., None]
    rest = _by_detector(_join(one, *_rates(release, values)) @ fold.backgrounds)
    return torch.addcmul(rest, efficiency, signal)


def _by_detector(flat: Tensor) -> Tensor:
    return flat.reshape(*flat.shape[:-1], 8, -1)


def _rates(release: Release, values: Mapping[str, Tensor]) -> list[Tensor]:
    """Pulls of the background rates, each with shape (*, number)."""
    plates = axes(release)
    outer = {kind: values[kind].shape[: values[kind].ndim - len(plates[kind])] for kind in release.backgrounds}
    return [values[kind].reshape(*shape, -1) for kind, shape in outer.items()]


def _join(*parts: Tensor) -> Tensor:
    """Side by side along the last axis."""
    shape = torch.broadcast_shapes(*(part.shape[:-1] for part in parts))
    return torch.cat([part.expand(*shape, part.shape[-1]) for part in parts], dim=-1)


def _factor(fold: _Arranged, burned: Tensor, errors: Tensor, values: Mapping[str, Tensor]) -> Tensor:
    """Factor on the equilibrium events with shape (*, D, F): correction, reactors, and sum_i s_i u_i (1 + y_di)."""
    one = burned.new_ones(1)
    change = _by_detector(_join(one, (burned - 1.0).flatten(-2)) @ fold.reactors)
    correction = _join(one, values["spectrum_correction"]) @ fold.correction
    share = torch.einsum("dir,...ri->...di", fold.mean_reactors, burned)
    return correction[..., None, :] * change + share @ (fold.knots(errors) * fold.isotopes)


def _changes(release: Release, burned: Tensor, values: Mapping[str, Tensor]) -> Tensor:
    """Relative changes of fissions (R, I), of the non-equilibrium part (R, 3), of spent fuel (R), in one row."""
    errors = release.relative_errors
    excess = burned[..., WITH_NONEQUILIBRIUM] * (1.0 + errors["nonequilibrium"] * values["nonequilibrium"].mT)
    spent = errors["spent_fuel"] * values["spent_fuel"]
    return _join((burned - 1.0).flatten(-2), (excess - 1.0).flatten(-2), spent)
