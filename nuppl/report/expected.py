"""What a scan was expected to say: the ends of intervals, their median and their bands over pseudo-experiments.

Of each experiment and each parameter the accepted values reach from the lowest to the highest at which any values of
other parameters are accepted; where the best fit lies between points that are all excluded, it is the lowest point.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nuppl.results.intervals import intervals

__all__ = ["QUANTILES", "Expected", "bands", "expected_rows"]

Array = NDArray[np.float64]
QUANTILES = (0.02275, 0.15866, 0.5, 0.84134, 0.97725)
"""The median, and the ends of bands of one and two standard deviations."""


@dataclass(frozen=True)
class Expected:
    """One parameter at one level.

    Attributes:
        parameter: its name.
        level: of confidence.
        asimov: lowest and highest accepted value on Asimov data.
        lower, upper: quantiles `QUANTILES` of the two ends over experiments; () where there are none.
        observed: both ends on the data.
    """

    parameter: str
    level: float
    asimov: tuple[float, float]
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    observed: tuple[float, float]


def bands(scan: xr.Dataset) -> Array:
    """Quantiles of the statistic over experiments at each point, with shape (5, grid)."""
    return np.asarray(np.quantile(scan["experiments"].values, QUANTILES, axis=0), dtype=float)


def expected_rows(scan: xr.Dataset) -> Iterator[Expected]:
    """One row per parameter and level; none without a sensitivity."""
    names = json.loads(scan.attrs["parameters"])
    if "asimov" not in scan:
        return
    for name in names:
        for number, level in enumerate(scan["level"].values):
            critical = scan["critical"].isel(level=number)
            asimov, observed = (_ends(scan[part] - critical, name) for part in ("asimov", "statistic"))
            lower: Sequence[float] = ()
            upper: Sequence[float] = ()
            if "experiments" in scan:
                fields = scan["experiments"] - critical
                found = np.array([_ends(field, name) for field in fields])
                lower, upper = np.quantile(found, QUANTILES, axis=0).T.tolist()
            yield Expected(name, float(level), asimov, tuple(lower), tuple(upper), observed)


def _ends(above: xr.DataArray, name: str) -> tuple[float, float]:
    """The lowest and the highest accepted value of a parameter, of t - critical value on the grid."""
    field = np.asarray(above.min([dim for dim in above.dims if dim != name]).values, dtype=float)
    x = np.asarray(above[name].values, dtype=float)
    found = intervals(x, field, np.zeros(len(x)))
    if not found:
        return float(x[field.argmin()]), float(x[field.argmin()])
    return found[0][0], found[-1][1]
