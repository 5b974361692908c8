"""The test statistic of pseudo-experiments at the points of a scan.

Toys at a point are drawn, data and centres of pulls both, at the nuisances that the data prefer there (profile
construction: NOvA, arXiv:2207.14353; `nuisances` has others), and fitted as the statistic asks: at the point and freely
for the likelihood ratio,

    t = 2 [min_a (-log L)(theta, a) - min (-log L)],

at all points of the grid for others. Free fits start from the lowest points that `linear` sees on a finer grid: of a
coarse one they miss minima where the likelihood oscillates. All points share the random numbers of a tile.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from nuppl.frequentist.asimov import prepared
from nuppl.frequentist.experiments import Curves, Experiments
from nuppl.frequentist.grid import Grid
from nuppl.frequentist.nuisances import Nuisances
from nuppl.frequentist.profile import Profile
from nuppl.frequentist.refined import refined
from nuppl.frequentist.statistics import LIKELIHOOD_RATIO, Statistic
from nuppl.frequentist.throwing import throw
from nuppl.language.density import Natural
from nuppl.language.precision import double_precision
from nuppl.language.simulation import Toys, tile_seed
from nuppl.optimize.batch import fit_lanes
from nuppl.optimize.batch_newton import Minima
from nuppl.optimize.lanes import Likelihoods

__all__ = ["TILE", "Thrower", "valleys_of"]

TILE = 256
"""Toys per tile."""

_LANES = 1 << 16
"""Fits over a grid that are made at a time."""

_CHI2 = 1 << 21
"""Numbers chi2 that are held at a time."""

_STREAM, _STARTS, _NEAR = 41 << 24, 3, 2.0
"""The stream of random numbers; valleys of the grid from which a free fit starts, and how far they may lie above the
lowest."""


@dataclass(frozen=True, eq=False)
class Thrower:
    """Draws and fits pseudo-experiments of a scan.

    Attributes:
        profile: the scan.
        seed: the root seed.
        means: what the points of the grid expect with the reference's nuisances, with shape (G, M).
        fine: the scan on the grid from whose points free fits start.
        fine_means: what these expect, with shape (F, M).
        statistic: what is computed of each toy.
        nuisances: where those of the toys lie.
    """

    profile: Profile
    seed: int
    means: Tensor
    fine: Profile
    fine_means: Tensor
    statistic: Statistic = LIKELIHOOD_RATIO
    nuisances: Nuisances = field(default_factory=Nuisances)
    tolerance: ClassVar[float] = 1e-5
    """What fits may leave to gain in minus log likelihood."""

    @classmethod
    def of(
        cls,
        profile: Profile,
        seed: int,
        statistic: Statistic = LIKELIHOOD_RATIO,
        nuisances: Nuisances = Nuisances(),  # noqa: B008 (frozen)
    ) -> Thrower:
        """For a scan."""
        fine = refined(profile)
        means = [each.linear.expected(each.minima.point) for each in (profile, fine)]
        return cls(profile, seed, means[0], fine, means[1], statistic, nuisances)

    @double_precision()
    def tile(self, points: Tensor, number: int) -> tuple[Tensor, Tensor]:
        """t of one tile of toys at some points, numbers with shape (P,), and which fits failed, each (P, TILE)."""
        thrown = [self.at(int(point), number) for point in points]
        drawn = Toys(*(_together(parts) for parts in zip(*thrown, strict=True)))
        statistic, failed = self.fitted(drawn, points.repeat_interleave(TILE))
        return statistic.reshape(-1, TILE), failed.reshape(-1, TILE)

    @double_precision()
    def fitted(self, drawn: Toys, cells: Tensor) -> tuple[Tensor, Tensor]:
        """t of n toys, each at its point of the grid, numbers with shape (n,), and which fits failed, each (n,)."""
        seen = self.experiments(drawn, self.profile.grid.points[cells])
        return self.statistic(seen), seen.failed

    def experiments(self, drawn: Toys, tested: Tensor) -> Experiments:
        """What a statistic sees of n toys, for values of the scanned parameters with shape (n, K) tested on them."""
        likelihoods = Likelihoods(self.profile.likelihoods.natural, drawn.data, drawn.centers)
        effective = self.profile.linear.effective(drawn.data, drawn.centers, len(tested))

        def fixed(values: Tensor) -> Minima:
            start, near = (
                self.start(effective, drawn, self.profile.grid.nearest(values)),
                prepared(self.profile, values),
            )
            start[:, self.profile.columns] = near[:, self.profile.columns]
            # Toys are thrown where the data's own fit is: where nuisances are far from linear that is the better start.
            lower = likelihoods.values(near) < likelihoods.values(start)
            start = torch.where(lower[:, None], near, start)
            return fit_lanes(
                likelihoods, start, held=self.profile.held, response=self.profile.response, tolerance=self.tolerance
            )

        return Experiments(
            self.profile,
            tested,
            fixed,
            lambda at: self.free(likelihoods, effective, drawn, at),
            lambda: self._curves(likelihoods, effective, drawn),
        )

    def _curves(self, likelihoods: Likelihoods, effective: Tensor, drawn: Toys) -> Curves:
        """Fits of all toys at all points of the grid."""
        size, parts = self.profile.grid.size, []
        for lanes in torch.arange(len(effective)).split(max(1, _LANES // size)):
            each, cells = lanes.repeat_interleave(size), torch.arange(size).repeat(len(lanes))
            some = Toys(*({name: value[each] for name, value in values.items()} for values in drawn))
            start = self.start(effective[each], some, cells)
            response = self.profile.response
            found = fit_lanes(
                likelihoods.rows(each), start, held=self.profile.held, response=response, tolerance=self.tolerance
            )
            lost = ~found.converged.reshape(-1, size).all(1)
            parts.append(Curves(-found.value.reshape(-1, size), lost))
        values, failed = zip(*parts, strict=True)
        return Curves(torch.cat(values), torch.cat(failed))

    def drawn(self, truth: Tensor, number: int) -> Toys:
        """One tile of toys at coordinates with shape (D,)."""
        return self._drawn(self.profile.likelihoods.natural, truth, number)

    def at(self, point: int, number: int) -> Toys:
        """One tile of toys at a point of the grid."""
        program = self.profile.likelihoods.natural.program
        values = self.nuisances.values(self.profile, point, number, self.seed)
        seed, predictive = tile_seed(self.seed, _STREAM, number), self.nuisances.predictive
        return throw(program, TILE, seed=seed, at=values, predictive=predictive, tile=TILE)

    def _drawn(self, natural: Natural, truth: Tensor, number: int) -> Toys:
        values = {name: value[0] for name, value in natural.values(truth[None]).items()}
        seed = tile_seed(self.seed, _STREAM, number)
        return throw(natural.program, TILE, seed=seed, at=values, tile=TILE)

    def free(self, likelihoods: Likelihoods, effective: Tensor, drawn: Toys, fixed: Minima) -> Minima:
        """The lowest of the minima next to the valleys of the toy's chi2 on the grid, and to its own point."""
        lanes, start = self.valleys(effective, drawn)
        tried = fit_lanes(likelihoods.rows(lanes), start, response=self.profile.response, tolerance=self.tolerance)
        rank = torch.arange(len(lanes)) - torch.searchsorted(lanes, lanes)
        found = tried.rows(rank == 0)
        for number in range(1, int(rank.max()) + 1):
            mine = rank == number
            found = found.with_rows(lanes[mine], found.rows(lanes[mine]).better(tried.rows(mine)))
        missed = (found.value > fixed.value).nonzero()[:, 0]
        if len(missed):
            again = fit_lanes(
                likelihoods.rows(missed), fixed.point[missed], response=self.profile.response, tolerance=self.tolerance
            )
            found = found.with_rows(missed, found.rows(missed).better(again))
        return found

    def start(self, effective: Tensor, drawn: Toys, cells: Tensor) -> Tensor:
        """Points of the grid, numbers with shape (n,), with nuisances from the linear response to each toy."""
        points = self.profile.minima.point[cells]
        return self.profile.linear.start(points, effective, self.means[cells], drawn.centers)

    def valleys(self, effective: Tensor, drawn: Toys) -> tuple[Tensor, Tensor]:
        """Toys with shape (L,), and points with shape (L, D) from which their free fits start."""
        size, linear = max(1, _CHI2 // len(self.fine_means)), self.fine.linear
        parts = [valleys_of(linear.chi2(some, self.fine_means), self.fine.grid) for some in effective.split(size)]
        lanes = torch.cat([lane + number * size for number, (lane, _) in enumerate(parts)])
        cells = torch.cat([cell for _, cell in parts])
        some = Toys(*({name: value[lanes] for name, value in values.items()} for values in drawn))
        points = self.fine.minima.point[cells]
        return lanes, linear.start(points, effective[lanes], self.fine_means[cells], some.centers)


def valleys_of(chi2: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Toys and the points of a grid from which their free fits start: local minima of chi2, (n, F), near the lowest."""
    lanes, cells = (chi2 <= chi2.amin(1, keepdim=True) + _NEAR).nonzero(as_tuple=True)
    height, valley = chi2[lanes, cells], torch.ones_like(lanes, dtype=torch.bool)
    for neighbour in grid.neighbours():
        valley &= height <= chi2[lanes, neighbour[cells]]
    lanes, cells = lanes[valley], cells[valley]
    order = height[valley].argsort(stable=True)
    order = order[lanes[order].argsort(stable=True)]
    lanes, cells = lanes[order], cells[order]
    few = torch.arange(len(lanes)) - torch.searchsorted(lanes, lanes) < _STARTS
    return lanes[few], cells[few]


def _together(parts: tuple[dict[str, Tensor], ...]) -> dict[str, Tensor]:
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
