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

from nuppl.frequentist.direct import linear_at, response_at
from nuppl.frequentist.grid import Grid
from nuppl.frequentist.linear import Linear
from nuppl.language.density import Natural
from nuppl.language.precision import double_precision
from nuppl.language.program import Program
from nuppl.optimize.batch import fit_lanes
from nuppl.optimize.batch_newton import Minima
from nuppl.optimize.fit import MINIMIZERS, lowest_minima
from nuppl.optimize.lanes import Likelihoods
from nuppl.optimize.objective import natural_objective
from nuppl.optimize.response import Response
from nuppl.typing import Progress, silent

__all__ = ["STATUS", "Profile", "profile"]

STATUS = ("converged", "a nuisance at its bound", "failed")
"""What the numbers in `Profile.status` mean."""

_ROUNDS, _LOWER, _TILE = 12, 1e-3, 512
"""Rounds of starts from neighbours; by how much a neighbour's nuisances must lower a point; points at a time."""


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
def profile(program: Program, grid: Grid, *, starts: int = 4, seed: int = 0, progress: Progress = silent) -> Profile:
    """Scan a program.

    Arguments:
        program: with data.
        grid: over its parameters.
        starts: of the search for the best fit, besides the nominal point and the model's own.
        seed: of that search.
        progress: told of each finished point.

    Raises:
        InputError: no density, no data.
    """
    natural = Natural(program)
    likelihoods, objective = Likelihoods(natural, {}, {}), natural_objective(natural)
    found = lowest_minima(program, natural, objective, MINIMIZERS["newton"], starts, 512, seed, progress)
    best = fit_lanes(likelihoods, torch.stack([minimum.point for minimum in found[:1]]))
    columns = torch.tensor(natural.layout.columns(grid.names))
    linear = linear_at(likelihoods, best.point[0], columns)
    response = response_at(likelihoods, best.point[0])
    points = _coordinates(natural, grid, columns, best.point[0])
    minima = _minima(linear, response, columns, points, grid, progress)
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


def _minima(
    linear: Linear, response: Response | None, columns: Tensor, points: Tensor, grid: Grid, progress: Progress
) -> Minima:
    likelihoods = linear.likelihoods
    held = torch.zeros(likelihoods.dim, dtype=torch.bool)
    held[columns] = True
    parts, done = [], 0
    for start in _starts(linear, points).split(_TILE):
        parts.append(fit_lanes(likelihoods, start, held=held, response=response))
        done += len(start)
        progress(done, grid.size, "points of the scan")
    minima = Minima.together(parts)
    for _ in range(_ROUNDS):
        lower, start = _from_neighbours(likelihoods, grid, columns, minima)
        if not bool(lower.any()):
            break
        again = fit_lanes(likelihoods, start[lower], held=held, response=response)
        minima = minima.with_rows(lower, minima.rows(lower).better(again))
    return minima


def _starts(linear: Linear, points: Tensor) -> Tensor:
    """The linear response of the nuisances, or none where that is lower."""
    program = linear.likelihoods.natural.program
    effective = linear.effective(program.data, {}, len(points))
    moved = linear.start(points, effective, linear.means(points), {})
    values = torch.stack([linear.likelihoods.values(moved), linear.likelihoods.values(points)])
    return torch.where((values[0] <= values[1])[:, None], moved, points)


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
