"""A scan with toys: the statistic on the grid, critical values with their errors, p-values.

Every point gets a quarter of the toys. The rest goes where they decide: where the p-value of the data is within a few
of its errors of one minus a level, so that the border of a region runs nearby.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from nuppl.errors import InputError
from nuppl.frequentist.critical import critical, p_value
from nuppl.frequentist.experiments import observed
from nuppl.frequentist.profile import Profile
from nuppl.frequentist.statistics import LIKELIHOOD_RATIO, Statistic
from nuppl.frequentist.toys import TILE, Thrower
from nuppl.results.checkpoints import Checkpoints
from nuppl.typing import Progress, silent

__all__ = ["Scan", "scan"]

_LANES, _NEAR = 4096, 4.0
"""Toys of all points that are fitted together, and in how many errors a p-value counts as near a level."""


@dataclass(frozen=True, eq=False)
class Scan:
    """A profile and its toys.

    Attributes:
        profile: of G points.
        levels: L confidence levels.
        statistic: of toys with shape (G, n); NaN where none was thrown.
        failed: toys whose fits failed, with shape (G,); they count with what they ended at.
        chosen: the statistic.
    """

    profile: Profile
    levels: tuple[float, ...]
    statistic: Tensor
    failed: Tensor
    chosen: Statistic = LIKELIHOOD_RATIO

    @cached_property
    def observed(self) -> Tensor:
        """The statistic of the data at each point, with shape (G,)."""
        return self.chosen(observed(self.profile))

    @property
    def thrown(self) -> Tensor:
        """Toys of each point with shape (G,)."""
        return (~self.statistic.isnan()).sum(1)

    @cached_property
    def critical(self) -> tuple[Tensor, Tensor]:
        """Critical values and their errors with shape (L, G); asymptotic ones, without errors, if there are no toys."""
        if not self.statistic.shape[1]:
            value = self.chosen.critical(self.profile, self.levels)
            return value, torch.zeros_like(value)
        return critical(self.statistic, self.levels)

    @property
    def p_value(self) -> tuple[Tensor, Tensor]:
        """Of the data at each point, and its error, each with shape (G,)."""
        return p_value(self.statistic, self.observed)


def scan(
    profile: Profile,
    levels: Sequence[float],
    toys: int = 0,
    *,
    statistic: Statistic = LIKELIHOOD_RATIO,
    seed: int = 0,
    store: Checkpoints | None = None,
    progress: Progress = silent,
) -> Scan:
    """Throw toys at the points of a profile.

    Arguments:
        levels: of confidence.
        toys: at most per point, rounded up to whole tiles; 0 for none.
        statistic: which.
        seed: the root seed.
        store: what an interrupted scan had thrown, and where this one keeps what it has.
        progress: told of each finished batch.

    Raises:
        InputError: a negative number of toys, or none for a statistic that needs them.
    """
    if toys < 0:
        raise InputError(f"toys: expected 0 or more per point, got {toys}")
    if not toys and statistic.kind.asymptotic is None:
        raise statistic.needs_toys()
    rounds, size = -(-toys // TILE), profile.grid.size
    store = store or Checkpoints(None)
    kept = store.load("toys") or {"statistic": torch.full((size, 0), math.nan), "failed": torch.zeros(size).long()}
    found = Scan(profile, tuple(levels), kept["statistic"].double(), kept["failed"], statistic)
    thrower = Thrower.of(profile, seed, statistic) if rounds else None
    for number in range(found.statistic.shape[1] // TILE, rounds):
        points = torch.arange(size) if number < max(1, rounds // 4) else _undecided(found)
        assert thrower is not None
        found = _thrown(found, thrower, points, number, rounds, progress)
        if store.due() or number + 1 == rounds:
            store.save("toys", {"statistic": found.statistic, "failed": found.failed})
    return found


def _undecided(found: Scan) -> Tensor:
    """Points at which more toys may move a border."""
    p, error = found.p_value
    near = [((p - (1.0 - level)).abs() < _NEAR * error) for level in found.levels]
    return torch.stack(near).any(0).nonzero()[:, 0]


def _thrown(found: Scan, thrower: Thrower, points: Tensor, number: int, rounds: int, progress: Progress) -> Scan:
    """With one more tile at some points."""
    tile = torch.full((len(found.failed), TILE), math.nan, dtype=torch.float64)
    failed, done = found.failed.clone(), 0
    before, after = int(found.thrown.sum()) // TILE, (rounds - number) * len(points)
    # Where every p-value is far from a level there is nothing to throw.
    for some in points.split(max(1, _LANES // TILE)) if len(points) else ():
        tile[some], lost = thrower.tile(some, number)
        failed[some] += lost.sum(1)
        done += len(some)
        progress(before + done, before + after, "tiles of toys")
    return Scan(found.profile, found.levels, torch.cat([found.statistic, tile], 1), failed, found.chosen)
