"""What a scan is expected to say, were a point the truth: the statistic on Asimov data, and its spread over toys.

Every pseudo-experiment is scanned over the whole grid, with full fits at each point; where its t exceeds the critical
value it excludes the point. Medians and bands over experiments follow. On Asimov data, which are exactly as expected, t
lies near its median (Cowan, Cranmer, Gross, Vitells, Eur. Phys. J. C 71 (2011) 1554, sec. 3.4).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from nuppl.errors import InputError
from nuppl.frequentist.profile import Profile, profile
from nuppl.frequentist.refined import refined
from nuppl.frequentist.toys import Thrower
from nuppl.frequentist.workers import Spread, in_turn
from nuppl.language.density import Natural
from nuppl.language.precision import double_precision
from nuppl.language.program import Program
from nuppl.language.simulation import Toys, asimov, tile_seed, toys
from nuppl.optimize.batch import fit_lanes
from nuppl.optimize.batch_newton import Minima
from nuppl.optimize.lanes import Likelihoods
from nuppl.results.checkpoints import Checkpoints
from nuppl.typing import Progress, silent

__all__ = ["Sensitivity", "pseudo_data", "sensitivity"]

_STREAM, _EXPERIMENTS, _LANES = 43 << 24, 16, 4096
"""The stream of random numbers; experiments of a tile; fits at a time."""


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """The statistic that is expected on a grid.

    Attributes:
        at: the truth, {name: value} of the scanned parameters.
        asimov: t on Asimov data with shape (G,).
        experiments: t of n pseudo-experiments with shape (n, G).
        failed: how many of their fits failed.
    """

    at: Mapping[str, float]
    asimov: Tensor
    experiments: Tensor
    failed: int


@double_precision()
def sensitivity(
    found: Profile,
    truth: Mapping[str, Tensor],
    experiments: int,
    *,
    seed: int = 0,
    store: Checkpoints | None = None,
    spread: Spread = in_turn,
    progress: Progress = silent,
) -> Sensitivity:
    """What the grid of a profile would show if a point were the truth.

    Arguments:
        truth: {every free latent: (*site)}.
        experiments: pseudo-experiments, rounded up to tiles of 16; 0 for Asimov data alone.
        seed: the root seed.
        store: where experiments are kept.
        spread: over processes.
        progress: told of each tile.

    Raises:
        InputError: a negative number, or a program whose data have no mean.
    """
    if experiments < 0:
        raise InputError(f"sensitivity: expected 0 experiments or more, got {experiments}")
    program, store = found.likelihoods.natural.program, store or Checkpoints(None)
    expected = profile(program.with_(data=asimov(program, truth)), found.grid, seed=seed)
    tiles = -(-experiments // _EXPERIMENTS)
    kept = [store.load(f"sensitivity-{number}") for number in range(tiles)]
    thrower = _Experiments(Thrower.of(found, seed), Thrower.of(refined(found), seed), dict(truth))
    missing = [number for number, each in enumerate(kept) if each is None]
    for which, (statistic, failed) in spread(thrower.tile, [(number,) for number in missing]):
        kept[missing[which]] = {"statistic": statistic, "failed": failed}
        store.save(f"sensitivity-{missing[which]}", kept[missing[which]] or {})
        progress(sum(each is not None for each in kept), tiles, "tiles of experiments")
    at = {name: float(truth[name]) for name in found.grid.names}
    none = torch.zeros(0, found.grid.size)
    statistic = torch.cat([none, *(each["statistic"].double() for each in kept if each)])
    return Sensitivity(at, expected.statistic, statistic, sum(int(each["failed"].sum()) for each in kept if each))


def pseudo_data(program: Program, how: str, truth: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Data in place of the real ones: "asimov" as expected at a point, "toy" one pseudo-experiment.

    Raises:
        InputError: another word.
    """
    if how == "asimov":
        return asimov(program, truth)
    if how == "toy":
        drawn = toys(program, 1, seed=tile_seed(seed, _STREAM, 1 << 20), at=truth, tile=1)
        return {name: value[0] for name, value in drawn.data.items()}
    raise InputError(f"blind: expected asimov or toy, got {how!r}")


@dataclass(frozen=True, eq=False)
class _Experiments:
    """Pseudo-experiments that are scanned over the whole grid."""

    thrower: Thrower
    finer: Thrower
    truth: dict[str, Tensor]

    @double_precision()
    def tile(self, number: int) -> tuple[Tensor, Tensor]:
        """t with shape (n, G), and which fits failed."""
        found = self.thrower.profile
        natural = found.likelihoods.natural
        seed = tile_seed(self.thrower.seed, _STREAM, number)
        drawn = toys(natural.program, _EXPERIMENTS, seed=seed, at=self.truth, tile=_EXPERIMENTS)
        likelihoods = Likelihoods(natural, drawn.data, drawn.centers)
        effective = found.linear.effective(drawn.data, drawn.centers, _EXPERIMENTS)
        points = torch.arange(found.grid.size).split(max(1, _LANES // _EXPERIMENTS))
        parts = [self._held(natural, drawn, effective, some) for some in points]
        shape = (_EXPERIMENTS, -1)
        value = torch.cat([part.value.reshape(shape) for part in parts], 1)
        converged = torch.cat([part.converged.reshape(shape) for part in parts], 1)
        best = value.argmin(1)
        flat = torch.cat([part.point.reshape(*shape, natural.dim) for part in parts], 1)
        lowest = _lowest(flat, value, converged, best)
        free = self.finer.free(likelihoods, effective, drawn, lowest)
        statistic = 2.0 * (value - free.value[:, None]).clamp(min=0.0)
        return statistic, ~(converged & free.converged[:, None])

    def _held(self, natural: Natural, drawn: Toys, effective: Tensor, points: Tensor) -> Minima:
        """Fits of every experiment at some points, one after the other of each experiment."""
        found = self.thrower.profile
        lanes = torch.arange(_EXPERIMENTS).repeat_interleave(len(points))
        some = Toys(*({name: value[lanes] for name, value in values.items()} for values in drawn))
        start = self.thrower.start(effective[lanes], some, points.repeat(_EXPERIMENTS))
        return fit_lanes(Likelihoods(natural, *some), start, held=found.held, response=found.response)


def _lowest(point: Tensor, value: Tensor, converged: Tensor, best: Tensor) -> Minima:
    """The lowest point of each experiment, of points with shape (n, G, D) and values with shape (n, G)."""
    rows = torch.arange(len(best))
    at = point[rows, best]
    never, nothing = torch.zeros(at.shape, dtype=torch.bool), torch.zeros(len(best))
    return Minima(at, value[rows, best], nothing, converged[rows, best], never, nothing.long())
