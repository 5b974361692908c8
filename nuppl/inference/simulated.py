"""What neural estimators learn from: draws of a program's latents, whitened, and of its data.

The data of all sites stand side by side in one flat vector, each a `Field` whose kind follows from the support of the
site's distribution. A simulation whose distributions have no valid arguments (a negative rate), or whose values are not
finite, has failed; it is dropped and counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import constraints

from nuppl.errors import InputError
from nuppl.language.layout import Layout
from nuppl.language.precision import seeded
from nuppl.language.program import Program
from nuppl.language.simulation import TILE, tile_seed, tiles
from nuppl.language.table import Site
from nuppl.language.transport import transport
from nuppl.neural.fields import Field
from nuppl.results.checkpoints import Checkpoints
from nuppl.typing import Progress, silent

__all__ = ["Simulated", "data_fields", "flat_data", "latent_values", "simulated", "whitened_layout"]

_STREAM = 21 << 24


class Simulated(NamedTuple):
    """Simulations that succeeded, and how many did not.

    Attributes:
        u: whitened latents with shape (n, D), or those that were asked for.
        data: with shape (n, M).
        failed: simulations that were dropped.
    """

    u: Tensor
    data: Tensor
    failed: int


def data_fields(program: Program) -> tuple[Field, ...]:
    """The data sites in order, with their kinds: counts, positive numbers, or real ones."""
    found: dict[str, Field] = {}

    def visit(msg: Any, site: Site) -> None:
        if site.kind == "data":
            found[site.name] = Field(site.name, site.shape, _kind(msg["fn"]))
            msg["value"] = site.nominal[None] if site.data is None else site.data[None]
        else:
            msg["value"] = site.nominal[None]

    with torch.no_grad():
        program.run(visit)
    return tuple(found.values())


def flat_data(program: Program) -> Tensor:
    """The observed data side by side, with shape (M,).

    Raises:
        InputError: a site without data.
    """
    missing = [name for name in program.data_sites if name not in program.data]
    if missing:
        raise InputError(f"site {missing[0]!r} has no data: expected data in nuppl.observe or in the call")
    return torch.cat([program.data[name].reshape(-1) for name in program.data_sites])


def simulated(
    program: Program,
    n: int,
    seed: int,
    columns: Tensor | None = None,
    store: Checkpoints | None = None,
    progress: Progress = silent,
) -> Simulated:
    """Draw a program n times.

    Arguments:
        columns: which whitened latents to keep, with shape (d,); all by default.
        store: what an interrupted run had simulated, and where this one keeps what it has.

    Raises:
        InputError: all simulations failed, or a latent that cannot be whitened.
    """
    store = store or Checkpoints(None)
    kept = store.load("simulations") or {"u": [], "data": []}
    layout = whitened_layout(program)
    for number, keep in tiles(n):
        if number < len(kept["u"]):
            continue
        with seeded(tile_seed(seed, _STREAM, number)), torch.no_grad():
            u, data = _tile(program, layout, TILE)
        kept["u"].append(u[:keep] if columns is None else u[:keep, columns])
        kept["data"].append(data[:keep])
        progress(number * TILE + keep, n, "simulations")
        if store.due() or number * TILE + keep == n:
            store.save("simulations", kept)
    return _succeeded(torch.cat(kept["u"]), torch.cat(kept["data"]))


def _succeeded(u: Tensor, data: Tensor) -> Simulated:
    good = u.isfinite().all(1) & data.isfinite().all(1)
    if not bool(good.any()):
        raise InputError(
            f"all {len(u)} simulations failed (values that are not finite, or distributions without valid arguments): "
            "expected a program that can be drawn from its prior; look for the place with nuppl check"
        )
    return Simulated(u[good], data[good], int((~good).sum()))


def _tile(program: Program, layout: Layout, n: int) -> tuple[Tensor, Tensor]:
    blocks: dict[str, Tensor] = {}
    data: list[Tensor] = []

    def visit(msg: Any, site: Site) -> None:
        value = msg["value"] = _sampled(msg["fn"])
        if site.kind == "data":
            data.append(value.expand(n, *site.full_shape).reshape(n, -1).double())
        else:
            block = transport(msg["fn"]).inverse(value)
            blocks[site.name] = block.reshape(-1, *layout.blocks[site.name].shape)

    program.run(visit, n=n)
    return layout.pack(blocks).expand(n, -1), torch.cat(data, 1)


def whitened_layout(program: Program) -> Layout:
    """The order of whitened latents; no density is needed."""
    return Layout(program.latents.values(), whitened=True)


def latent_values(program: Program, u: Tensor) -> dict[str, Tensor]:
    """The latents at whitened coordinates with shape (n, D), {site: (n, *site)}; no density is needed."""
    layout = whitened_layout(program)
    parts = [_values(program, layout, part) for part in u.split(TILE)]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _values(program: Program, layout: Layout, u: Tensor) -> dict[str, Tensor]:
    blocks, found = layout.cut(u), {}

    def visit(msg: Any, site: Site) -> None:
        if site.kind == "data":
            msg["value"] = program.data_lanes(site)
            return
        value = msg["value"] = transport(msg["fn"]).forward(blocks[site.name])
        found[site.name] = site.draws(value.expand(len(u), *site.full_shape))

    with torch.no_grad():
        program.run(visit)
    return found


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


def _kind(fn: Any) -> str:
    support = fn.support
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    lower = getattr(support, "lower_bound", None)
    if not isinstance(lower, int | float) or lower != 0:
        return "real"
    if support.is_discrete:
        return "count"
    return "real" if hasattr(support, "upper_bound") else "positive"
