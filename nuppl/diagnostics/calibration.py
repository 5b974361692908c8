"""Calibration: a program is simulated, each data set gets its posterior, and the truth must not stand out from it.

    theta ~ prior, x ~ program(theta), theta_1, ..., theta_L ~ posterior(x)   for N data sets
    ranks of theta                        `calibration_ranks`, `calibration_uniformity`
    a classifier at the observed data     `calibration_local`
    the observed data among simulations   `calibration_observed`

Everything is in whitened coordinates. Where a prior depends on no other latent, ranks there are those of the parameters
themselves; elsewhere they are of another function of them, and as uniform.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from nuppl.diagnostics.calibration_local import local_c2st
from nuppl.diagnostics.calibration_observed import Among, among, components
from nuppl.diagnostics.calibration_ranks import coverage_ranks, nearest, ranks, tarp_ranks
from nuppl.diagnostics.calibration_uniformity import uniformity
from nuppl.errors import InputError
from nuppl.language.precision import double_precision
from nuppl.language.program import Program
from nuppl.language.simulation import tile_seed
from nuppl.learning.posteriors import Drawn, Posteriors, interest_columns
from nuppl.learning.simulated import data_fields, flat_data, simulated, whitened_layout
from nuppl.neural.standardize import Standardize
from nuppl.results.calibration import Method, calibration_group
from nuppl.results.checkpoints import Checkpoints
from nuppl.typing import Progress, silent

__all__ = ["Asked", "Problem", "Store", "calibrate", "examined", "posed"]

_PAIRS, _OTHERS, _DRAWS, _TESTS = (number << 24 for number in (43, 44, 45, 46))
"""Streams of random numbers."""

_LEAST = 20
"""Data sets, and draws of each: with fewer no test could tell anything."""

_OBSERVED_DRAWS, _AT_OBSERVED = 400, 1 << 20
"""Draws at the observed data, and their stream."""

_RIDGE = 1e-3
"""Of the regression of parameters on data, in units of the number of simulations."""

Array = NDArray[np.float64]

Store = Callable[[str], Checkpoints]
"""Where the states of each part of the work lie, by its name."""


@dataclass(frozen=True)
class Asked:
    """What to do.

    Attributes:
        datasets: N.
        draws: L.
        seed: the root seed.
        simulations: beside which the observed data are looked at.

    Raises:
        InputError: fewer than 20 data sets, or draws.
    """

    datasets: int = 500
    draws: int = 99
    seed: int = 0
    simulations: int = 2000

    def __post_init__(self) -> None:
        for name in ("datasets", "draws"):
            if getattr(self, name) < _LEAST:
                raise InputError(f"{name}: calibration expected at least {_LEAST}, got {getattr(self, name)}")


class Problem(NamedTuple):
    """Simulations, and what is said of their data.

    Attributes:
        truth: all whitened latents, with shape (N, D).
        data: with shape (N, M).
        points: of interest of other simulations, with shape (P, d).
        summary, summaries, at: estimates of the interest from the data, from the others', and from the observed ones,
            with shapes (N, d), (P, d) and (d,).
        among: the observed data beside the others.
        failed: simulations that did.
    """

    truth: Tensor
    data: Tensor
    points: Array
    summary: Array
    summaries: Array
    at: Array
    among: Among
    failed: int


def unkept(name: str) -> Checkpoints:
    """A `Store` that keeps nothing."""
    return Checkpoints(None)


@double_precision()
def calibrate(
    program: Program,
    methods: dict[str, tuple[Posteriors, int]],
    asked: Asked,
    store: Store = unkept,
    progress: Progress = silent,
) -> xr.Dataset:
    """Test posteriors on simulated data sets.

    Arguments:
        program: with the observed data.
        methods: kinds of posteriors, and on how many of the data sets to test each.
        store: where states lie, so that an interrupted calibration goes on.

    Returns:
        The group `calibration` of a result.

    Raises:
        InputError: too few simulations or posteriors succeeded.
    """
    problem = posed(program, asked, store, progress)
    found = [
        examined(name, program, problem, posteriors, count, asked, store(name), progress)
        for name, (posteriors, count) in methods.items()
    ]
    attrs = {"draws": asked.draws, "seed": asked.seed, "simulations_failed": problem.failed}
    beside = problem.among
    return calibration_group(found, beside.distance, beside.distances, beside.p_value, attrs)


def posed(program: Program, asked: Asked, store: Store = unkept, progress: Progress = silent) -> Problem:
    """Simulate, and compare the observed data with what comes out."""
    pairs = simulated(program, asked.datasets, tile_seed(asked.seed, _PAIRS), None, store("pairs"), progress)
    columns = interest_columns(program)
    seed = tile_seed(asked.seed, _OTHERS)
    others = simulated(program, asked.simulations, seed, columns, store("others"), progress)
    if len(pairs.u) < _LEAST or len(others.u) < _LEAST:
        raise InputError(
            f"calibration: only {len(pairs.u)} of {asked.datasets} and {len(others.u)} of {asked.simulations} "
            f"simulations succeeded, expected {_LEAST}; ask for more with -n, or look for the reason with nuppl check"
        )
    every = torch.cat([flat_data(program)[None], others.data, pairs.data])
    space = Standardize(data_fields(program))
    space.fit(every)
    scores = components(space(every).double().numpy(), tile_seed(asked.seed, _TESTS))
    last = 1 + len(others.u)
    points, there = others.u.numpy(), scores[1:last]
    gram = there.T @ there + _RIDGE * len(there) * np.eye(there.shape[1])
    estimates = scores @ np.linalg.solve(gram, there.T @ (points - points.mean(0)))
    return Problem(
        truth=pairs.u,
        data=pairs.data,
        points=points,
        summary=estimates[last:],
        summaries=estimates[1:last],
        at=estimates[0],
        among=among(scores[0], there),
        failed=pairs.failed + others.failed,
    )


def examined(
    name: str,
    program: Program,
    problem: Problem,
    posteriors: Posteriors,
    count: int,
    asked: Asked,
    store: Checkpoints | None = None,
    progress: Progress = silent,
) -> Method:
    """Test one kind of posterior on the first data sets of a problem.

    Arguments:
        count: how many data sets; all by default of the problem are the most.

    Raises:
        InputError: fewer than 20 of them had a posterior.
    """
    store = store or Checkpoints(None)
    count = min(count, len(problem.truth))
    drawn = _drawn(name, problem, posteriors, count, asked, store, progress)
    good = drawn.u.isfinite().all(2).all(1)
    if int(good.sum()) < _LEAST:
        raise InputError(
            f"calibration: {name} gave a posterior of only {int(good.sum())} of {count} simulated data sets, expected "
            f"{_LEAST}; ask for more with -n, or look for the reason by nuppl infer on simulated data"
        )
    observed = store.once("observed", lambda: {"u": _at_observed(program, problem, posteriors, asked)})["u"]
    columns = interest_columns(program)
    truth, u = problem.truth[:count][good][:, columns].numpy(), drawn.u[good].numpy()
    rows = np.flatnonzero(good.numpy())
    references = problem.points[nearest(problem.summary[rows], problem.summaries)]
    seed = tile_seed(asked.seed, _TESTS)
    names = [whitened_layout(program).names()[column] for column in columns.tolist()]
    found = {("ranks", each): ranks(truth[:, k], u[:, :, k], seed) for k, each in enumerate(names)}
    found |= _density_ranks(drawn, good, seed)
    found[("TARP", "TARP")] = tarp_ranks(truth, u, references, seed)
    local = local_c2st(truth, u, problem.summary[rows], observed[0].numpy(), problem.at, seed=seed)
    beside = dict.fromkeys(found, asked.draws)
    if drawn.own is not None:
        beside[("coverage", "coverage")] = drawn.own[0].shape[1]
    p_values = {key: uniformity(value, beside[key]) for key, value in found.items()}
    return Method(name, found, beside, p_values, int((~good).sum()), local.statistic, local.null, local.p_value)


def _drawn(
    name: str,
    problem: Problem,
    posteriors: Posteriors,
    count: int,
    asked: Asked,
    store: Checkpoints,
    progress: Progress,
) -> Drawn:
    """The draws of all data sets, batch by batch."""
    parts = (store.load("draws") or {"parts": []})["parts"]
    seed, step = tile_seed(asked.seed, _DRAWS), posteriors.batch
    for number in range(len(parts), -(-count // step)):
        rows = slice(number * step, min((number + 1) * step, count))
        some = posteriors(problem.data[rows], problem.truth[rows], asked.draws, seed, number)
        parts.append({"u": some.u, "own": list(some.own or ()), "log_p": list(some.log_p or ())})
        if store.due() or rows.stop == count:
            store.save("draws", {"parts": parts})
        progress(rows.stop, count, f"posteriors, {name}")
    own, log_p = (_joined([part[key] for part in parts]) for key in ("own", "log_p"))
    return Drawn(torch.cat([part["u"] for part in parts]), own, log_p)


def _joined(pairs: list[list[Tensor]]) -> tuple[Tensor, Tensor] | None:
    if not all(pairs):
        return None
    there, here = (torch.cat(values) for values in zip(*pairs, strict=True))
    return there, here


def _at_observed(program: Program, problem: Problem, posteriors: Posteriors, asked: Asked) -> Tensor:
    """Draws of the posterior of the observed data, with shape (1, n, d)."""
    seed = tile_seed(asked.seed, _DRAWS)
    u = posteriors(flat_data(program)[None], problem.truth[:1], _OBSERVED_DRAWS, seed, _AT_OBSERVED).u
    if not bool(u.isfinite().all()):
        raise InputError(
            "calibration: no posterior of the observed data, or one with draws that are not finite; expected a run "
            "that could draw from it: repeat the run"
        )
    return u


def _density_ranks(drawn: Drawn, good: Tensor, seed: int) -> dict[tuple[str, str], NDArray[np.int64]]:
    """Ranks of log densities: the program's own, and that of the posterior, by which regions are of highest density."""
    found = {}
    if drawn.log_p is not None:
        found[("ranks", "log density")] = ranks(*_pair(drawn.log_p, good), seed)
    deepest = drawn.own or drawn.log_p
    if deepest is not None:
        found[("coverage", "coverage")] = coverage_ranks(*_pair(deepest, good), seed)
    return found


def _pair(pair: tuple[Tensor, Tensor], good: Tensor) -> tuple[Array, Array]:
    """(truth, draws), NaN as the lowest density."""
    there, here = (values[good].nan_to_num(-torch.inf, torch.inf, -torch.inf).numpy() for values in pair)
    return here, there
