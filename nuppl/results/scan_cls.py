"""What the group `scan` of a result file holds of CLs, and of the test statistic.

| variable               | dims          | holds                                                             |
|------------------------|---------------|-------------------------------------------------------------------|
| cls                    | grid          | CLs of the data                                                   |
| cls_expected           | band, grid    | its quantiles under the null hypothesis, `band` deviations away   |
| limit                  | level         | upper limits; NaN where the grid has none                         |
| limit_expected         | level, band   | those that are expected                                           |

Attributes: `statistic`, its name with options; `cls_toys`, JSON {"toys", "failed"} of those under the null hypothesis.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import xarray as xr
from torch import Tensor

__all__ = ["LIKELIHOOD_RATIO", "cls_lost", "cls_numbers", "statistic_of", "with_cls", "with_statistic"]

LIKELIHOOD_RATIO = "likelihood-ratio"


def with_statistic(scan: xr.Dataset, spec: str) -> xr.Dataset:
    """With the name of its statistic; Wilks' theorem speaks of the likelihood ratio alone."""
    found = scan.assign_attrs(statistic=spec)
    return found if spec == LIKELIHOOD_RATIO else found.drop_vars("wilks")


def statistic_of(scan: xr.Dataset) -> str:
    """The name of the statistic with its options."""
    return str(scan.attrs.get("statistic", LIKELIHOOD_RATIO))


def with_cls(
    scan: xr.Dataset,
    observed: Tensor,
    expected: Tensor,
    limit: Tensor | None = None,
    limit_expected: Tensor | None = None,
    toys: int = 0,
    failed: int = 0,
) -> xr.Dataset:
    """With CLs.

    Arguments:
        observed: with shape (G,).
        expected: with shape (5, G).
        limit: with shape (L,).
        limit_expected: with shape (L, 5).
        toys, failed: under the null hypothesis, and those whose fits failed.
    """
    grid = json.loads(scan.attrs["parameters"])
    shape = tuple(scan.sizes[name] for name in grid)
    found = scan.assign_coords(band=np.arange(-2, 3)).assign(
        cls=(tuple(grid), observed.detach().numpy().reshape(shape)),
        cls_expected=(("band", *grid), expected.detach().numpy().reshape(-1, *shape)),
    )
    if limit is not None and limit_expected is not None:
        found = found.assign(
            limit=(("level",), limit.detach().numpy()),
            limit_expected=(("level", "band"), limit_expected.detach().numpy()),
        )
    return found.assign_attrs(cls_toys=json.dumps({"toys": toys, "failed": failed})) if toys else found


def cls_numbers(scan: xr.Dataset) -> dict[str, Any]:
    """For machines: {"cls": {"points": {name: values}, "observed", "expected", "limits"}}, or nothing."""
    if "cls" not in scan:
        return {}
    grid = json.loads(scan.attrs["parameters"])
    said: dict[str, Any] = {"points": {name: scan[name].values.tolist() for name in grid}}
    said |= {"observed": scan["cls"].values.tolist(), "expected": scan["cls_expected"].values.tolist()}
    if "limit" in scan:
        said["limits"] = [
            {
                "level": float(level),
                "observed": _number(scan["limit"][i]),
                "expected": [_number(each) for each in scan["limit_expected"][i]],
            }
            for i, level in enumerate(scan["level"].values)
        ]
    return {"cls": said}


def cls_lost(scan: xr.Dataset) -> float:
    """The share of toys under the null hypothesis whose fits failed."""
    said = json.loads(scan.attrs.get("cls_toys", "{}"))
    return float(said.get("failed", 0)) / float(max(1, said.get("toys", 0)))


def _number(value: Any) -> float | None:
    return None if math.isnan(float(value)) else float(value)
