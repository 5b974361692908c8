"""The profile likelihood over a grid: at every point all other latents are fitted.

    t(theta) = 2 [min_a (-log L)(theta, a) - min (-log L)]

All points are lanes of one batch. They start from the linear response of the nuisances, and again from wherever a
neighbour ended lower than it looks from there, until nothing falls.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from nuppl.frequentist.direct import linear_at, response_around
from nuppl.frequentist.grid import Grid
from nuppl.frequentist.linear import Linear
from nuppl.frequentist.workers import Spread, in_turn
from nuppl.language.density import Natural
from nuppl.language.precision import double_precision
from nuppl.language.program import Program
from nuppl.optimize.batch import fit_lanes
from nuppl.optimize.batch_newton import Minima
from nuppl.optimize.fit import MINIMIZERS, lowest_minima
from nuppl.optimize.lanes import Likelihoods
from nuppl.optimize.objective import natural_objective
from nuppl.optimize.response import Response
from nuppl.results.checkpoints import Checkpoints
from nuppl.typing import Progress, silent

__all__ = ["STATUS", "Profile", "profile"]

STATUS = ("converged", "a nuisance at its bound", "failed")
"""What the numbers in `Profile.status` mean."""

_ROUNDS, _LOWER, _TILE, _LOOKS = 12, 1e-3, 64, 3
"""Rounds of starts from neighbours; by how much a neighbour's nuisances must lower a point; points at a time; points at
which the response of the expected data is looked at."""


@dataclass(frozen=True, eq=False)
class Profile:
    """A profiled likelihood.

    Attributes:
        grid: G points over K parameters.
        columns: of the K parameters among the D coordinates, with shape (K,).
        best: the lowest point known, coordinates with shape (1, D).
        minima: at the points of the grid, G lanes.
        statistic: t with shape (G,); inf where a point failed.
        status: numbers of `STATUS` with shape (G,).
        linear: the program with linear nuisances around the best point.
        response: there, for fits of many coordinates; None where data have no mean.
    """

    grid: Grid
    columns: Tensor
    best: Minima
    minima: Minima
    statistic: Tensor
    status: Tensor
    linear: Linear
    response: Response | None

    @property
    def likelihoods(self) -> Likelihoods:
        """Of the program, with its own data."""
        return self.linear.likelihoods

    @property
    def held(self) -> Tensor:
        """The scanned coordinates, boolean with shape (D,)."""
        held = torch.zeros(self.likelihoods.dim, dtype=torch.bool)
        held[self.columns] = True
        return held


@double_precision()
def profile(
    program: Program,
    grid: Grid,
    *,
    starts: int = 4,
    seed: int = 0,
    store: Checkpoints | None = None,
    spread: Spread = in_turn,
    progress: Progress = silent,
) -> Profile:
    """Scan a program.

    Arguments:
        program: with data.
        grid: over its parameters.
        starts: of the search for the best fit, besides the nominal point and the model's own.
        seed: of that search.
        store: what an interrupted scan had fitted, and where this one keeps what it has.
        spread: over processes.
        progress: told of each finished tile.

    Raises:
        InputError: no density, no data.
    """
    natural = Natural(program)
    likelihoods, objective = Likelihoods(natural, {}, {}), natural_objective(natural)
    found = lowest_minima(program, natural, objective, MINIMIZERS["newton"], starts, 512, seed, progress)
    columns = torch.tensor(natural.layout.columns(grid.names))
    references = [minimum.point for minimum in found]
    linears = [linear_at(likelihoods, reference, columns) for reference in references]
    start = _starts(linears, [_coordinates(natural, grid, columns, reference) for reference in references])
    some = torch.linspace(0, grid.size - 1, _LOOKS).round().long()
    response = response_around(likelihoods, torch.cat([references[0][None], start[some]]))
    best = fit_lanes(likelihoods, references[0][None], response=response)
    linear = linears[0]
    fit = _Tile(likelihoods, columns, response is not None)
    minima = _minima(fit, start, grid, store or Checkpoints(None), spread, progress)
    lowest = minima.rows(minima.value.argmin()[None])
    if float(lowest.value) < float(best.value):
        best = fit_lanes(likelihoods, lowest.point).better(best)
    statistic = 2.0 * (minima.value - best.value).clamp(min=0.0)
    return Profile(grid, columns, best, minima, statistic, _status(minima), linear, response)


def _coordinates(natural: Natural, grid: Grid, columns: Tensor, reference: Tensor) -> Tensor:
    """The points of a grid with the nuisances of a reference, with shape (G, D)."""
    loc, scale, log = natural.loc[columns], natural.scale[columns], natural.log[columns]
    values = grid.points
    found = reference.repeat(grid.size, 1)
    found[:, columns] = (torch.where(log, values.clamp(min=1e-300).log(), values) - loc) / scale
    return found


@dataclass(frozen=True, eq=False)
class _Tile:
    """Fits points of a grid that lie together.

    Attributes:
        likelihoods: of the program.
        columns: that are scanned, with shape (K,).
        many: whether what lanes share is the response of the expected data.
    """

    likelihoods: Likelihoods
    columns: Tensor
    many: bool

    @double_precision()
    def __call__(self, *tried: Tensor) -> tuple[Tensor, ...]:
        """The fields of `Minima`, from the lowest of several starts in each lane, each with shape (n, D)."""
        start = _lowest(self.likelihoods, list(tried))
        held = torch.zeros(self.likelihoods.dim, dtype=torch.bool)
        held[self.columns] = True
        looks = torch.linspace(0, len(start) - 1, _LOOKS).round().long()
        here = response_around(self.likelihoods, start[looks.roll(1)]) if self.many else None
        return tuple(vars(fit_lanes(self.likelihoods, start, held=held, response=here, neighbours=True)).values())


def _minima(fit: _Tile, start: Tensor, grid: Grid, store: Checkpoints, spread: Spread, progress: Progress) -> Minima:
    minima, columns = Minima(**(store.load("profile") or vars(_nothing(start)))), fit.columns
    for points, around in grid.levels():
        tiles = [
            (some, near)
            for some, near in zip(points.split(_TILE), around.split(_TILE), strict=True)
            if bool((minima.steps[some] < 0).any())
        ]
        jobs = [(start[some], *_between(minima.point, columns, start[some], near)) for some, near in tiles]
        for number, fitted in spread(fit, jobs):
            minima = minima.with_rows(tiles[number][0], Minima(*fitted))
            if store.due():
                store.save("profile", vars(minima))
            progress(int((minima.steps >= 0).sum()), grid.size, "points of the scan")
    for _ in range(_ROUNDS):
        lower, start = _from_neighbours(fit.likelihoods, grid, columns, minima)
        if not bool(lower.any()):
            break
        parts = lower.nonzero()[:, 0].split(_TILE)
        for number, fitted in spread(fit, [(start[lanes],) for lanes in parts]):
            lanes = parts[number]
            minima = minima.with_rows(lanes, minima.rows(lanes).better(Minima(*fitted)))
    store.save("profile", vars(minima))
    return minima


def _starts(linears: list[Linear], points: list[Tensor]) -> Tensor:
    """The lowest that any reference's nuisances give, as they are or with their linear response, with shape (G, D)."""
    program, tried = linears[0].likelihoods.natural.program, list(points)
    for linear, there in zip(linears, points, strict=True):
        effective = linear.effective(program.data, {}, len(there))
        tried.append(linear.start(there, effective, linear.means(there), {}))
    return _lowest(linears[0].likelihoods, tried)


def _lowest(likelihoods: Likelihoods, tried: list[Tensor]) -> Tensor:
    """Of several points in each lane, each with shape (n, D), the one with the lowest value."""
    values = torch.stack([likelihoods.values(start) for start in tried])
    lowest = values.nan_to_num(torch.inf).argmin(0)
    return torch.stack(tried)[lowest, torch.arange(len(lowest))]


def _between(fitted: Tensor, columns: Tensor, start: Tensor, near: Tensor) -> list[Tensor]:
    """Points like `start`, with shape (n, D), with the nuisances of fitted ones around, and of their mean."""
    if not near.shape[1]:
        return []
    low, high = fitted[near[:, 0]], fitted[near[:, 1]]
    found = [low, high, 0.5 * (low + high)]
    for point in found:
        point[:, columns] = start[:, columns]
    return found


def _nothing(start: Tensor) -> Minima:
    """Before any fit."""
    none, never = torch.zeros(len(start)), torch.zeros(start.shape, dtype=torch.bool)
    return Minima(start, none + torch.inf, none + torch.inf, never[:, 0], never, none.long() - 1)


def _from_neighbours(likelihoods: Likelihoods, grid: Grid, columns: Tensor, minima: Minima) -> tuple[Tensor, Tensor]:
    """Which points fall when they take over a neighbour's nuisances, and those points with shape (G, D)."""
    best, start = minima.value - _LOWER, minima.point
    for point in _taken_over(grid, columns, minima.point):
        value = likelihoods.values(point)
        start = torch.where((value < best)[:, None], point, start)
        best = torch.minimum(value, best)
    return best < minima.value - _LOWER, start


def _taken_over(grid: Grid, columns: Tensor, points: Tensor) -> Iterator[Tensor]:
    for neighbour in grid.neighbours():
        point = points[neighbour].clone()
        point[:, columns] = points[:, columns]
        yield point


def _status(minima: Minima) -> Tensor:
    return torch.where(~minima.converged, 2, torch.where(minima.at_bound.any(1), 1, 0))
