"""Toys and experiments of the coverage study, tile by tile on disk.

Toys give critical values as a scan throws them: at the points of the grid, with the pulls that data without
fluctuation prefer, which are the nominal ones. Experiments are thrown at the points with stated true pulls, each with
random numbers of its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from nuppl.frequentist.grid import Grid
from nuppl.frequentist.profile import Profile, profile
from nuppl.frequentist.toys import TILE, Thrower
from nuppl.language.loading import load_model
from nuppl.language.precision import double_precision
from nuppl.language.simulation import toys
from nuppl.results.checkpoints import Checkpoints
from nuppl.typing import Progress

__all__ = ["CASES", "EXPERIMENTS", "Case", "CoverageCase", "Thrown"]

EXPERIMENTS = 10_000
"""At each point and for each set of true pulls."""

_TOYS, _EXPERIMENTS = 11, 12
"""Root seeds."""

_LANES = 100
"""Experiments of each point that are thrown together."""

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Case:
    """One model of the study.

    Attributes:
        file: under the root of the repository.
        over, counts: the grid.
        pulls: sets of true pulls by name; what is not named is nominal.
        tiles: of toys at each point for the critical values.
    """

    file: str
    over: tuple[str, ...]
    counts: tuple[int, ...]
    pulls: Mapping[str, Mapping[str, float]]
    tiles: int


CASES = {
    "bounded_gaussian": Case("models/bounded_gaussian.py", ("mu=0:6",), (100,), {"none": {}}, 80),
    "two_detector": Case(
        "models/two_detector.py",
        ("sin2_2theta14=0:0.4", "dm2_41"),
        (10, 10),
        {"nominal": {}, "shifted": {"rate": 1.0, "far_rate": -1.0, "slope": 1.0}},
        40,
    ),
    "counting": Case(
        "models/counting.py",
        ("signal=0:15",),
        (100,),
        {"nominal": {}, "shifted": {"background_shift": 1.0}},
        80,
    ),
}


@dataclass(frozen=True)
class Thrown:
    """The statistic with shape (G, n), and how many fits failed."""

    statistic: Tensor
    failed: int


@dataclass(frozen=True)
class CoverageCase:
    """A case with its profile.

    Attributes:
        case: of which it is.
        profile: over its grid.
        thrower: of toys and of fits.
    """

    case: Case
    profile: Profile
    thrower: Thrower

    @classmethod
    def of(cls, case: Case) -> CoverageCase:
        """For a case."""
        program = load_model(str(ROOT / case.file))[0].bind()
        found = profile(program, Grid.over(program, case.over, case.counts))
        nominal = _with_pulls(found, {})
        found = dataclasses.replace(found, minima=dataclasses.replace(found.minima, point=nominal))
        return cls(case, found, Thrower.of(found, _TOYS))

    def toys(self, store: Checkpoints, name: str, progress: Progress) -> Thrown:
        """At least ten thousand at each point, with the pulls that data without fluctuation prefer."""
        points = torch.arange(self.profile.grid.size)

        def tile(number: int) -> tuple[Tensor, Tensor]:
            return self.thrower.tile(points, number)

        return _kept(store, f"{name}-toys", tile, self.case.tiles, progress)

    def experiments(self, store: Checkpoints, name: str, pulls: str, progress: Progress) -> Thrown:
        """`EXPERIMENTS` at each point with some true pulls."""
        truth = _with_pulls(self.profile, self.case.pulls[pulls])
        cells = torch.arange(len(truth)).repeat_interleave(_LANES)

        @double_precision()
        def tile(number: int) -> tuple[Tensor, Tensor]:
            natural = self.profile.likelihoods.natural
            seed = 1000 * _EXPERIMENTS + number
            drawn = toys(natural.program, len(cells), seed=seed, at=natural.values(truth[cells]), tile=TILE)
            statistic, failed = self.thrower.fitted(drawn, cells)
            return statistic.reshape(-1, _LANES), failed.reshape(-1, _LANES)

        return _kept(store, f"{name}-{pulls}", tile, EXPERIMENTS // _LANES, progress)


def _with_pulls(found: Profile, pulls: Mapping[str, float]) -> Tensor:
    """The points of the grid with shape (G, D), other latents nominal but for these."""
    natural, points = found.likelihoods.natural, found.minima.point
    values = dict(natural.program.nominal())
    values |= {name: torch.tensor(value, dtype=torch.float64) for name, value in pulls.items()}
    truth = natural.coordinates(values).repeat(len(points), 1)
    truth[:, found.columns] = points[:, found.columns]
    return truth


def _kept(
    store: Checkpoints, name: str, tile: Callable[[int], tuple[Tensor, Tensor]], tiles: int, progress: Progress
) -> Thrown:
    """All tiles, those from before an interruption among them."""
    state = store.load(name) or {"parts": [], "failed": 0}
    for number in range(len(state["parts"]), tiles):
        statistic, failed = tile(number)
        state["parts"].append(statistic.float())
        state["failed"] += int(failed.sum())
        progress(number + 1, tiles, name)
        if store.due() or number + 1 == tiles:
            store.save(name, state)
    return Thrown(torch.cat(state["parts"], 1).double(), state["failed"])
