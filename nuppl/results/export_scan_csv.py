"""A scan as CSV (RFC 4180), one row per point of the grid.

    parameters..., statistic, status, p_value, p_value_error, toys, failed_toys,
    wilks@L, critical@L, critical_error@L of each confidence level L, asimov

Columns that a scan does not have are left out. Numbers are written so that they read back exactly.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from typing import TextIO

import numpy as np
import xarray as xr

__all__ = ["write_scan"]

PLAIN = ("statistic", "status", "p_value", "p_value_error", "toys", "failed_toys", "asimov")


def write_scan(groups: Mapping[str, xr.Dataset], stream: TextIO) -> None:
    """Write the rows with a header; `parameter [unit]` where there is one."""
    scan = groups["scan"]
    names = json.loads(scan.attrs["parameters"])
    points = np.meshgrid(*(scan[name].values for name in names), indexing="ij")
    columns = {_header(name, scan): point.ravel() for name, point in zip(names, points, strict=True)}
    columns |= dict(_columns(scan, names))
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*(column.tolist() for column in columns.values()), strict=True))


def _header(name: str, scan: xr.Dataset) -> str:
    unit = str(scan[name].attrs.get("unit", ""))
    return f"{name} [{unit}]" if unit else name


def _columns(scan: xr.Dataset, names: list[str]) -> Iterator[tuple[str, np.ndarray]]:
    for name in PLAIN:
        if name in scan:
            yield name, scan[name].transpose(*names).values.ravel()
    size = scan["statistic"].size
    for number, level in enumerate(scan["level"].values):
        if "wilks" in scan:
            yield f"wilks@{level:g}", np.full(size, float(scan["wilks"].values[number]))
        for name in ("critical", "critical_error"):
            if "toys" in scan or "wilks" not in scan:
                yield f"{name}@{level:g}", scan[name].isel(level=number).transpose(*names).values.ravel()
