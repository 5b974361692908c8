"""A scan with toys: the statistic on the grid, critical values with their errors, p-values.

Every point gets a quarter of the toys. The rest goes where they decide: where the p-value of the data is within a few
of its errors of one minus a level, so that the border of a region runs nearby.

Work comes in blocks: a tile of toys at each of a few points, thrown and fitted together. Blocks are the same whatever
the number of processes, and each is kept as soon as it is done.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nuppl.errors import InputError
from nuppl.frequentist.experiments import observed
from nuppl.frequentist.hypothesis import Hypothesis
from nuppl.frequentist.nuisances import Nuisances
from nuppl.frequentist.profile import Profile
from nuppl.frequentist.statistics import LIKELIHOOD_RATIO, Statistic
from nuppl.frequentist.toys import TILE, Thrower
from nuppl.frequentist.workers import Function, Spread, in_turn
from nuppl.results.checkpoints import Checkpoints
from nuppl.typing import Progress, silent

__all__ = ["Earlier", "Scan", "null_toys", "scan"]

_LANES, _NEAR = 4096, 4.0
"""Toys of all points that are fitted together, and in how many errors a p-value counts as near a level."""


class Earlier(NamedTuple):
    """Toys of other scans of the same grid, thrown with other seeds.

    Attributes:
        statistic: with shape (G, n); NaN where none was thrown.
        failed: with shape (G,).
    """

    statistic: Tensor
    failed: Tensor


@dataclass(frozen=True, eq=False)
class Scan:
    """A profile and its toys.

    Attributes:
        profile: of G points.
        levels: L confidence levels.
        statistic: of toys with shape (G, n); NaN where none was thrown.
        failed: toys whose fits failed, with shape (G,); they count with what they ended at.
        chosen: the statistic.
        nuisances: where those of the toys lay.
    """

    profile: Profile
    levels: tuple[float, ...]
    statistic: Tensor
    failed: Tensor
    chosen: Statistic = LIKELIHOOD_RATIO
    nuisances: Nuisances = field(default_factory=Nuisances)

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
        return self.nuisances.critical(self.statistic, self.levels, TILE)

    @property
    def p_value(self) -> tuple[Tensor, Tensor]:
        """Of the data at each point, and its error, each with shape (G,)."""
        return self.nuisances.p_value(self.statistic, self.observed, TILE)


def scan(
    profile: Profile,
    levels: Sequence[float],
    toys: int = 0,
    *,
    statistic: Statistic = LIKELIHOOD_RATIO,
    nuisances: Nuisances = Nuisances(),  # noqa: B008 (frozen)
    thrower: Thrower | None = None,
    seed: int = 0,
    store: Checkpoints | None = None,
    earlier: Earlier | None = None,
    spread: Spread = in_turn,
    progress: Progress = silent,
) -> Scan:
    """Throw toys at the points of a profile.

    Arguments:
        levels: of confidence.
        toys: at most per point, rounded up to whole tiles; 0 for none.
        statistic: which.
        nuisances: where those of the toys lie; toys are then at least a tile for each set of them.
        thrower: of the toys, with this statistic and these nuisances; one that fits them in full by default.
        seed: the root seed.
        store: what an interrupted scan had thrown, and where this one keeps what it has.
        earlier: toys that count as well, thrown with other seeds.
        spread: over processes.
        progress: told of each finished batch.

    Raises:
        InputError: a negative number of toys, or none for a statistic that needs them.
    """
    if toys < 0:
        raise InputError(f"toys: expected 0 or more per point, got {toys}")
    if not toys and earlier is None and statistic.kind.asymptotic is None:
        raise statistic.needs_toys()
    rounds, size, work = -(-toys // TILE), profile.grid.size, _Work(store or Checkpoints(None), spread)
    if toys and rounds < nuisances.sets:
        raise InputError(f"toys: {nuisances.name!r} needs at least {nuisances.sets * TILE} per point, got {toys}")
    first = earlier or Earlier(torch.full((size, 0), math.nan), torch.zeros(size).long())
    found = Scan(profile, tuple(levels), first.statistic.double(), first.failed, statistic, nuisances)
    if rounds and thrower is None:
        thrower = Thrower.of(profile, seed, statistic, nuisances)
    for number in range(rounds):
        points = torch.arange(size) if number < max(nuisances.sets, rounds // 4) else _undecided(found)
        assert thrower is not None
        found = _thrown(found, thrower, points, number, rounds, work, progress)
    return found


def null_toys(
    hypothesis: Hypothesis,
    thrower: Thrower,
    toys: int,
    *,
    store: Checkpoints | None = None,
    spread: Spread = in_turn,
    progress: Progress = silent,
) -> tuple[Tensor, Tensor]:
    """t of toys under a hypothesis, in whole tiles, and which fits failed, each with shape (n,)."""
    work, tiles = _Work(store or Checkpoints(None), spread), range(-(-toys // TILE))
    jobs = {f"null-{number}": (thrower, number) for number in tiles}
    found = work.done(hypothesis.tile, jobs, lambda done: progress(done, len(jobs), "tiles of toys of the null"))
    if not found:
        return torch.zeros(0), torch.zeros(0).bool()
    statistic, failed = zip(*found, strict=True)
    return torch.cat(statistic), torch.cat(failed)


def _undecided(found: Scan) -> Tensor:
    """Points at which more toys may move a border."""
    if found.chosen.kind.null:
        return torch.arange(found.profile.grid.size)
    p, error = found.p_value
    near = [((p - (1.0 - level)).abs() < _NEAR * error) for level in found.levels]
    return torch.stack(near).any(0).nonzero()[:, 0]


def _thrown(
    found: Scan, thrower: Thrower, points: Tensor, number: int, rounds: int, work: _Work, progress: Progress
) -> Scan:
    """With one more tile at some points."""
    tile = torch.full((len(found.failed), TILE), math.nan, dtype=torch.float64)
    failed, blocks = found.failed.clone(), points.split(max(1, _LANES // TILE))
    before, after = int(found.thrown.sum()) // TILE, (rounds - number) * len(points)

    def told(done: int) -> None:
        progress(before + min(done * len(blocks[0]), len(points)), before + after, "tiles of toys")

    if len(points):
        jobs = {f"toys-{number}-{i}": (block, number) for i, block in enumerate(blocks)}
        for block, (statistic, lost) in zip(blocks, work.done(thrower.tile, jobs, told), strict=True):
            tile[block] = statistic
            failed[block] += lost.sum(1)
    return Scan(
        found.profile, found.levels, torch.cat([found.statistic, tile], 1), failed, found.chosen, found.nuisances
    )


class _Work(NamedTuple):
    """Where blocks are kept, and who does them."""

    store: Checkpoints
    spread: Spread

    def done(
        self, function: Function, jobs: Mapping[str, tuple[Any, ...]], told: Callable[[int], None]
    ) -> list[tuple[Tensor, Tensor]]:
        """The results of jobs by name, those that are not kept made now."""
        kept = {name: self.store.load(name) for name in jobs}
        missing = [name for name, each in kept.items() if each is None]
        for which, (statistic, failed) in self.spread(function, [jobs[name] for name in missing]):
            kept[missing[which]] = {"statistic": statistic, "failed": failed}
            self.store.save(missing[which], kept[missing[which]] or {})
            told(sum(each is not None for each in kept.values()))
        return [(each["statistic"], each["failed"]) for each in kept.values() if each is not None]
