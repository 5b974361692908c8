"""The group `calibration` of a result: whether posteriors of simulated data sets hold the truth as often as they say.

| variable             | dims                      | holds                                                          |
|----------------------|---------------------------|----------------------------------------------------------------|
| rank                 | method, quantity, dataset | rank of the truth among the draws; -1 where there is none      |
| among                | method, quantity          | draws among which it was ranked                                |
| p_value              | method, quantity          | of uniform ranks; NaN where the quantity is not known          |
| datasets, failed     | method                    | data sets with a posterior, and without                        |
| statistic, local_p   | method                    | local classifier test at the observation                       |
| null                 | method, permutation       | its statistic under permutations                               |
| neighbour            | simulation                | distance of simulations to their 10th neighbour                |
| observed, observed_p | -                         | that of the observed data, and its p-value                     |

`method` is "network" (its own draws), "weighted" (those of the whole engine) or the name of an engine. The coordinate
`test` says of each quantity to which test it belongs: "ranks" (parameters and the log density), "coverage" or "TARP".
Attributes: `draws` of each data set, `seed`, `false_alarm` of all tests of a method together, `simulations_failed`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nuppl.errors import InputError

__all__ = ["FALSE_ALARM", "TESTS", "Method", "calibration_group", "check_calibration"]

_DIMS = {
    "rank": ("method", "quantity", "dataset"),
    "among": ("method", "quantity"),
    "p_value": ("method", "quantity"),
    "datasets": ("method",),
    "failed": ("method",),
    "statistic": ("method",),
    "local_p": ("method",),
    "null": ("method", "permutation"),
    "neighbour": ("simulation",),
    "observed": (),
    "observed_p": (),
    "method": ("method",),
    "quantity": ("quantity",),
    "test": ("quantity",),
}

FALSE_ALARM = 0.01
"""The probability that a right posterior fails any of the tests of a method."""

TESTS = ("ranks", "coverage", "TARP", "local", "observed")
"""Each has an equal part of it."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Method:
    """What was found of one kind of posterior.

    Attributes:
        name: of the method.
        ranks: of each quantity with shape (n,), {(test, quantity): ranks}.
        draws: among how many draws each truth was ranked, of the same.
        p_values: of the same.
        failed: data sets without a posterior.
        statistic, null, local_p: of the local test; null with shape (H,).
    """

    name: str
    ranks: Mapping[tuple[str, str], NDArray[np.int64]]
    draws: Mapping[tuple[str, str], int]
    p_values: Mapping[tuple[str, str], float]
    failed: int
    statistic: float
    null: Array
    local_p: float


def calibration_group(
    methods: Sequence[Method], observed: float, neighbour: Array, observed_p: float, attrs: Mapping[str, int | float]
) -> xr.Dataset:
    """The dataset of what was found.

    Arguments:
        observed, neighbour, observed_p: distance of the observation, those of simulations with shape (P,), p-value.
        attrs: `draws`, `seed`, `simulations_failed`.
    """
    quantities = list(dict.fromkeys(key for method in methods for key in method.ranks))
    sizes = [max((len(ranks) for ranks in method.ranks.values()), default=0) for method in methods]
    rank = np.full((len(methods), len(quantities), max(sizes)), -1, dtype=np.int64)
    p_value, among = np.full(rank.shape[:2], np.nan), np.zeros(rank.shape[:2], dtype=np.int64)
    for i, method in enumerate(methods):
        for key, ranks in method.ranks.items():
            j = quantities.index(key)
            rank[i, j, : len(ranks)] = ranks
            among[i, j], p_value[i, j] = method.draws[key], method.p_values[key]
    variables = {
        "rank": (("method", "quantity", "dataset"), rank),
        "among": (("method", "quantity"), among),
        "p_value": (("method", "quantity"), p_value),
        "datasets": ("method", np.asarray(sizes)),
        "failed": ("method", np.asarray([method.failed for method in methods])),
        "statistic": ("method", np.asarray([method.statistic for method in methods])),
        "local_p": ("method", np.asarray([method.local_p for method in methods])),
        "null": (("method", "permutation"), np.stack([method.null for method in methods])),
        "neighbour": ("simulation", neighbour),
        "observed": ((), observed),
        "observed_p": ((), observed_p),
    }
    coords = {
        "method": [method.name for method in methods],
        "quantity": [quantity for _, quantity in quantities],
        "test": ("quantity", [test for test, _ in quantities]),
    }
    return xr.Dataset(variables, coords, attrs={**attrs, "false_alarm": FALSE_ALARM})


def check_calibration(group: xr.Dataset) -> None:
    """That a group is one that `calibration_group` made.

    Raises:
        InputError: a variable is missing or has other dims, or nothing was tested.
    """
    wrong = [name for name, dims in _DIMS.items() if name not in group.variables or group[name].dims != dims]
    if wrong or not group["rank"].size or "draws" not in group.attrs:
        raise InputError(
            f"result: expected a group 'calibration' as nuppl calibrate writes it, but {', '.join(wrong) or 'it'} is "
            "not so; calibrate the run again"
        )
