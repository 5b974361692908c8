"""The borders of the regions of a scan over two parameters, as lines of points."""

from __future__ import annotations

import json
from collections.abc import Iterator

import contourpy
import numpy as np
import xarray as xr
from numpy.typing import NDArray

__all__ = ["borders"]


def borders(scan: xr.Dataset, level: int, critical: str = "critical") -> Iterator[NDArray[np.float64]]:
    """Each line where t meets the critical value, with shape (n, 2) in the order of the scan's parameters.

    Arguments:
        scan: over two parameters.
        level: the number of the confidence level.
        critical: the variable of the critical values, or "wilks".
    """
    across, up = json.loads(scan.attrs["parameters"])
    logs = json.loads(scan.attrs["log"])
    x, y = (np.log(scan[n].values) if n in logs else scan[n].values for n in (across, up))
    above = (scan["statistic"] - scan[critical].isel(level=level)).transpose(up, across).values
    field = np.clip(np.nan_to_num(above, nan=1e6), -1e6, 1e6)
    for line in contourpy.contour_generator(x, y, field).lines(0.0):
        points = np.array(line, dtype=float)
        for axis, name in enumerate((across, up)):
            if name in logs:
                points[:, axis] = np.exp(points[:, axis])
        yield points
