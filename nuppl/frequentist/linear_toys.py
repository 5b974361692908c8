"""Toys whose fits are matrix products, for models of many linear nuisances and counts that are large.

With the nuisances linear around what the data's own fit prefers at each point theta of the grid (`table`), a toy is a
vector, and

    t = chi2(toy, theta) - min over theta' of chi2(toy, theta').

theta' runs over a finer grid, with a parabola through the lowest point along each axis. What this leaves out is
measured twice: t of the data beside their own full profile, which also chooses the reference of the linear nuisances,
and full fits of a sample of the toys.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from nuppl.errors import InputError
from nuppl.frequentist.direct import Direct
from nuppl.frequentist.grid import Axis, Grid
from nuppl.frequentist.profile import Profile
from nuppl.frequentist.refined import finer
from nuppl.frequentist.statistics import LIKELIHOOD_RATIO
from nuppl.frequentist.table import Table
from nuppl.frequentist.toys import TILE, Thrower, valleys_of
from nuppl.frequentist.workers import Spread, in_turn
from nuppl.language.precision import double_precision
from nuppl.language.simulation import Toys, tile_seed
from nuppl.optimize.objective import natural_objective
from nuppl.optimize.response import Response
from nuppl.typing import Progress, silent

__all__ = ["Compared", "LinearThrower", "compare"]

_MOST, _CLOSE = 1 << 15, 0.25
"""Points of the finer grid at most, and how far apart neighbours of it are allowed to be, as a squared distance."""

_LOOKS, _OWN, _GAIN = 8, 6, 0.9
"""References that are tried, and points at which columns are judged; columns with a response of their own at most; by
how much more of these must lower the error of t for them to be kept."""

_NUMBERS, _BLOCK, _STREAM = 1 << 23, 8, 52 << 24
"""Squared distances at a time; full fits at a time; the stream of random numbers."""

_NEAR = 50.0
"""t of the data up to which points count when the finer grid is chosen."""


@dataclass(frozen=True, eq=False)
class LinearThrower(Thrower):
    """Draws pseudo-experiments of a scan and fits them by matrix products.

    Attributes:
        cells: the scan's points.
        table: those of the finer grid, in single precision.
        finer: that grid.
        off: t of the data by products less that of the profile, where they do not exclude a point, with shape (n,).
    """

    cells: Table = field(kw_only=True)
    table: Table = field(kw_only=True)
    finer: Grid = field(kw_only=True)
    off: Tensor = field(kw_only=True)
    tolerance: ClassVar[float] = 1e-3

    @classmethod
    @double_precision()
    def like(cls, thrower: Thrower) -> LinearThrower:
        """With the settings of another thrower.

        Raises:
            InputError: a statistic other than the likelihood ratio, or data without known means.
        """
        profile = thrower.profile
        if thrower.statistic.name != LIKELIHOOD_RATIO.name:
            raise InputError(
                f"linear fits: expected the likelihood ratio, got the statistic {thrower.statistic.name!r}"
            )
        if isinstance(profile.linear, Direct):
            raise InputError("linear fits: expected data with a known mean; use full fits")
        near, off = _nearest(profile)
        cells = near.at(profile.minima.point)
        grid, points = _finer(profile, cells)
        mine = {each.name: getattr(thrower, each.name) for each in fields(thrower)}
        return cls(**mine, cells=cells, table=near.at(points).single, finer=grid, off=off)

    @double_precision()
    def fitted(self, drawn: Toys, cells: Tensor) -> tuple[Tensor, Tensor]:
        """t of n toys, each at its point of the grid, numbers with shape (n,), and which fits failed, each (n,)."""
        seen = self.cells.seen(drawn, len(cells))
        fixed = self.cells.each(seen, cells)
        heights = self.table.all(seen, max(1, _NUMBERS // len(self.table.points)))
        free = seen.square().sum(1) + torch.cat([self._lowest(some) for some in heights])
        return (fixed - free).clamp(min=0.0), ~(fixed.isfinite() & free.isfinite())

    def start(self, effective: Tensor, drawn: Toys, cells: Tensor) -> Tensor:
        """Points of the grid, numbers with shape (n,), with nuisances from the response there."""
        return self.cells.starts(drawn, cells)

    def valleys(self, effective: Tensor, drawn: Toys) -> tuple[Tensor, Tensor]:
        """Toys with shape (L,), and points with shape (L, D) from which their free fits start."""
        seen = self.cells.seen(drawn, len(effective))
        size = max(1, _NUMBERS // len(self.table.points))
        parts = [valleys_of(heights.double(), self.finer) for heights in self.table.all(seen, size)]
        lanes = torch.cat([lane + number * size for number, (lane, _) in enumerate(parts)])
        cells = torch.cat([cell for _, cell in parts])
        some = Toys(*({name: value[lanes] for name, value in values.items()} for values in drawn))
        return lanes, self.table.starts(some, cells)

    @double_precision()
    def both(self, cells: Tensor, which: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """t of toys by matrix products and by full fits, and which of these failed, each with shape (n,).

        Arguments:
            cells: the toys' points, with shape (n,).
            which: their numbers in the first tile of toys there, with shape (n,).
        """
        thrown = {cell: self.at(cell, 0) for cell in set(cells.tolist())}
        picked = [(thrown[cell], number) for cell, number in zip(cells.tolist(), which.tolist(), strict=True)]
        first = picked[0][0]
        drawn = Toys(
            *({name: torch.stack([toy[part][name][i] for toy, i in picked]) for name in first[part]} for part in (0, 1))
        )
        here = Response.around(natural_objective(self.profile.likelihoods.natural), self.cells.points[cells[:_LOOKS]])
        there = replace(self, profile=replace(self.profile, response=here))
        full, failed = Thrower.fitted(there, drawn, cells)
        return self.fitted(drawn, cells)[0], full, failed

    def _lowest(self, heights: Tensor) -> Tensor:
        """The lowest of the table's chi2, with shape (n,), for all of them with shape (n, F)."""
        rows, lowest = torch.arange(len(heights)), heights.argmin(1)
        middle = heights[rows, lowest].double()
        found, steps = middle.clone(), list(self.finer.neighbours())
        for up, down in zip(steps[::2], steps[1::2], strict=True):
            inner = (down[lowest] != lowest) & (up[lowest] != lowest)
            before, after = heights[rows, down[lowest]].double(), heights[rows, up[lowest]].double()
            bend = (before + after - 2.0 * middle).clamp(min=1e-9)
            found -= torch.where(inner, (after - before).square() / (8.0 * bend), 0.0)
        return found


def _nearest(profile: Profile) -> tuple[Table, Tensor]:
    """Points that the data do not exclude, with t as close to the profile's as a reference and few columns of their own
    bring it, and by how much t is off, with shape (n,)."""
    near = (profile.statistic < _NEAR).nonzero()[:, 0]
    points = profile.minima.point[near]
    looks = points[torch.linspace(0, len(near) - 1, _LOOKS).round().long()]
    own = profile.minima.at_bound[near].any(0).nonzero()[:, 0]
    tried = [_judged(profile, near, reference, own) for reference in torch.cat([profile.best.point, looks])]
    table, off = min(tried, key=lambda each: _far(each[1]))
    while len(own) < _OWN:
        own = torch.cat([own, _wrong(table, points[off.abs().topk(min(_LOOKS, len(near))).indices])]).sort().values
        better, remaining = _judged(profile, near, table.linear.reference, own)
        if _far(remaining) > _GAIN * _far(off):
            break
        table, off = better, remaining
    return table, off


def _judged(profile: Profile, near: Tensor, reference: Tensor, own: Tensor) -> tuple[Table, Tensor]:
    """A table of some points of the grid, and t of the data there less the profile's, up to what all have in common."""
    likelihoods = profile.likelihoods
    table = Table.around(likelihoods, reference, profile.columns, own, profile.minima.point[near])
    data = Toys(dict(likelihoods.natural.program.data), {})
    off = table.each(table.seen(data, len(near)), torch.arange(len(near))) - profile.statistic[near]
    return table, off - off.median()


def _far(off: Tensor) -> float:
    return float(off.abs().quantile(0.9))


def _wrong(table: Table, points: Tensor) -> Tensor:
    """The two columns that fail most at points with shape (q, D): their response times how far they would move."""
    linear = table.linear
    objective = natural_objective(linear.likelihoods.natural)
    effective = linear.effective(linear.likelihoods.natural.program.data, {}, len(points))
    moved = linear.start(points, effective, linear.expected(points), {}) - points
    _, _, shared = objective.jacobian(linear.reference)
    score = torch.zeros(objective.dim)
    for point, move in zip(points, moved, strict=True):
        _, variance, jacobian = objective.jacobian(point)
        wrong = (jacobian - shared) * move * variance.clamp(min=1e-12).rsqrt()[:, None]
        score += wrong.square().sum(0)
    return linear.nuisance[score[linear.nuisance].topk(min(2, len(linear.nuisance))).indices]


def _finer(profile: Profile, cells: Table) -> tuple[Grid, Tensor]:
    """A grid fine enough where the data say something, and its coordinates with shape (F, D)."""
    grid, near = profile.grid, profile.statistic < _NEAR
    parts = [1] * len(grid.axes)
    apart = []
    for step in list(grid.neighbours())[1::2]:
        both = (near & near[step] & (step != torch.arange(grid.size))).nonzero()[:, 0]
        distance = cells.each(cells.places[step[both]], both)
        apart.append(float(distance.quantile(0.9)) if len(both) else 0.0)
    while max(apart) > _CLOSE and 2 * _count(grid, parts) < _MOST:
        widest = apart.index(max(apart))
        parts[widest], apart[widest] = 2 * parts[widest], 0.25 * apart[widest]
    points = profile.minima.point.reshape(*grid.shape, -1)
    for axis, count in enumerate(parts):
        points = _interpolated(points, axis, count)
    axes: list[Axis] = [finer(axis, count) for axis, count in zip(grid.axes, parts, strict=True)]
    return Grid(tuple(axes)), points.reshape(-1, points.shape[-1])


def _count(grid: Grid, parts: list[int]) -> int:
    count = 1
    for axis, cut in zip(grid.axes, parts, strict=True):
        count *= (len(axis.values) - 1) * cut + 1
    return count


def _interpolated(points: Tensor, axis: int, parts: int) -> Tensor:
    """With every step along an axis cut into parts."""
    steps = torch.arange((points.shape[axis] - 1) * parts + 1)
    low = (steps // parts).clamp(max=points.shape[axis] - 2)
    share = (steps / parts - low).reshape(-1, *[1] * (points.dim() - axis - 1))
    found: Tensor = torch.lerp(points.index_select(axis, low), points.index_select(axis, low + 1), share)
    return found


class Compared(NamedTuple):
    """Toys fitted both ways, each with shape (n,): their points, t by matrix products, t of full fits, which failed."""

    cells: Tensor
    linear: Tensor
    full: Tensor
    failed: Tensor


@double_precision()
def compare(
    thrower: LinearThrower, toys: int, seed: int, *, spread: Spread = in_turn, progress: Progress = silent
) -> Compared:
    """Full fits of some toys at random points, those that the data exclude by far left out."""
    near = (thrower.profile.statistic < _NEAR).nonzero()[:, 0]
    generator = torch.Generator().manual_seed(tile_seed(seed, _STREAM, 0))
    cells = near[torch.randint(len(near), (toys,), generator=generator)].sort().values
    which = torch.randint(TILE, (toys,), generator=generator)
    jobs = list(zip(cells.split(_BLOCK), which.split(_BLOCK), strict=True))
    found: dict[int, tuple[Tensor, ...]] = {}
    for number, parts in spread(thrower.both, jobs):
        found[number] = parts
        progress(len(found), len(jobs), "blocks of toys fitted in full")
    linear, full, failed = (torch.cat(parts) for parts in zip(*(found[i] for i in range(len(jobs))), strict=True))
    return Compared(cells, linear, full, failed)
