"""Simulations of a program at given latents: what sequential estimators learn from after their first round."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor

from nuppl.language.layout import Layout
from nuppl.language.precision import seeded
from nuppl.language.program import Program
from nuppl.language.simulation import TILE, tile_seed
from nuppl.language.table import Site
from nuppl.language.transport import transport
from nuppl.learning.simulated import Simulated, whitened_layout
from nuppl.learning.simulating import batch_at
from nuppl.typing import Progress, silent

__all__ = ["simulated_at"]

_STREAM = 30 << 24


def simulated_at(program: Program, x: Tensor, columns: Tensor, seed: int, progress: Progress = silent) -> Simulated:
    """Simulations with some whitened latents held; the others are drawn from their priors.

    Arguments:
        x: the held ones with shape (n, d).
        columns: which they are, with shape (d,).
    """
    layout = whitened_layout(program)
    held = torch.zeros(layout.dim, dtype=torch.bool)
    held[columns] = True
    kept, data, reasons = [], [], Counter[str]()
    for number, part in enumerate(x.split(TILE)):
        u = torch.zeros(len(part), layout.dim, dtype=torch.float64)
        u[:, columns] = part.double()
        with seeded(tile_seed(seed, _STREAM, number)), torch.no_grad():
            tile = batch_at(program, layout, _completed(program, layout, u, held), len(part))
        good = ~tile.failed
        kept.append(part[good].double())
        data.append(tile.data[good])
        reasons.update(tile.counts())
        progress(min((number + 1) * TILE, len(x)), len(x), "simulations")
    return Simulated(torch.cat(kept), torch.cat(data), reasons.total(), dict(reasons))


def _completed(program: Program, layout: Layout, u: Tensor, held: Tensor) -> dict[str, Tensor]:
    """The latents at u where held, drawn elsewhere: {site: (n, *full_shape)}."""
    blocks, keep, values = layout.cut(u), layout.cut(held[None]), {}

    def visit(msg: Any, site: Site) -> None:
        if site.kind == "data":
            msg["value"] = program.data_lanes(site)
            return
        mapping = transport(msg["fn"])
        drawn = mapping.inverse(msg["fn"].expand((len(u), *site.batch)).sample())
        point = torch.where(keep[site.name], blocks[site.name], drawn)
        values[site.name] = msg["value"] = mapping.forward(point)

    program.run(visit)
    return values
