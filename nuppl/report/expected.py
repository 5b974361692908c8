"""What a scan was expected to say, as rows: the intervals of one parameter, or how much of a grid is excluded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import xarray as xr

from nuppl.results.intervals import intervals

__all__ = ["Expected", "expected_rows"]

WORDS = ("2.3 %", "16 %", "median", "84 %", "97.7 %")
"""Quantiles of the statistic over experiments."""


@dataclass(frozen=True)
class Expected:
    """What one quantile of the experiments says at one level.

    Attributes:
        level: of confidence.
        what: "Asimov data", or a quantile of the statistic.
        accepted: intervals of one parameter; None of more.
        excluded: the share of the grid's points that is excluded.
    """

    level: float
    what: str
    accepted: tuple[tuple[float, float], ...] | None
    excluded: float


def expected_rows(scan: xr.Dataset) -> Iterator[Expected]:
    """One row per level and quantile, the Asimov data first."""
    names = json.loads(scan.attrs["parameters"])
    if "asimov" not in scan:
        return
    fields = {"Asimov data": scan["asimov"]}
    if "sensitivity" in scan:
        fields |= {word: scan["sensitivity"].isel(quantile=i) for i, word in enumerate(WORDS)}
    for number, level in enumerate(scan["level"].values):
        critical = scan["critical"].isel(level=number)
        for what, field in fields.items():
            above = np.asarray((field - critical).values, dtype=float)
            accepted = None
            if len(names) == 1:
                found = intervals(scan[names[0]].values, above, np.zeros(len(above)))
                accepted = tuple((float(low), float(high)) for low, high in found)
            yield Expected(float(level), what, accepted, float((above > 0.0).mean()))
