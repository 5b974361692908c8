"""What else the group `scan` of a result file may hold, besides what `scan` lists.

| variable       | dims            | holds                                                                        |
|----------------|-----------------|------------------------------------------------------------------------------|
| toy_statistic  | grid, toy       | the statistic of every toy, NaN where none was thrown                        |
| null_statistic | null_toy        | of toys under the hypothesis that the attribute `null` names                 |
| asimov         | grid            | the statistic on Asimov data                                                 |
| experiments    | experiment, grid| the statistic of pseudo-experiments at the point that `truth` names          |
| checked_linear | check           | the statistic of some toys by matrix products                                |
| checked_full   | check           | that of the same toys by full fits                                           |

Attributes, as JSON: `seeds` of the toys; `null`, {"values", "statistic", "wilks_p_value", "parameters"} and of toys
"p_value", "p_value_error", "toys", "failed"; `truth`, {"at", "words", "toys", "failed"}; `checked`, {"toys", "failed",
"mean", "rms", "above"}, the last {level: [share of toys above the critical value by matrix products, by full fits,
error of the difference]}.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import xarray as xr
from torch import Tensor

__all__ = ["checked_of", "null_of", "seeds_of", "truth_of", "with_check", "with_null", "with_sensitivity", "with_toys"]


def with_toys(scan: xr.Dataset, statistic: Tensor, seeds: Sequence[int]) -> xr.Dataset:
    """With the statistic of every toy, with shape (G, n)."""
    grid = json.loads(scan.attrs["parameters"])
    shape = (*(scan.sizes[name] for name in grid), statistic.shape[1])
    found = scan.assign(toy_statistic=((*grid, "toy"), statistic.detach().numpy().reshape(shape)))
    return found.assign_attrs(seeds=json.dumps(list(seeds)))


def with_null(scan: xr.Dataset, said: Mapping[str, Any], statistic: Tensor | None) -> xr.Dataset:
    """With a hypothesis, and the statistic of its toys with shape (n,)."""
    found = scan.assign_attrs(null=json.dumps(dict(said)))
    return found if statistic is None else found.assign(null_statistic=(("null_toy",), statistic.detach().numpy()))


def with_sensitivity(scan: xr.Dataset, said: Mapping[str, Any], asimov: Tensor, experiments: Tensor) -> xr.Dataset:
    """With the statistic on Asimov data with shape (G,), and of n experiments with shape (n, G)."""
    grid = json.loads(scan.attrs["parameters"])
    shape = tuple(scan.sizes[name] for name in grid)
    found = scan.assign(asimov=(tuple(grid), asimov.detach().numpy().reshape(shape)))
    if len(experiments):
        found = found.assign(experiments=(("experiment", *grid), experiments.detach().numpy().reshape(-1, *shape)))
    return found.assign_attrs(truth=json.dumps(dict(said)))


def with_check(scan: xr.Dataset, cells: Tensor, linear: Tensor, full: Tensor, failed: Tensor) -> xr.Dataset:
    """With toys fitted in two ways, at points of the grid, each with shape (n,)."""
    above, critical = {}, scan["critical"].values.reshape(scan.sizes["level"], -1)[:, cells.numpy()]
    for level, value in zip(scan["level"].values, critical, strict=True):
        first, second = linear.numpy() > value, full.numpy() > value
        error = float((first != second).mean() / len(first)) ** 0.5
        above[f"{level:g}"] = [float(first.mean()), float(second.mean()), error]
    moved = linear - full
    said = {"toys": len(cells), "failed": int(failed.sum()), "mean": float(moved.mean()), "rms": float(moved.std())}
    found = scan.assign(checked_linear=(("check",), linear.numpy()), checked_full=(("check",), full.numpy()))
    return found.assign_attrs(checked=json.dumps(said | {"above": above}))


def checked_of(scan: xr.Dataset) -> dict[str, Any] | None:
    """What the file says of toys that were fitted fully as well."""
    return _said(scan, "checked")


def null_of(scan: xr.Dataset) -> dict[str, Any] | None:
    """What the file says of the hypothesis, if it says anything."""
    return _said(scan, "null")


def truth_of(scan: xr.Dataset) -> dict[str, Any] | None:
    """What the file says of the point of the sensitivity."""
    return _said(scan, "truth")


def seeds_of(scan: xr.Dataset) -> list[int]:
    """The seeds of the toys, [] where the file does not say."""
    return [int(seed) for seed in json.loads(scan.attrs.get("seeds", "[]"))]


def _said(scan: xr.Dataset, name: str) -> dict[str, Any] | None:
    return dict(json.loads(scan.attrs[name])) if name in scan.attrs else None
