"""What neural estimators learn from: draws of a program's latents, whitened, and of its data.

The data of all sites stand side by side in one flat vector, each a `Field` whose kind follows from the support of the
site's distribution. Simulations that failed (`simulating`) are dropped and counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import constraints

from nuppl.errors import InputError
from nuppl.language.layout import Layout
from nuppl.language.program import Program
from nuppl.language.simulation import TILE, tiles
from nuppl.language.table import Site
from nuppl.language.transport import transport
from nuppl.learning.simulating import draw_batch
from nuppl.neural.fields import Field
from nuppl.results.checkpoints import Checkpoints
from nuppl.results.simulations import SimulationStore
from nuppl.results.tiles import Tile
from nuppl.typing import Progress, silent

__all__ = ["Simulated", "data_fields", "flat_data", "latent_values", "require_success", "simulated", "whitened_layout"]


class Simulated(NamedTuple):
    """Simulations that succeeded, and how many did not.

    Attributes:
        u: whitened latents with shape (n, D), or those that were asked for.
        data: with shape (n, M).
        failed: simulations that were dropped.
        reasons: why, {text: how many}.
    """

    u: Tensor
    data: Tensor
    failed: int
    reasons: Mapping[str, int] = MappingProxyType({})


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
    source: int | str | Path,
    seed: int,
    columns: Tensor | None = None,
    store: Checkpoints | None = None,
    progress: Progress = silent,
) -> Simulated:
    """Simulations of a program, drawn now or read from a store.

    A store that was made with the same seed gives the same simulations as drawing as many.

    Arguments:
        source: how many to draw, or the folder of a store.
        columns: which whitened latents to keep, with shape (d,); all by default.
        store: what an interrupted run had simulated, and where this one keeps what it has.

    Raises:
        InputError: all simulations failed, a latent that cannot be whitened, or a store of another model.
    """
    if not isinstance(source, int):
        return _stored(program, SimulationStore.open(source), columns, progress)
    store = store or Checkpoints(None)
    kept = store.load("simulations") or {"u": [], "data": [], "code": [], "reasons": []}
    layout = whitened_layout(program)
    for number, keep in tiles(source):
        if number < len(kept["u"]):
            continue
        drawn = draw_batch(program, layout, seed, number).first(keep)
        kept["u"].append(drawn.u if columns is None else drawn.u[:, columns])
        kept["data"].append(drawn.data)
        kept["code"].append(drawn.code)
        kept["reasons"].append(list(drawn.reasons))
        progress(number * TILE + keep, source, "simulations")
        if store.due() or number * TILE + keep == source:
            store.save("simulations", kept)
    rows = zip(kept["u"], kept["data"], kept["code"], map(tuple, kept["reasons"]), strict=True)
    return _succeeded(source, (Tile(*row) for row in rows))


def _stored(program: Program, store: SimulationStore, columns: Tensor | None, progress: Progress) -> Simulated:
    store.check(store.of_program(program))
    total = sum(tile.rows for tile in store.held())

    def told() -> Iterator[Tile]:
        done = 0
        for tile in store.tiles(columns):
            yield tile
            done += len(tile.u)
            progress(done, total, "reading simulations")

    return _succeeded(total, told())


def _succeeded(total: int, parts: Iterable[Tile]) -> Simulated:
    """Those that succeeded, put in place as they come: a store may be nearly as large as memory."""
    u, data, good = torch.zeros(0, 0), torch.zeros(0, 0), 0
    reasons: Counter[str] = Counter()
    for part in parts:
        if not good:
            u, data = (torch.empty(total, values.shape[1], dtype=torch.float64) for values in (part.u, part.data))
        fine = ~part.failed
        stop = good + int(fine.sum())
        u[good:stop], data[good:stop] = part.u[fine], part.data[fine]
        reasons.update(part.counts())
        good = stop
    if not good:
        why = "; ".join(f"{count} times {reason}" for reason, count in reasons.most_common(3)) or "there are none"
        raise InputError(
            f"all {total} simulations failed ({why}): expected a program that can be drawn from its prior; look for "
            "the place with nuppl check"
        )
    return Simulated(u[:good], data[:good], reasons.total(), dict(reasons))


def require_success(sims: Simulated, most: float = 0.01) -> None:
    """That few enough simulations failed for a likelihood to be learned from the others.

    A posterior may be learned from those that succeeded: the data at hand did succeed. A likelihood p(data | latents)
    learned from them lacks the factor P(success | latents), which moves every answer where that is not constant.

    Arguments:
        most: the share that may fail.

    Raises:
        InputError: more did.

    >>> require_success(Simulated(torch.zeros(99, 2), torch.zeros(99, 1), 1, {}))
    """
    share = sims.failed / (len(sims.u) + sims.failed)
    if share > most:
        why = "; ".join(f"{count} times {reason}" for reason, count in sims.reasons.items())
        raise InputError(
            f"simulations: {sims.failed} of {len(sims.u) + sims.failed} failed ({100 * share:.2g} %: {why}), expected "
            f"at most {100 * most:g} % for a learned likelihood, which knows nothing of where the program fails; mend "
            "the program, narrow the prior to where it works, or learn the posterior (npe, fmpe, npse)"
        )


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
