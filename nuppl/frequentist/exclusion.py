"""CLs of a scan, from asymptotic formulas or from toys at every point and at the null hypothesis."""

from __future__ import annotations

import torch
from torch import Tensor

from nuppl.frequentist.asimov import at_values
from nuppl.frequentist.cls import Cls, cls_of_toys, crossing
from nuppl.frequentist.one_sided import one_sided_cls
from nuppl.frequentist.scan import Scan
from nuppl.frequentist.toys import TILE, Thrower
from nuppl.frequentist.two_hypotheses import two_hypotheses_cls
from nuppl.language.precision import double_precision
from nuppl.results.checkpoints import Checkpoints, State
from nuppl.typing import Progress, silent

__all__ = ["CLS", "exclusion"]

CLS = {"q-tilde": one_sided_cls, "gaussian-cls": two_hypotheses_cls}
"""Statistics that compare with a null hypothesis, and their asymptotic CLs."""

_NULL = 1 << 20
"""Tiles of toys at the null hypothesis have numbers of their own."""


@double_precision()
def exclusion(
    found: Scan, *, seed: int = 0, store: Checkpoints | None = None, progress: Progress = silent
) -> tuple[Cls, int] | None:
    """CLs of a scan, and how many toys at the null hypothesis failed; None for a statistic that knows of no such.

    Arguments:
        found: with its toys, if any were thrown; as many as a point may have are thrown at the null hypothesis.
        seed: the root seed.
        store: where toys at the null hypothesis are kept.
        progress: told of each finished tile.
    """
    chosen, grid = found.chosen, found.profile.grid
    if chosen.name not in CLS:
        return None
    if not found.statistic.shape[1]:
        return CLS[chosen.name](found.profile, found.levels, **chosen.options), 0
    null = torch.as_tensor(chosen.options.get("null", 0.0)).double().reshape(-1)
    kept = (store or Checkpoints(None)).once("null", lambda: _null(found, null, seed, progress))
    observed, expected = cls_of_toys(found.statistic, kept["statistic"], found.observed)
    if len(grid.axes) > 1:
        return Cls(observed, expected), int(kept["failed"])
    limits = crossing(grid.axes[0].values, torch.cat([observed[None], expected]), found.levels)
    return Cls(observed, expected, limits[:, 0], limits[:, 1:]), int(kept["failed"])


def _null(found: Scan, null: Tensor, seed: int, progress: Progress) -> State:
    """The statistic of toys at the null hypothesis tested at each point with shape (G, m), and failures."""
    profile, tiles = found.profile, found.statistic.shape[1] // TILE
    thrower = Thrower.of(profile, seed, found.chosen)
    truth = at_values(profile, null[None], profile.likelihoods).point[0]
    parts, failed = [], 0
    for number in range(tiles):
        drawn = thrower.drawn(truth, _NULL + number)
        seen = thrower.experiments(drawn, null.expand(TILE, -1))
        parts.append(torch.stack([found.chosen(seen.at(point)) for point in profile.grid.points]))
        failed += int(seen.failed.sum())
        progress(number + 1, tiles, "tiles of toys at the null hypothesis")
    return {"statistic": torch.cat(parts, 1), "failed": failed}
