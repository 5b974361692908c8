"""A scan whose critical values are learned from toys that are spread over the grid.

Toy number i is thrown at point i mod G, with random numbers of its own. Where the statistic is the likelihood ratio and
data have means, what is learned is u = F_0(t | theta) of `approximate`, in which little is left; else t itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from nuppl.errors import InputError
from nuppl.frequentist.approximate import Approximate
from nuppl.frequentist.critical import Critical
from nuppl.frequentist.direct import Direct
from nuppl.frequentist.grid import Grid
from nuppl.frequentist.learned import LEAST, LearnedCritical, learn_critical
from nuppl.frequentist.nuisances import Nuisances
from nuppl.frequentist.profile import Profile
from nuppl.frequentist.scan import Scan
from nuppl.frequentist.statistics import LIKELIHOOD_RATIO, Statistic
from nuppl.frequentist.throwing import throw
from nuppl.frequentist.toys import Thrower
from nuppl.language.precision import double_precision
from nuppl.language.simulation import tile_seed
from nuppl.results.checkpoints import Checkpoints
from nuppl.typing import Progress, silent

__all__ = ["LANES", "LearnedScan", "evenly", "learned_grid", "learned_scan", "spread"]

LANES = 2048
"""Toys of a tile."""

_STREAM = 47 << 24


@dataclass(frozen=True, eq=False)
class GridCritical:
    """Critical values at the points of a grid.

    Attributes:
        learned: of u, or of t where `approximate` is None.
        approximate: the map from t to u.
        theta: the points, evenly spread in each axis, with shape (G, K).
    """

    learned: LearnedCritical
    approximate: Approximate | None
    theta: Tensor

    def critical(self, levels: Sequence[float]) -> Critical:
        """With shape (L, G), and errors."""
        value, error = self.learned.critical(levels, self.theta)
        if self.approximate is None:
            return Critical(value, error)
        low, middle, high = (self._inverse(at) for at in (value - error, value, value + error))
        return Critical(middle, 0.5 * (high - low))

    def p_value(self, statistic: Tensor) -> tuple[Tensor, Tensor]:
        """Of statistics with shape (G,), and its error."""
        if self.approximate is not None:
            statistic = self.approximate.forward(statistic, torch.arange(len(self.theta)))
        return self.learned.p_value(statistic, self.theta)

    def _inverse(self, u: Tensor) -> Tensor:
        assert self.approximate is not None
        every = torch.arange(len(self.theta))
        return torch.stack([self.approximate.inverse(row.clamp(0.0, 1.0 - 1e-12), every) for row in u])


@dataclass(frozen=True, eq=False)
class LearnedScan(Scan):
    """A scan with learned critical values; `statistic` holds the toys of each point, NaN where there is none.

    Attributes:
        grid_critical: what was learned.
    """

    grid_critical: GridCritical = field(kw_only=True)

    @cached_property
    def critical(self) -> tuple[Tensor, Tensor]:
        """Critical values and their errors with shape (L, G)."""
        return self.grid_critical.critical(self.levels)

    @property
    def p_value(self) -> tuple[Tensor, Tensor]:
        """Of the data at each point, and its error, each with shape (G,)."""
        return self.grid_critical.p_value(self.observed)


def learned_scan(
    profile: Profile,
    levels: Sequence[float],
    toys: int,
    *,
    seed: int = 0,
    statistic: Statistic = LIKELIHOOD_RATIO,
    nuisances: Nuisances = Nuisances(),  # noqa: B008 (frozen)
    store: Checkpoints | None = None,
    progress: Progress = silent,
) -> LearnedScan:
    """Learn critical values at the points of a profile.

    Arguments:
        levels: of confidence.
        toys: in all, rounded up to whole tiles.
        seed: the root seed.
        statistic: which.
        nuisances: where those of the toys lie; "profile" or "prior".
        store: what an interrupted scan had thrown and learned, and where this one keeps what it has.
        progress: told of each finished tile and epoch.

    Raises:
        InputError: too few toys, or several sets of nuisances at each point.
    """
    if nuisances.sets > 1:
        raise InputError(f"learned critical values: expected nuisances 'profile' or 'prior', got {nuisances.name!r}")
    if toys < LEAST:
        raise InputError(f"learned critical values: expected at least {LEAST} toys in all, got {toys}: ask for more")
    store = store or Checkpoints(None)
    cells, found, failed = spread(Thrower.of(profile, seed, statistic, nuisances), toys, seed, store, progress)
    ratio = statistic.name == LIKELIHOOD_RATIO.name
    critical = learned_grid(profile, cells, found, seed=seed, ratio=ratio, store=store, progress=progress)
    size = profile.grid.size
    rows = torch.full((size * -(-len(cells) // size),), math.nan, dtype=torch.float64)
    rows[: len(cells)] = found
    lost = torch.zeros(size).long().index_add(0, cells, failed.long())
    return LearnedScan(
        profile, tuple(levels), rows.reshape(-1, size).T, lost, statistic, nuisances, grid_critical=critical
    )


def learned_grid(
    profile: Profile,
    cells: Tensor,
    statistic: Tensor,
    *,
    seed: int = 0,
    ratio: bool = True,
    store: Checkpoints | None = None,
    progress: Progress = silent,
) -> GridCritical:
    """From toys with shape (n,) at points of the grid, numbers with shape (n,); arguments as of `learned_scan`."""
    store, theta = store or Checkpoints(None), evenly(profile.grid)
    approximate = None
    if ratio and not isinstance(profile.linear, Direct):
        kept = store.once("approximate", lambda: vars(Approximate.of(profile, seed, progress)))
        approximate = Approximate(**kept)
    u = statistic if approximate is None else _apart(statistic, approximate.forward(statistic, cells), seed)
    learned = learn_critical(profile.grid.names, theta[cells], u, seed=seed, store=store, progress=progress)
    return GridCritical(learned, approximate, theta)


def _apart(statistic: Tensor, u: Tensor, seed: int) -> Tensor:
    """u, with toys at t = 0 spread over [0, u]: where many lie there, it is as uniform as elsewhere, easier to learn.

    A region at a level below their share is cut at t = 0 all the same, and covers more.
    """
    generator = torch.Generator().manual_seed(tile_seed(seed, _STREAM + 1))
    share = torch.rand(len(u), generator=generator, dtype=torch.float64)
    return torch.where(statistic <= 0.0, share * u, u)


def evenly(grid: Grid) -> Tensor:
    """The points of a grid with shape (G, K), in the logarithm where an axis is spaced in it."""
    columns = [column.log() if axis.log else column for axis, column in zip(grid.axes, grid.points.T, strict=True)]
    return torch.stack(columns, 1)


@double_precision()
def spread(
    thrower: Thrower, number: int, seed: int, store: Checkpoints, progress: Progress = silent
) -> tuple[Tensor, Tensor, Tensor]:
    """Points, statistic and failures of toys that visit the points of the grid in turn, each with shape (n,)."""
    size, tiles = thrower.profile.grid.size, -(-number // LANES)
    kept = store.load("spread") or {"statistic": torch.zeros(0), "failed": torch.zeros(0, dtype=torch.bool)}
    statistic, failed = kept["statistic"].double(), kept["failed"]
    for tile in range(len(statistic) // LANES, tiles):
        cells = torch.arange(tile * LANES, (tile + 1) * LANES) % size
        found, lost = _tile(thrower, cells, tile_seed(seed, _STREAM, tile))
        statistic, failed = torch.cat([statistic, found]), torch.cat([failed, lost])
        progress(tile + 1, tiles, "tiles of toys")
        if store.due() or tile + 1 == tiles:
            store.save("spread", {"statistic": statistic, "failed": failed})
    return torch.arange(len(statistic)) % size, statistic, failed


def _tile(thrower: Thrower, cells: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    natural, nuisances = thrower.profile.likelihoods.natural, thrower.nuisances
    truth = natural.values(thrower.profile.minima.point[cells])
    if nuisances.predictive:
        truth = {name: truth[name] for name in thrower.profile.grid.names}
    drawn = throw(natural.program, len(cells), seed=seed, at=truth, predictive=nuisances.predictive)
    return thrower.fitted(drawn, cells)
