"""Results as netCDF files: written whole or not at all, read with one clear message where they cannot be."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import xarray as xr

from nuppl.errors import InputError

__all__ = ["load", "save"]


def save(groups: Mapping[str, xr.Dataset], path: str | Path) -> Path:
    """Write a result; a file of that name is replaced only once the new one is complete.

    Arguments:
        groups: by name, "/" with the attributes of the file.
        path: where to; its folder must exist.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        groups["/"].to_netcdf(partial, mode="w", engine="netcdf4")
        for name, group in groups.items():
            if name != "/" and group.variables:
                group.to_netcdf(partial, mode="a", group=name, engine="netcdf4")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def load(path: str | Path) -> dict[str, xr.Dataset]:
    """The groups of a result file, their arrays read when first used.

    Raises:
        InputError: no such file, one that is damaged, or one that nuppl did not write.
    """
    path = Path(path)
    if not path.is_file():
        found = "a folder" if path.is_dir() else "none"
        raise InputError(f"result file {str(path)!r}: expected a netCDF file that nuppl wrote, found {found}")
    try:
        groups = dict(xr.open_groups(path, engine="netcdf4"))
    except (OSError, ValueError, RuntimeError, KeyError, AttributeError) as error:
        raise InputError(
            f"result file {str(path)!r}: expected a netCDF file that nuppl wrote, but it cannot be read ({error}); "
            "it may be truncated: repeat the run"
        ) from error
    found_groups = {name.lstrip("/") or "/": group for name, group in groups.items()}
    if found_groups["/"].attrs.get("inference_library") != "nuppl":
        for group in groups.values():
            group.close()
        raise InputError(
            f"result file {str(path)!r}: expected a file that nuppl wrote, but its attribute 'inference_library' says "
            f"{found_groups['/'].attrs.get('inference_library')!r}"
        )
    return found_groups
