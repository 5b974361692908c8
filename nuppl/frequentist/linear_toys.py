"""Toys whose fits are matrix products, for models of many linear nuisances and counts that are large.

With the nuisances linear around the best fit (`linear`), the expected data at a point theta of the grid, taken where
the data's own fit puts the nuisances there, become a vector X(theta) and a toy a vector Y, and

    t = |Y - X(theta)|^2 - min over theta' of |Y - X(theta')|^2.

At its own point |Y - X|^2 has the right distribution even where the response differs from that of the best fit, since Y
is made with the same response. theta' runs over a finer grid, with a parabola through the lowest point along each axis.
What this leaves out is measured: full fits of a sample of the toys.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import NamedTuple

import torch
from torch import Tensor

from nuppl.errors import InputError
from nuppl.frequentist.direct import Direct
from nuppl.frequentist.grid import Axis, Grid
from nuppl.frequentist.profile import Profile
from nuppl.frequentist.refined import finer
from nuppl.frequentist.statistics import LIKELIHOOD_RATIO
from nuppl.frequentist.toys import TILE, Thrower
from nuppl.language.precision import double_precision
from nuppl.language.simulation import Toys, tile_seed

__all__ = ["Compared", "LinearThrower", "compare"]

_MOST, _CLOSE = 1 << 15, 0.25
"""Points of the finer grid at most, and how far apart neighbours of it are allowed to be, as a squared distance."""

_NUMBERS, _STREAM = 1 << 23, 52 << 24
"""Squared distances at a time; the stream of random numbers."""

_NEAR = 50.0
"""t of the data up to which points count when the finer grid is chosen."""


@dataclass(frozen=True, eq=False)
class LinearThrower(Thrower):
    """Draws pseudo-experiments of a scan and fits them by matrix products.

    Attributes:
        origin: R m' of the best fit, with shape (M,).
        cells: X of the scan's points with shape (G, M).
        table: X of the finer grid's points, single precision, with shape (F, M).
        finer: that grid.
    """

    origin: Tensor = field(kw_only=True)
    cells: Tensor = field(kw_only=True)
    table: Tensor = field(kw_only=True)
    finer: Grid = field(kw_only=True)

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
        linear = profile.linear
        origin = (linear.expected(profile.best.point) @ linear.root.T)[0]
        cells = linear.expected(profile.minima.point) @ linear.root.T - origin
        grid, points = _finer(profile, cells)
        table = torch.cat([linear.expected(part) @ linear.root.T - origin for part in points.split(4096)])
        mine = {each.name: getattr(thrower, each.name) for each in fields(thrower)}
        return cls(**mine, origin=origin, cells=cells, table=table.float(), finer=grid)

    @double_precision()
    def fitted(self, drawn: Toys, cells: Tensor) -> tuple[Tensor, Tensor]:
        """t of n toys, each at its point of the grid, numbers with shape (n,), and which fits failed, each (n,)."""
        linear = self.profile.linear
        seen = linear.effective(drawn.data, drawn.centers, len(cells)) @ linear.root.T - self.origin
        fixed = (seen - self.cells[cells]).square().sum(1)
        lengths, size = self.table.square().sum(1), max(1, _NUMBERS // len(self.table))
        parts = [self._lowest(some, lengths) for some in seen.float().split(size)]
        free = seen.square().sum(1) + torch.cat(parts)
        return (fixed - free).clamp(min=0.0), ~(fixed.isfinite() & free.isfinite())

    def _lowest(self, seen: Tensor, lengths: Tensor) -> Tensor:
        """The lowest |X|^2 - 2 Y.X over the table, with shape (n,)."""
        heights = torch.addmm(lengths, seen, self.table.T, alpha=-2.0)
        rows, lowest = torch.arange(len(seen)), heights.argmin(1)
        middle = heights[rows, lowest].double()
        found, steps = middle.clone(), list(self.finer.neighbours())
        for up, down in zip(steps[::2], steps[1::2], strict=True):
            inner = (down[lowest] != lowest) & (up[lowest] != lowest)
            before, after = heights[rows, down[lowest]].double(), heights[rows, up[lowest]].double()
            bend = (before + after - 2.0 * middle).clamp(min=1e-9)
            found -= torch.where(inner, (after - before).square() / (8.0 * bend), 0.0)
        return found


def _finer(profile: Profile, cells: Tensor) -> tuple[Grid, Tensor]:
    """A grid fine enough where the data say something, and its coordinates with shape (F, D)."""
    grid, near = profile.grid, profile.statistic < _NEAR
    parts = [1] * len(grid.axes)
    apart = []
    for step in list(grid.neighbours())[1::2]:
        both = near & near[step] & (step != torch.arange(grid.size))
        apart.append(float((cells[step] - cells).square().sum(1)[both].quantile(0.9)) if bool(both.any()) else 0.0)
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
def compare(thrower: LinearThrower, toys: int, seed: int) -> Compared:
    """Full fits of some toys at random points, those that the data exclude by far left out."""
    near = (thrower.profile.statistic < _NEAR).nonzero()[:, 0]
    generator = torch.Generator().manual_seed(tile_seed(seed, _STREAM, 0))
    cells = near[torch.randint(len(near), (toys,), generator=generator)]
    which = torch.randint(TILE, (toys,), generator=generator)
    thrown = [thrower.at(int(cell), 0) for cell in cells]
    picked = list(zip(thrown, which.tolist(), strict=True))
    drawn = Toys(
        *({name: torch.stack([toy[part][name][i] for toy, i in picked]) for name in thrown[0][part]} for part in (0, 1))
    )
    linear, _ = thrower.fitted(drawn, cells)
    full, failed = Thrower.fitted(thrower, drawn, cells)
    return Compared(cells, linear, full, failed)
