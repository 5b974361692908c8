"""A finished run to which something is added: kept while it is in the making, then written in one go.

Work goes on in a folder inside the run, which holds states and a lock and is removed at the end. The result file, and
then run.json, are replaced by whole new ones: at any moment the run is as it was, or as it will be.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xarray as xr

from nuppl.errors import InputError, RunFolderError
from nuppl.results.checkpoints import Checkpoints
from nuppl.results.files import sweep
from nuppl.results.lock import FILE as LOCK
from nuppl.results.lock import Lock
from nuppl.results.record import SETTINGS, now, read_settings, write_settings
from nuppl.results.run import LOG, RESULT, writing
from nuppl.results.storage import save

__all__ = ["Amended", "finished_run"]

_ASKED = "asked.json"


@dataclass
class Amended:
    """An addition to a finished run.

    Attributes:
        path: the run.
        work: where states lie until the addition is complete.
        lock: that no other process works there.
        resumed: whether there were states to go on from.
    """

    path: Path
    work: Path
    lock: Lock
    resumed: bool

    @classmethod
    def begin(cls, path: Path, name: str, asked: Mapping[str, Any]) -> Amended:
        """Begin, or go on with the states of the same work on the same run.

        Arguments:
            name: of the folder for states.
            asked: what determines the addition, JSON-ready.

        Raises:
            RunFolderError: another process works there, or the folder cannot be written.
        """
        work = path / name
        with writing(path):
            work.mkdir(exist_ok=True)
            lock = Lock(work)
            try:
                finished = read_settings(path / SETTINGS).get("finished_at")
                determines = json.loads(json.dumps({**asked, "finished_at": finished}))
                resumed = _read(work / _ASKED) == determines
                if not resumed:
                    _clear(work)
                    (work / _ASKED).write_text(json.dumps(determines) + "\n", encoding="utf-8")
                sweep(work)
            except BaseException:
                lock.release()
                raise
        return cls(path, work, lock, resumed)

    def store(self, part: str) -> Checkpoints:
        """Where the states of a part of the work lie."""
        return Checkpoints(self.work / part)

    def save(self, groups: Mapping[str, xr.Dataset], **said: Any) -> None:
        """Put the result with its addition in the place of the old one, and add to run.json.

        Raises:
            RunFolderError: the run was replaced or moved meanwhile, or cannot be written.
        """
        if not self.lock.holds():
            raise RunFolderError(
                f"run {str(self.path)!r} was replaced or moved meanwhile, so nothing was added: repeat the command"
            )
        with writing(self.path):
            save(groups, self.path / RESULT)
            write_settings(self.path, {**read_settings(self.path / SETTINGS), **said})

    def finish(self, line: str) -> None:
        """Remove the states, and say in the log what was done."""
        with writing(self.path):
            with (self.path / LOG).open("a", encoding="utf-8") as file:
                file.write(f"{now()} {line}\n")
            _clear(self.work)
            self.lock.release()
            self.work.rmdir()

    def leave(self, keep: bool) -> bool:
        """Stop before the end; whether there is something to go on from."""
        kept = keep and any(self.work.glob("*/*.pt"))
        if not kept:
            _clear(self.work)
        self.lock.release()
        if not kept:
            self.work.rmdir()
        return kept


def finished_run(path: Path) -> dict[str, Any]:
    """What the run.json of a finished run says.

    Raises:
        InputError: no folder, or none of a finished run.
    """
    if not (path / SETTINGS).is_file() or not (path / RESULT).is_file():
        found = "a file" if path.is_file() else "a folder without one" if path.is_dir() else "nothing"
        raise InputError(
            f"run {str(path)!r}: expected the folder of a finished run of nuppl infer, with run.json and {RESULT}, "
            f"found {found}"
        )
    return read_settings(path / SETTINGS)


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def _clear(work: Path) -> None:
    """Remove everything but the lock; what was asked first, so that nobody goes on from a part."""
    (work / _ASKED).unlink(missing_ok=True)
    for entry in work.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        elif entry.name != LOCK:
            entry.unlink()
