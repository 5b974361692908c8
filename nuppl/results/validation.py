"""Whether a file is built as nuppl builds results: types, sizes, dims and attributes.

A result may come from a stranger, or be damaged. Nothing in it is ever executed; that it is built as expected is
checked here once, so that what reads it (summary, verdict, report, export) need not check again.

| group                                                       | dims of its variables            |
|-------------------------------------------------------------|----------------------------------|
| posterior, prior, predictives, log_likelihood               | chain, draw, and the plates      |
| sample_stats                                                | chain, and draw or kept_draw     |
| observed_data, constant_data                                | plates                           |
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import xarray as xr

from nuppl.errors import InputError
from nuppl.results.metadata import metadata

__all__ = ["check_groups", "check_sizes"]

DRAWN = ("posterior", "prior", "prior_predictive", "posterior_predictive", "log_likelihood")
COMPRESSION = 1032
"""Deflate makes nothing smaller than by this factor: a file whose arrays are larger only claims to hold them."""
ROOM = 1 << 20
"""Bytes that a file of any size may claim: fill values need no room."""
TEXTS = ("unit", "label", "kind", "distribution")
ENCODINGS = ("scale_factor", "add_offset", "missing_value", "_Unsigned")
"""Attributes by which netCDF changes numbers on the way in: nuppl writes none."""
CONSTANTS = ("_center", "_sigma", "_expected", "_deviation", "_reference")
PAIRS = (
    ("constant_data", "_center", "_sigma"),
    ("constant_data", "_expected", "_deviation"),
    ("sample_stats", "_chi2_observed", "_chi2_replicated"),
)
"""Of a pull, and of data."""


def check_sizes(path: Path) -> None:
    """What must hold before arrays may be read at all.

    Raises:
        InputError: arrays larger than the file could hold, or of other things than numbers and texts.
        OSError, RuntimeError: no netCDF file.
    """
    claimed = 0
    with netCDF4.Dataset(path) as file:
        for group in (file, *file.groups.values()):
            if group is not file and group.groups:
                raise _unexpected("groups without groups in them", f"{', '.join(group.groups)} in {group.name!r}")
            for name, variable in group.variables.items():
                _check_type(name, variable)
                item = 8 if variable.dtype is str else variable.dtype.itemsize
                claimed += math.prod(variable.shape) * item
    size = path.stat().st_size
    if claimed > ROOM + COMPRESSION * size:
        raise _unexpected(f"arrays that fit into its {size} bytes", f"arrays of {claimed} bytes")


def _check_type(name: str, variable: Any) -> None:
    number = isinstance(variable.dtype, np.dtype) and variable.dtype.kind in "fiu"
    if not (number or variable.dtype is str) or type(variable.datatype) is netCDF4.EnumType:
        raise _unexpected(f"numbers or texts in {name!r}", f"{variable.dtype}")
    changed = [each for each in ENCODINGS if each in variable.ncattrs()]
    if changed:
        raise _unexpected(f"{name!r} to hold its numbers as they are", f"the attribute {changed[0]!r}")


def check_groups(groups: Mapping[str, xr.Dataset]) -> None:
    """What must hold of groups that were opened.

    Raises:
        InputError: attributes, dims or variables that nuppl does not write.
    """
    said = metadata(groups)
    for group in groups.values():
        for name, variable in group.variables.items():
            _check_attributes(str(name), variable.attrs)
    for name in DRAWN:
        for key, array in groups.get(name, xr.Dataset()).data_vars.items():
            _check_drawn(f"{name}/{key}", array, array.dims[:2] == ("chain", "draw"))
    for key, array in groups.get("sample_stats", xr.Dataset()).data_vars.items():
        _check_drawn(f"sample_stats/{key}", array, array.dims in (("chain", "draw"), ("chain", "kept_draw")))
    if "posterior" in groups:
        _check_posterior(groups, said["interest"])


def _check_attributes(name: str, attrs: Mapping[str, Any]) -> None:
    for key in TEXTS:
        if not isinstance(attrs.get(key, ""), str):
            raise _unexpected(f"a text as {key} of {name!r}", repr(attrs[key]))
    for key in ("lower", "upper", "auxiliary"):
        if not _is_number(attrs.get(key, 0.0)):
            raise _unexpected(f"a finite number as {key} of {name!r}", repr(attrs[key]))
    if "prior" in attrs and not _is_prior(attrs["prior"]):
        raise _unexpected(f"the arguments of the prior of {name!r}", repr(attrs["prior"])[:100])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and bool(np.isfinite(value))


def _is_prior(text: Any) -> bool:
    try:
        found = json.loads(text)
        entries = [each for value in found.values() for each in (value if isinstance(value, list) else [value])]
        return all(isinstance(each, int | float) and math.isfinite(each) for each in entries)
    except (TypeError, ValueError, AttributeError, OverflowError, RecursionError):
        return False


def _check_drawn(name: str, array: xr.DataArray, dims: bool) -> None:
    if not dims or 0 in array.shape or array.dtype.kind not in "fiub":
        held = ", ".join(f"{dim}: {size}" for dim, size in array.sizes.items())
        raise _unexpected(f"numbers over chain, draw and plates in {name!r}", f"{array.dtype} over ({held})")


def _check_posterior(groups: Mapping[str, xr.Dataset], interest: list[str]) -> None:
    posterior, observed = groups["posterior"], groups.get("observed_data", xr.Dataset())
    empty = [name for name in ("posterior", "observed_data") if not groups.get(name, xr.Dataset()).data_vars]
    # Without them a verdict would pass over what they say: divergences, and whether the model describes the data.
    empty += [name for name in ("sample_stats", "posterior_predictive") if name not in groups]
    if empty:
        raise _unexpected("all groups that belong to a posterior", f"nothing in {', '.join(empty)}")
    missing = [name for name in interest if name not in posterior.data_vars]
    if missing:
        raise _unexpected("draws of every parameter of interest", f"none of {', '.join(missing)}")
    for key, array in posterior.data_vars.items():
        _check_belongings(str(key), array.dims[2:], groups, PAIRS[:1] if array.attrs.get("kind") == "pull" else ())
    for key, array in observed.data_vars.items():
        _check_belongings(str(key), array.dims, groups, PAIRS[1:])


def _check_belongings(
    name: str, plates: tuple[Any, ...], groups: Mapping[str, xr.Dataset], pairs: tuple[tuple[str, str, str], ...]
) -> None:
    """What belongs to a site has its plates, and comes in pairs; the density of a prior has a grid."""
    constants, replicas = (groups.get(group, xr.Dataset()) for group in ("constant_data", "posterior_predictive"))
    found = {f"{name}{end}": (constants.get(f"{name}{end}"), plates) for end in CONSTANTS if pairs}
    found[f"{name}_prior"] = constants.get(f"{name}_prior"), (f"{name}_grid",)
    found[name] = replicas.get(name), ("chain", "draw", *plates)
    for key, (array, dims) in found.items():
        if array is not None and (array.dims != dims or array.dtype.kind not in "fiub"):
            raise _unexpected(f"numbers over {dims} in {key!r}", f"{array.dtype} over {array.dims}")
    for group, one, other in pairs:
        held = [end for end in (one, other) if f"{name}{end}" in groups.get(group, xr.Dataset())]
        if len(held) == 1:
            raise _unexpected(f"both {name}{one} and {name}{other} in {group}", f"{name}{held[0]} alone")


def _unexpected(expected: str, got: str) -> InputError:
    return InputError(f"expected {expected}, got {got}")
