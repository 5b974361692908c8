"""Results in the formats of other programs: each a set of text files, every one of them written whole.

ArviZ needs no export: it reads the result file itself (`arviz.from_netcdf`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import xarray as xr

from nuppl.errors import InputError, RunFolderError, unknown
from nuppl.results import export_csv, export_getdist, export_hepdata
from nuppl.results.files import whole

__all__ = ["FORMATS", "Format", "export", "find"]

Groups = Mapping[str, xr.Dataset]
Write = Callable[[TextIO], None]


@dataclass(frozen=True)
class Format:
    """One format."""

    summary: str
    ending: str
    """Added to the result's name where the user gives none."""
    files: Callable[[Groups], Iterator[tuple[str, Write]]]
    """What is written: the end of each file's name, and the function that fills it."""
    present: Callable[[Path], list[Path]]
    """The files in that place that an export would replace."""
    holds: tuple[str, ...] = ("posterior",)
    """The groups of which one is written."""
    folder: bool = False
    """Whether the files lie in a folder of their own."""


FORMATS = {
    "getdist": Format("chains, names and ranges of GetDist", "", export_getdist.files, export_getdist.present),
    "csv": Format(
        "summary with one row per number, or per point of a scan",
        ".csv",
        export_csv.files,
        export_csv.present,
        ("posterior", "scan"),
    ),
    "hepdata": Format(
        "submission with the tables of a scan",
        "-hepdata",
        export_hepdata.files,
        export_hepdata.present,
        ("scan",),
        True,
    ),
}


def find(name: str) -> Format:
    """The format of that name.

    Raises:
        InputError: there is none.
    """
    if name not in FORMATS:
        raise unknown("format", name, FORMATS)
    return FORMATS[name]


def export(groups: Groups, name: str, target: str | Path, overwrite: bool = False) -> list[Path]:
    """Write a posterior or a scan in another format.

    Arguments:
        groups: of a result.
        name: of the format.
        target: path of the file, for GetDist the path that all files begin with; its folder must exist. For HEPData the
            folder of the files, which is made.
        overwrite: whether files of an earlier export may be replaced.

    Returns:
        The files written.

    Raises:
        InputError: an unknown format, a result of another kind, or draws that the format cannot hold.
        RunFolderError: files that are in the way, or no such folder.
    """
    form, target = find(name), Path(target)
    if not set(form.holds) & set(groups):
        wanted = " or ".join(f"a {group}" for group in form.holds)
        raise InputError(f"export to {name}: expected a result with {wanted}, got one with {', '.join(sorted(groups))}")
    if form.folder and target.exists() and not target.is_dir():
        raise RunFolderError(f"output {str(target)!r}: expected a folder, found a file; name another --out")
    if target.is_dir() and not form.folder:
        raise RunFolderError(f"output {str(target)!r}: expected a file, found a folder; name a file in it")
    if not target.parent.is_dir():
        raise RunFolderError(f"output {str(target)!r}: expected a folder {str(target.parent)!r}, found none; make it")
    old = form.present(target)
    if old and not overwrite:
        raise RunFolderError(
            f"output {str(old[0])!r} exists; choose another --out, or replace what an earlier export wrote with "
            "--overwrite"
        )
    written: list[Path] = []
    if form.folder:
        target.mkdir(exist_ok=True)
    with ExitStack() as together:  # no file takes its place before all are complete
        for end, write in form.files(groups):
            written.append(target / end if form.folder else target.with_name(target.name + end))
            with together.enter_context(whole(written[-1])).open("w", encoding="utf-8", newline="\n") as stream:
                write(stream)
    # A chain of an earlier export would be read as if it belonged to this one.
    for stale in set(old) - set(written):
        stale.unlink()
    return written
