"""The folder of a run, and that nothing finished is ever lost.

A run is written next to its destination, in `<name>.partial`, and renamed when it is complete: a folder under the final
name holds a finished run, always. What an interrupted run left stays in `<name>.partial`, to be resumed or discarded.

| file          | holds                                                              |
|---------------|--------------------------------------------------------------------|
| posterior.nc  | the result; scan.nc of a scan                                      |
| report.html   | the result, for people                                             |
| run.json      | resolved settings, versions, seed, hashes, when                    |
| log.txt       | what happened, line by line                                        |
| *.py          | a copy of the model file                                           |
| checkpoints/  | how far the engine is; until the run is in its place               |
| lock          | who is writing; until the run is in its place                      |
| replaced/     | the run that was in its place, for the moment of the exchange      |
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import xarray as xr

from nuppl.errors import RunFolderError
from nuppl.results.files import sweep
from nuppl.results.lock import FILE as LOCK
from nuppl.results.lock import Lock
from nuppl.results.metadata import versions
from nuppl.results.record import SETTINGS, changed_since, check_same, identity, now, write_settings
from nuppl.results.storage import save

__all__ = ["RunFolder", "finished", "writing"]

RESULT, SCAN, REPORT, LOG, CHECKPOINTS = "posterior.nc", "scan.nc", "report.html", "log.txt", "checkpoints"
REPLACED, DISCARDED = "replaced", "discarded"


@dataclass
class RunFolder:
    """A run being written; `begin` begins or resumes one and `finish` puts it in its place.

    Attributes:
        path: the destination.
        work: where files are written until then.
        lock: that no other process writes there.
        record: what run.json says.
        overwrite: whether a finished run may be replaced.
        notes: what the user should know of a run that is resumed.
    """

    path: Path
    work: Path
    lock: Lock
    record: dict[str, Any]
    overwrite: bool
    notes: list[str] = field(default_factory=list)

    @classmethod
    def begin(
        cls,
        path: str | Path,
        model: Path,
        asked: Mapping[str, Any],
        said: Mapping[str, Any] | None = None,
        overwrite: bool = False,
        resume: bool = False,
    ) -> RunFolder:
        """Begin a run, or go on with one.

        Arguments:
            path: the destination.
            model: the model file, kept with the run.
            asked: what determines the result, JSON-ready: a run goes on where another stopped if both have the same.
            said: what else to keep in run.json, such as the command line.
            overwrite: whether what is there, finished or interrupted, may be replaced.
            resume: whether to go on with what an interrupted run left, if there is something.

        Raises:
            RunFolderError: the place is taken, in use, or cannot be written, or the run there is another.
        """
        # Read now: it may lie in the very folder that is cleared.
        text, determines = model.read_bytes(), {**identity(model), **asked}
        with writing(path):
            # Through links, so that the run is renamed where they point.
            path = Path(os.path.realpath(path))
            work = _work(path)
            check_place(path, overwrite)
            _check_work(work)
            work.mkdir(parents=True, exist_ok=True)
            run = cls(path, work, Lock(work), {**(said or {}), **determines}, overwrite)
            try:
                run._settle(resume, determines)
                (work / model.name).write_bytes(text)
                run._write("running")
            except BaseException:
                run._withdraw()
                raise
        return run

    def _settle(self, resume: bool, determines: Mapping[str, Any]) -> None:
        """Decide on what another run left."""
        self._put_back()
        # Whoever held the lock a moment ago may have finished.
        check_place(self.path, self.overwrite)
        if not self.checkpoints.exists():
            self._clear()
        elif resume:
            there = check_same(self.work, determines)
            sweep(self.work)
            self.notes = changed_since(there, {**self.record, "versions": versions()})
            self.log("; ".join(["resumed", *self.notes]))
        elif self.overwrite:
            self._clear()
        else:
            raise RunFolderError(
                f"output folder {str(self.path)!r}: an interrupted run lies beside it, in {str(self.work)!r}; go on "
                "with --resume, discard it with --overwrite, or choose another --out"
            )

    @property
    def checkpoints(self) -> Path:
        """Where an engine keeps how far it is."""
        return self.work / CHECKPOINTS

    def log(self, line: str) -> None:
        """Add a line with the time to log.txt."""
        with writing(self.path), (self.work / LOG).open("a", encoding="utf-8") as file:
            file.write(f"{now()} {line}\n")

    def save(self, groups: Mapping[str, xr.Dataset], name: str = RESULT) -> Path:
        """Write the result: draws as RESULT, a scan as SCAN."""
        with writing(self.path):
            return save(groups, self.work / name)

    @property
    def report(self) -> Path:
        """Where the report goes."""
        return self.work / REPORT

    def leave(self, keep: bool = True) -> bool:
        """Stop before the end; whether there is something to go on from.

        Arguments:
            keep: what was finished; there is nothing to keep before the first checkpoint.
        """
        if not self.lock.holds():  # the run is in its place already
            tidy(self.path)
            self.lock.release(self.path)
            return False
        # A full disk is no reason to lose what is on it, and hides no other error.
        with suppress(OSError):
            self._put_back()
            if keep and self.checkpoints.exists():
                self._write("interrupted")
            elif not keep:
                self._clear()
        return self._withdraw()

    def _withdraw(self) -> bool:
        """Let go of the folder, and remove it if nothing can go on from it; whether something can."""
        kept = self.checkpoints.exists()
        try:
            if not kept:
                with suppress(OSError):
                    self._clear()
        finally:
            self.lock.release()
        with suppress(OSError):
            self.work.rmdir()  # only if empty
        return kept

    def finish(self, **said: Any) -> Path:
        """Mark the run as finished and put it in its place.

        Until it is there its checkpoints stay, so that an end at any moment loses nothing.

        Arguments:
            said: added to run.json, such as the verdict.

        Raises:
            RunFolderError: the place was taken meanwhile, or cannot be written.
        """
        with writing(self.path):
            self.record |= said
            self._write("finished")
            check_place(self.path, self.overwrite)
            shutil.rmtree(self.work / REPLACED, ignore_errors=True)
            if _occupied(self.path):
                os.rename(self.path, self.work / REPLACED)
            os.rename(self.work, self.path)
            tidy(self.path)
            self.lock.release(self.path)
        return self.path

    def _put_back(self) -> None:
        """Give its place back to a finished run whose exchange was interrupted."""
        if (self.work / REPLACED).exists() and not _occupied(self.path):
            os.rename(self.work / REPLACED, self.path)

    def _write(self, status: str) -> None:
        self.record |= {"status": status, "versions": versions(), f"{status}_at": now()}
        write_settings(self.work, self.record)

    def _clear(self) -> None:
        """Remove what another run left, but not our lock."""
        if self.checkpoints.exists():
            # All at once: nobody shall resume from a part.
            os.rename(self.checkpoints, self.work / DISCARDED)
        # run.json last: what is left of a folder without it would be a stranger's.
        for entry in sorted(self.work.iterdir(), key=lambda entry: entry.name == SETTINGS):
            if entry.is_dir():
                shutil.rmtree(entry)
            elif entry != self.lock.file:
                entry.unlink()


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Work in an output folder.

    Raises:
        RunFolderError: the system refused it, for want of room or of rights.
    """
    try:
        yield
    except OSError as error:
        raise RunFolderError(
            f"output folder {str(path)!r}: expected a place that can be written, got {error.strerror or error}"
        ) from error


def finished(folder: Path, model: Path, asked: Mapping[str, Any]) -> bool:
    """Whether a folder holds the finished run of a model and settings, and no newer one lies beside it.

    Raises:
        RunFolderError: it holds a finished run of another model or other settings, or cannot be read.
    """
    with writing(folder):
        folder = Path(os.path.realpath(folder))
        if (_work(folder) / CHECKPOINTS).exists() or not (folder / SETTINGS).is_file():
            return False
        check_same(folder, {**identity(model), **asked})
        tidy(folder)
    return True


def tidy(path: Path) -> None:
    """Remove from a finished run what only its making needed."""
    for name in (CHECKPOINTS, REPLACED):
        shutil.rmtree(path / name, ignore_errors=True)
    with suppress(OSError):
        (path / LOCK).unlink(missing_ok=True)


def check_place(path: Path, overwrite: bool) -> None:
    """That a run may go there.

    Raises:
        RunFolderError: it may not.
    """
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        found = "a link in a circle" if path.is_symlink() else "a file"
        raise RunFolderError(f"output folder {str(path)!r}: expected a folder or nothing, found {found}")
    if path.is_mount() or path == Path.cwd():
        raise RunFolderError(
            f"output folder {str(path)!r}: expected one that can be renamed, found the current folder or a disk of its "
            "own; name a folder in it"
        )
    if not _occupied(path):
        return
    if not (path / SETTINGS).is_file():
        raise RunFolderError(
            f"output folder {str(path)!r} holds other things than a run of nuppl; choose another --out"
        )
    if not overwrite:
        raise RunFolderError(
            f"output folder {str(path)!r} holds a finished run; choose another --out, or replace it with --overwrite"
        )


def _check_work(work: Path) -> None:
    ours = {SETTINGS, LOCK}
    if work.exists() and any(work.iterdir()) and not any((work / name).is_file() for name in ours):
        raise RunFolderError(f"folder {str(work)!r} is in the way and is not a run of nuppl; move it elsewhere")


def _occupied(path: Path) -> bool:
    return path.is_dir() and any(path.iterdir())


def _work(path: Path) -> Path:
    return path.parent / f"{path.name}.partial"
