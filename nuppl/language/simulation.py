"""Pseudo-data from a program: draws, Asimov data, frequentist toys.

Draws come in tiles of fixed size. The seed of a tile depends on the root seed and the tile's number alone, so results
do not depend on how tiles are grouped over workers; they do depend on the tile's size, which belongs to the run.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from nuppl.errors import InputError, unknown
from nuppl.language.precision import seeded
from nuppl.language.program import Program
from nuppl.language.table import Site
from nuppl.typing import Values

__all__ = ["TILE", "Toys", "asimov", "simulate", "tile_seed", "tiles", "toys"]

TILE = 256
"""Lanes per tile."""


def tile_seed(seed: int, *stream: int) -> int:
    """The seed of one stream of random numbers, such as (tile,) or (grid point, tile)."""
    return int(np.random.SeedSequence(seed, spawn_key=stream).generate_state(2, np.uint64)[0] >> 1)


def tiles(n: int, tile: int = TILE) -> Iterator[tuple[int, int]]:
    """(number, lanes wanted) of the tiles that give n draws."""
    for number in range(-(-n // tile)):
        yield number, min(tile, n - number * tile)


def simulate(program: Program, n: int, *, seed: int, at: Values | None = None, tile: int = TILE) -> dict[str, Tensor]:
    """Draw every site of the program, latents from their priors and data from their distributions.

    Arguments:
        n: number of draws.
        seed: the root seed.
        at: latents held at given values, {site: (*site) or (n, *site)}.
        tile: lanes per tile.

    Returns:
        {site: (n, *site)}; NaN where a simulator failed.

    Raises:
        InputError: n below 1; a value `at` with an unknown name or that does not fit its site or n.
    """
    return _tiled(program, n, seed, at or {}, tile, centers=False)


def _tiled(program: Program, n: int, seed: int, at: Values, tile: int, centers: bool) -> dict[str, Tensor]:
    if n < 1:
        raise InputError(f"simulate: expected at least one draw, got n={n}")
    held = _held(program, at, n)
    parts = []
    for number, keep in tiles(n, tile):
        with seeded(tile_seed(seed, number)), torch.no_grad():
            found = _tile(program, {name: _rows(value, number, tile) for name, value in held.items()}, tile, centers)
        parts.append({name: value[:keep] for name, value in found.items()})
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _held(program: Program, at: Values, n: int) -> dict[str, Tensor]:
    held = {}
    for name, value in at.items():
        if name not in program.latents:
            raise unknown("free latent", name, program.latents)
        held[name] = program.latents[name].lanes(value)
        if len(held[name]) not in (1, n):
            raise InputError(f"values of {name!r}: expected one, or one for each of {n} draws, got {len(held[name])}")
    return held


def _rows(value: Tensor, number: int, tile: int) -> Tensor:
    """The lanes of one tile; the last tile repeats its last lane, so that every tile draws as much."""
    if len(value) == 1:
        return value.expand(tile, *value.shape[1:])
    rows = value[number * tile : (number + 1) * tile]
    return torch.cat([rows, rows[-1:].expand(tile - len(rows), *rows.shape[1:])])


def _tile(program: Program, at: Values, tile: int, centers: bool) -> dict[str, Tensor]:
    """One tile of draws; with `centers`, what is kept of a pull is the outcome of its auxiliary measurement."""
    found: dict[str, Tensor] = {}

    def visit(msg: Any, site: Site) -> None:
        value = at[site.name] if site.name in at else msg["fn"].sample()
        kept = value
        if centers and site.kind == "pull":
            # What was drawn from the prior already varies as much as the measurement tells.
            kept = value + msg["fn"].sample() - msg["fn"].mean if site.name in at else msg["fn"].mean
        msg["value"] = value
        found[site.name] = _draws(site, kept, tile)

    program.run(visit, n=tile)
    return found


def _draws(site: Site, value: Tensor, n: int) -> Tensor:
    try:
        return site.draws(value.expand(n, *site.full_shape))
    except RuntimeError:
        raise InputError(
            f"site {site.name!r}: drew values with shape {tuple(value.shape)}, expected {(n, *site.full_shape)}; was "
            "an internal axis left behind or reduced without keepdim=True, or a vector made an event with to_event?"
        ) from None


def asimov(program: Program, at: Values | None = None) -> dict[str, Tensor]:
    """The mean of every tractable data site, pulls at their centres.

    Arguments:
        at: latents away from their nominal values, {site: (*site)}.

    Returns:
        {data site: (*site)}.

    Raises:
        InputError: a data site that is a simulator; an unknown name in `at`, or a value that does not fit its site.
    """
    held = {name: program.latents[name].draws(value) for name, value in _held(program, at or {}, 1).items()}
    with torch.no_grad():
        means = program.means({**program.nominal(), **held})
    return {name: mean[0] for name, mean in means.items()}


class Toys(NamedTuple):
    """Pseudo-experiments in the frequentist sense: both measurements fluctuate around fixed true values."""

    data: dict[str, Tensor]
    """{data site: (n, *site)}."""
    centers: dict[str, Tensor]
    """{pull: (n, *site)}: the outcome of each auxiliary measurement."""


def toys(program: Program, n: int, *, seed: int, at: Values, tile: int = TILE, predictive: bool = False) -> Toys:
    """Pseudo-experiments at true values `at`, {every free latent: (*site) or (n, *site)}.

    Data sites are drawn; so is the centre a ~ N(true pull, 1) of every pull, which a fit then uses in place of N(0, 1).
    With fixed centres a 68 % region under-covers or over-covers. With `predictive`, latents without a true value are
    drawn from their priors, and the centres of these stay as they are.
    """
    missing = [name for name in program.latents if name not in at]
    if missing and not predictive:
        raise InputError(f"toys: expected a true value for every latent, missing {', '.join(missing)}")
    drawn = _tiled(program, n, seed, at, tile, centers=True)
    pulls = [name for name, site in program.latents.items() if site.kind == "pull"]
    return Toys({name: drawn[name] for name in program.data_sites}, {name: drawn[name] for name in pulls})
