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

from nuppl.errors import InputError
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
    """
    if n < 1:
        raise InputError(f"simulate: expected at least one draw, got n={n}")
    parts = [_simulate_tile(program, number, keep, seed, at or {}, tile) for number, keep in tiles(n, tile)]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _simulate_tile(program: Program, number: int, keep: int, seed: int, at: Values, tile: int) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}

    def visit(msg: Any, site: Site) -> None:
        if site.kind != "data" and site.name in at:
            value = site.lanes(at[site.name])
            value = value[number * tile : number * tile + tile] if len(value) > 1 else value
            padding = tile - len(value)
            value = value.expand(tile, *site.full_shape) if len(value) == 1 else _pad(value, padding)
        else:
            value = msg["fn"].sample()
        msg["value"] = value
        found[site.name] = site.draws(value.expand(tile, *site.full_shape))[:keep]

    with seeded(tile_seed(seed, number)), torch.no_grad():
        program.run(visit, n=tile)
    return found


def _pad(value: Tensor, padding: int) -> Tensor:
    return torch.cat([value, value[-1:].expand(padding, *value.shape[1:])]) if padding else value


def asimov(program: Program, at: Values | None = None) -> dict[str, Tensor]:
    """The mean of every tractable data site, pulls at their centres.

    Arguments:
        at: latents away from their nominal values, {site: (*site)}.

    Returns:
        {data site: (*site)}.

    Raises:
        InputError: a data site that is a simulator.
    """
    values = {name: site.nominal.detach().reshape(site.shape) for name, site in program.latents.items()}
    values.update({name: torch.as_tensor(value, dtype=torch.float64) for name, value in (at or {}).items()})
    with torch.no_grad():
        means = program.means(values)
    return {name: mean[0] for name, mean in means.items()}


class Toys(NamedTuple):
    """Pseudo-experiments in the frequentist sense: both measurements fluctuate around fixed true values."""

    data: dict[str, Tensor]
    """{data site: (n, *site)}."""
    centers: dict[str, Tensor]
    """{pull: (n, *site)}: the outcome of each auxiliary measurement."""


def toys(program: Program, n: int, *, seed: int, at: Values, tile: int = TILE) -> Toys:
    """Pseudo-experiments at true values `at`, {every free latent: (*site) or (n, *site)}.

    Data sites are drawn; so is the centre a ~ N(true pull, 1) of every pull, which a fit then uses in place of N(0, 1).
    With fixed centres a 68 % region under-covers or over-covers.
    """
    missing = [name for name in program.latents if name not in at]
    if missing:
        raise InputError(f"toys: expected a true value for every latent, missing {', '.join(missing)}")
    data = simulate(program, n, seed=seed, at=at, tile=tile)
    centers = {name: _centers(program, site, n, seed, at) for name, site in program.latents.items() if site.kind == "pull"}
    return Toys({name: data[name] for name in program.data_sites}, centers)


def _centers(program: Program, site: Site, n: int, seed: int, at: Values) -> Tensor:
    """True value plus the constraint's own fluctuation."""
    order = list(program.sites).index(site.name)
    noise: list[Tensor] = []

    def visit(msg: Any, other: Site) -> None:
        msg["value"] = program.data_lanes(other) if other.kind == "data" else other.nominal[None]
        if other.name == site.name:
            drawn = msg["fn"].expand((n, *site.batch)).sample()
            noise.append(drawn - msg["fn"].mean)

    with seeded(tile_seed(seed, order, 1)), torch.no_grad():
        program.run(visit)
    return site.draws(site.lanes(at[site.name]) + noise[0])
