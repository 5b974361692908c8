"""Drawing a program many times, batch by batch, and what becomes of simulations that fail.

A simulation has failed if its distributions have no valid arguments (a negative rate), if the program raises an error,
or if a value is not finite. An error stops a whole batch: it is halved, with its latents as they were drawn, until what
fails stands alone. The latents of a failed simulation are kept as far as they were drawn.

Batch b of seed s has a seed of its own, so what it holds depends on program, s and b alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from nuppl.errors import InputError
from nuppl.language.layout import Layout
from nuppl.language.precision import seeded
from nuppl.language.program import Program
from nuppl.language.simulation import TILE, tile_seed
from nuppl.language.table import Site
from nuppl.language.transport import transport
from nuppl.results.simulations import SimulationStore
from nuppl.results.tiles import Tile
from nuppl.typing import Progress, Values, silent

__all__ = ["batch_at", "draw_batch", "fill"]

_STREAM = 21 << 24

_WAIT, _SHARE = 5.0, 0.03
"""Seconds until a tile that is not full is written at least, and the share of the time that this may take."""

Lanes = tuple[Tensor, Tensor, list[str]]
"""Whitened latents, data, and the error that each simulation raised or ""."""


def fill(
    store: SimulationStore,
    program: Program,
    seed: int,
    missing: Sequence[tuple[int, int]],
    progress: Progress = silent,
) -> None:
    """Draw the tiles that a store is missing; each is written when it is full, and every few seconds until then.

    Arguments:
        missing: as `store.missing` gives them, or some of them.

    Raises:
        InputError: every simulation of a batch raised an error.
        RunFolderError: there is no room for them.
    """
    layout = Layout(program.latents.values(), whitened=True)
    done, total = 0, sum(rows for _, rows in missing)
    for number, rows in missing:
        for there in _tile(store, program, layout, seed, number, rows):
            progress(done + there, total, "simulations")
        done += rows


def _tile(store: SimulationStore, program: Program, layout: Layout, seed: int, number: int, rows: int) -> Iterator[int]:
    """Draw what one tile lacks; gives how many simulations are there after every batch."""
    parts = store.begun(seed, number, TILE)
    there = sum(len(part.u) for part in parts)
    last, wait = time.monotonic(), _WAIT
    while there < rows:
        parts.append(draw_batch(program, layout, seed, (number * store.rows + there) // TILE))
        there += TILE
        began = time.monotonic()
        if there >= rows or began - last > wait:
            parts = [Tile.joined(parts)]
            store.write(seed, number, parts[0].first(rows))
            last = time.monotonic()
            wait = max(_WAIT, (last - began) / _SHARE)
        yield min(there, rows)


def draw_batch(program: Program, layout: Layout, seed: int, number: int) -> Tile:
    """One batch of a program's simulations.

    Arguments:
        layout: of the whitened latents.
        number: of the batch.

    Raises:
        InputError: every simulation of the batch raised an error; says which.
    """
    with seeded(tile_seed(seed, _STREAM, number)):
        return batch_at(program, layout, {}, TILE)


def batch_at(program: Program, layout: Layout, held: Values, n: int) -> Tile:
    """A batch of n simulations, some or all latents held, {site: (n, *full_shape)}.

    Raises:
        InputError: every simulation of a whole batch raised an error; says which.
    """
    with torch.no_grad():
        u, data, said = _lanes(program, layout, n, held)
    if n >= TILE and all(said):
        raise InputError(f"all of {n} simulations failed: {said[0]}")
    reasons = _reasons(program, u, data, said)
    told = tuple(dict.fromkeys(filter(None, reasons)))
    code = torch.tensor([told.index(reason) + 1 if reason else 0 for reason in reasons])
    return Tile(u.float(), data, code, told)


def _reasons(program: Program, u: Tensor, data: Tensor, said: list[str]) -> list[str]:
    """Why each simulation failed, "" where it did not."""
    parts = data.split([site.size for site in program.data_sites.values()], dim=1) if program.data_sites else ()
    for name, part in (("latents", u), *zip(map(repr, program.data_sites), parts, strict=True)):
        good = part.isfinite().all(1)
        if not bool(good.all()):
            text = f"values of {name} that are not finite"
            said = [each or ("" if fine else text) for each, fine in zip(said, good.tolist(), strict=True)]
    return said


def _lanes(program: Program, layout: Layout, n: int, held: Values) -> Lanes:
    """n simulations with some latents held; in halves where the program raises an error."""
    values: dict[str, Tensor] = dict(held)
    blocks: dict[str, Tensor] = {}
    try:
        data = _run(program, layout, n, values, blocks)
        return layout.pack(blocks).expand(n, -1), data, [""] * n
    except InputError as failure:
        error = str(failure)
        if n == 1:
            nothing = torch.full((1, sum(site.size for site in program.data_sites.values())), torch.nan)
            return _as_far(layout, blocks), nothing.double(), [error]
    (u, data, said), (more_u, more_data, more_said) = (
        _lanes(program, layout, stop - start, {name: _lane(value, n, start, stop) for name, value in values.items()})
        for start, stop in ((0, n // 2), (n // 2, n))
    )
    u, data, said = torch.cat([u, more_u]), torch.cat([data, more_data]), said + more_said
    if n == 2:
        # A simulator raises where every lane fails, and gives NaN where a single one does.
        good = data.isfinite().all(1).tolist()
        said = [each or ("" if fine else error) for each, fine in zip(said, good, strict=True)]
    return u, data, said


def _lane(value: Tensor, n: int, start: int, stop: int) -> Tensor:
    """Some of n lanes of a site."""
    return value.expand(n, *value.shape[1:])[start:stop]


def _run(program: Program, layout: Layout, n: int, values: dict[str, Tensor], blocks: dict[str, Tensor]) -> Tensor:
    """Data with shape (n, M); latents go into `values`, whitened into `blocks`, as far as the program comes."""
    data: list[Tensor] = []

    def visit(msg: Any, site: Site) -> None:
        if site.kind == "data":
            value = msg["value"] = _sampled(msg["fn"])
            data.append(value.expand(n, *site.full_shape).reshape(n, -1).double())
            return
        value = msg["value"] = values[site.name] if site.name in values else _sampled(msg["fn"])
        block = transport(msg["fn"]).inverse(value)
        blocks[site.name] = block.reshape(-1, *layout.blocks[site.name].shape)
        values[site.name] = value

    program.run(visit, n=n)
    return torch.cat(data, 1) if data else torch.zeros(n, 0, dtype=torch.float64)


def _as_far(layout: Layout, blocks: Values) -> Tensor:
    """The latents of one simulation that were drawn before it failed, NaN for the others."""
    missing = {name: torch.full((1, *block.shape), torch.nan) for name, block in layout.blocks.items()}
    return layout.pack({**missing, **blocks}).double()


def _sampled(fn: Any) -> Tensor:
    """A draw, NaN where the distribution has no valid arguments: one bad lane must not stop the others."""
    try:
        return fn.sample()  # type: ignore[no-any-return]
    except (RuntimeError, ValueError):
        repaired = _repaired(fn)
        if repaired is None:
            raise
    mended, good = repaired
    if not bool(good.any()):
        return torch.full((*fn.batch_shape, *fn.event_shape), torch.nan)
    return torch.where(good, mended.sample(), torch.nan)


def _repaired(fn: Any) -> tuple[Any, Tensor] | None:
    """The distribution with valid arguments everywhere, and where they were valid; None where that cannot be told."""
    if isinstance(fn, torch.distributions.Independent):
        inner = _repaired(fn.base_dist)
        return inner and (type(fn)(inner[0], fn.reinterpreted_batch_ndims), inner[1])
    known: Mapping[str, Any] = fn.arg_constraints
    arguments = {name: fn.__dict__[name] for name in known if isinstance(fn.__dict__.get(name), Tensor)}
    if not arguments:
        return None
    good = torch.ones(fn.batch_shape, dtype=torch.bool)
    for name, value in arguments.items():
        valid = known[name].check(value)
        if valid.shape != value.shape:
            return None
        good = good & valid
        if bool(valid.any()):
            arguments[name] = torch.where(valid, value, value[valid][0])
    return type(fn)(**arguments, validate_args=False), good
