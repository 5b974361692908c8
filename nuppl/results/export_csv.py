"""The summary of a posterior as CSV (RFC 4180), one row per number: a scalar parameter, or one entry of a vector.

A scan is written by `export_scan_csv`. Of a posterior:

    name, unit, mean, sd, median, lower, upper, r_hat, ess_bulk, ess_tail

`lower` and `upper` are the 15.9 % and 84.1 % quantiles. Numbers are written so that they read back exactly.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TextIO

import xarray as xr

from nuppl.results.export_scan_csv import write_scan
from nuppl.results.summary import NUMBERS, Summary, summarize_result

__all__ = ["files", "present", "write_summary"]


def files(groups: Mapping[str, xr.Dataset]) -> Iterator[tuple[str, Callable[[TextIO], None]]]:
    """The one file; see `Format`."""
    if "posterior" not in groups:
        yield "", lambda stream: write_scan(groups, stream)
        return
    rows = summarize_result(groups)
    yield "", lambda stream: write_summary(rows, stream)


def present(target: Path) -> list[Path]:
    """The file, where it exists."""
    return [target] if target.exists() else []


def write_summary(rows: Sequence[Summary], stream: TextIO) -> None:
    """Write rows with a header.

    >>> import sys
    >>> row = Summary("mass", "mass", (), 1.0, 0.5, 1.0, 0.5, 1.5, 1.0, 400.0, 300.0, unit="MeV")
    >>> write_summary([row], sys.stdout)
    name,unit,mean,sd,median,lower,upper,r_hat,ess_bulk,ess_tail
    mass,MeV,1.0,0.5,1.0,0.5,1.5,1.0,400.0,300.0
    """
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("name", "unit", *NUMBERS))
    for row in rows:
        writer.writerow((row.name, row.unit, *(float(getattr(row, number)) for number in NUMBERS)))
