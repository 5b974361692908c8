"""The result that a command was pointed at, and whose fault it is where it cannot be used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nuppl.errors import InputError, NupplError

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["reading", "result_file"]


@contextmanager
def reading(run: Path) -> Iterator[tuple[Path, dict[str, xr.Dataset]]]:
    """The file and the groups of a result, to work with while the block runs.

    Raises:
        InputError: a result that is damaged, or was changed such that no part of nuppl can make sense of it.
    """
    from nuppl.results.seal import is_sealed
    from nuppl.results.storage import load

    file = result_file(run)
    groups = load(file)
    if not is_sealed(file):
        click.echo(f"note: {file} has no seal: an older nuppl wrote it, or it was changed since", err=True)
    try:
        yield file, groups
    except (NupplError, OSError):
        raise
    except Exception as error:
        # Under an unbroken seal the file is as nuppl wrote it, and the fault is ours.
        if is_sealed(file):
            raise
        raise InputError(
            f"result file {str(file)!r}: expected a result as nuppl wrote it, but it was changed and cannot be used "
            f"({type(error).__name__}: {error}); use the original, or repeat the run"
        ) from error
    finally:
        for group in groups.values():
            group.close()


def result_file(run: Path) -> Path:
    """The result of a run folder, or the file itself."""
    from nuppl.results.run import RESULT, SCAN

    if not run.exists():
        raise InputError(f"result {str(run)!r}: expected a run folder or a result file, found none")
    if not run.is_dir():
        return run
    return next((run / name for name in (RESULT, SCAN) if (run / name).exists()), run / RESULT)
