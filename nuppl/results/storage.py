"""Results as netCDF files: written whole or not at all, read with one clear message where they cannot be."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import netCDF4
import xarray as xr

from nuppl.errors import InputError, RunFolderError
from nuppl.results.arrays import entries, is_long
from nuppl.results.files import whole
from nuppl.results.seal import check_seal, seal
from nuppl.results.validation import check_groups, check_sizes

__all__ = ["load", "save"]

CHUNK = 1 << 17
"""Draws that lie together in the file: 1 MiB of one entry."""


def save(groups: Mapping[str, xr.Dataset], path: str | Path) -> Path:
    """Write a result; a file of that name is replaced only once the new one is complete.

    Arguments:
        groups: by name, "/" with the attributes of the file.
        path: where to; its folder must exist.

    Raises:
        RunFolderError: the disk is full, or the file may not grow.
    """
    path = Path(path)
    try:
        with whole(path) as partial:
            groups["/"].to_netcdf(partial, mode="w", engine="netcdf4")
            for name, group in groups.items():
                if name != "/" and group.variables:
                    _write(partial, name, group)
            seal(partial)
    except RuntimeError as error:
        # The netCDF library does not say why it cannot write.
        free = shutil.disk_usage(path.parent).free
        raise RunFolderError(
            f"result file {str(path)!r}: expected room for it, but it could not be written ({error}); {free} bytes are "
            "free there: make room, or choose another --out"
        ) from error
    return path


def _write(path: Path, name: str, group: xr.Dataset) -> None:
    if not any(_is_long(array) for array in group.data_vars.values()):
        group.to_netcdf(path, mode="a", group=name, engine="netcdf4")
        return
    group.drop_vars(group.data_vars).to_netcdf(path, mode="a", group=name, engine="netcdf4")
    for key, array in group.data_vars.items():
        if _is_long(array):
            with netCDF4.Dataset(path, "a") as file:
                _write_long(file[name], str(key), array)
        else:
            alone = group[[key]].drop_vars(group.coords, errors="ignore")
            alone.to_netcdf(path, mode="a", group=name, engine="netcdf4")


def _is_long(array: xr.DataArray) -> bool:
    return array.dims[:2] == ("chain", "draw") and is_long(array)


def _write_long(folder: Any, name: str, draws: xr.DataArray) -> None:
    """Entry by entry, in chunks along the draws: what reads one entry then reads no other."""
    chunks = (1, min(draws.shape[1], CHUNK), *(1 for _ in draws.shape[2:]))
    variable = folder.createVariable(name, draws.dtype, draws.dims, fill_value=math.nan, chunksizes=chunks)
    variable.setncatts(draws.attrs)
    for place, values in entries(draws):
        variable[(slice(None), slice(None), *place)] = values


def load(path: str | Path) -> dict[str, xr.Dataset]:
    """The groups of a result file, their arrays read when first used.

    Raises:
        InputError: no such file, one that is damaged or was changed, or one that nuppl did not write.
    """
    path = Path(path)
    if not path.is_file():
        found = "a folder" if path.is_dir() else "none"
        raise InputError(f"result file {str(path)!r}: expected a netCDF file that nuppl wrote, found {found}")
    check_seal(path)
    try:
        check_sizes(path)
        groups = dict(xr.open_groups(path, engine="netcdf4", decode_times=False))
    except Exception as error:
        # A damaged file raises whatever the libraries below trip over.
        raise InputError(
            f"result file {str(path)!r}: expected a netCDF file that nuppl wrote, but it cannot be read ({error}); "
            "it may be truncated: repeat the run"
        ) from error
    by_name = {name.lstrip("/") or "/": group for name, group in groups.items()}
    try:
        _check(by_name)
    except InputError as error:
        for group in groups.values():
            group.close()
        raise InputError(
            f"result file {str(path)!r}: {error}; use a file as nuppl wrote it, or repeat the run"
        ) from error
    return by_name


def _check(groups: Mapping[str, xr.Dataset]) -> None:
    library = groups["/"].attrs.get("inference_library")
    if not isinstance(library, str) or library != "nuppl":
        raise InputError(f"expected a file that nuppl wrote, but its attribute 'inference_library' says {library!r}")
    check_groups(groups)
