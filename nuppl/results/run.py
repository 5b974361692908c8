"""The folder of a run, and that nothing finished is ever lost.

A run is written next to its destination, in `<name>.partial`, and renamed when it is complete: a folder under the final
name holds a finished run, always. What an interrupted run left stays in `<name>.partial`, to be resumed or discarded.

| file          | holds                                                              |
|---------------|--------------------------------------------------------------------|
| posterior.nc  | the result                                                         |
| report.html   | the result, for people                                             |
| run.json      | resolved settings, versions, seed, hashes, when                    |
| log.txt       | what happened, line by line                                        |
| *.py          | a copy of the model file                                           |
| checkpoints/  | how far the engine is; until it is done                            |
| lock          | who is writing; until it is done                                   |
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import xarray as xr

from nuppl.errors import InputError, RunFolderError
from nuppl.results.lock import Lock
from nuppl.results.metadata import sha256, versions
from nuppl.results.storage import save

__all__ = ["RunFolder", "check_same", "read_settings"]

SETTINGS, RESULT, REPORT, LOG, CHECKPOINTS = "run.json", "posterior.nc", "report.html", "log.txt", "checkpoints"


@dataclass
class RunFolder:
    """A run being written; `begin` begins or resumes one and `finish` puts it in its place.

    Attributes:
        path: the destination.
        work: where files are written until then.
        lock: that no other process writes there.
        record: what run.json says.
        overwrite: whether a finished run may be replaced.
    """

    path: Path
    work: Path
    lock: Lock
    record: dict[str, Any]
    overwrite: bool

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
        path = Path(path).absolute()
        work = _work(path)
        check_place(path, overwrite)
        determines = {**_identity(model), **asked}
        try:
            _check_work(work)
            work.mkdir(parents=True, exist_ok=True)
            run = cls(path, work, Lock(work), {**(said or {}), **determines}, overwrite)
            with _released(run.lock):
                run._settle(resume, determines)
                shutil.copyfile(model, work / model.name)
                run._write("running")
        except OSError as error:
            raise RunFolderError(
                f"output folder {str(path)!r}: expected a place that can be written, got {error.strerror}"
            ) from error
        return run

    def _settle(self, resume: bool, determines: Mapping[str, Any]) -> None:
        """Decide on what another run left."""
        if not self.checkpoints.exists():
            self._clear()
        elif resume:
            check_same(self.work, determines)
            self.log("resumed")
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
        with (self.work / LOG).open("a", encoding="utf-8") as file:
            file.write(f"{_now()} {line}\n")

    def save(self, groups: Mapping[str, xr.Dataset]) -> Path:
        """Write the result."""
        return save(groups, self.work / RESULT)

    @property
    def report(self) -> Path:
        """Where the report goes."""
        return self.work / REPORT

    def leave(self, keep: bool = True) -> bool:
        """Stop before the end.

        Arguments:
            keep: what was finished; there is nothing to keep before the first checkpoint.

        Returns:
            whether there is something to go on from.
        """
        kept = keep and self.checkpoints.exists()
        if kept:
            with suppress(OSError):  # a full disk is no reason to lose what is on it
                self._write("interrupted")
        else:
            shutil.rmtree(self.work)
        self.lock.release()
        return kept

    def finish(self, **said: Any) -> Path:
        """Mark the run as finished and put it in its place.

        Arguments:
            said: added to run.json, such as the verdict.

        Raises:
            RunFolderError: the place was taken meanwhile.
        """
        self.record |= said
        self._write("finished")
        check_place(self.path, self.overwrite)
        shutil.rmtree(self.checkpoints, ignore_errors=True)
        old = self.path.with_name(f"{self.path.name}.replaced")
        if old.exists() and (old / SETTINGS).is_file():
            shutil.rmtree(old)
        if self.path.exists():
            os.rename(self.path, old)
        os.rename(self.work, self.path)
        self.lock.release(self.path)
        shutil.rmtree(old, ignore_errors=True)
        return self.path

    def _write(self, status: str) -> None:
        self.record |= {"status": status, "versions": versions(), f"{status}_at": _now()}
        partial = self.work / f".{SETTINGS}.partial"
        partial.write_text(json.dumps(self.record, indent=2, default=str) + "\n", encoding="utf-8")
        os.replace(partial, self.work / SETTINGS)

    def _clear(self) -> None:
        """Remove what another run left, but not our lock."""
        for entry in self.work.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            elif entry != self.lock.file:
                entry.unlink()


@contextmanager
def _released(lock: Lock) -> Iterator[None]:
    """Let go of a lock where what follows fails."""
    try:
        yield
    except BaseException:
        lock.release()
        raise


def read_settings(file: Path) -> dict[str, Any]:
    """What a run.json says.

    Raises:
        InputError: no such file, or not one that nuppl wrote.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"settings {str(file)!r}: expected a run.json that nuppl wrote, but {error}") from error
    if not isinstance(found, dict) or not {"model_copy", "model_sha256", "status"} <= found.keys():
        raise InputError(f"settings {str(file)!r}: expected a run.json that nuppl wrote, found another file")
    return found


def check_same(folder: Path, determines: Mapping[str, Any]) -> None:
    """That the run in a folder has the same model and settings.

    Raises:
        RunFolderError: it has not; says what differs.
    """
    there = read_settings(folder / SETTINGS)
    here = json.loads(json.dumps(dict(determines), default=str))
    differences = [
        f"{name.replace('_', ' ')} was {there.get(name)!r} and is now {value!r}"
        for name, value in here.items()
        if there.get(name) != value
    ]
    if differences:
        raise RunFolderError(
            f"output folder {str(folder)!r} belongs to another run: {'; '.join(differences)}. To go on with it repeat "
            "its command, `command` in its run.json; to discard it use --overwrite; or choose another --out"
        )


def check_place(path: Path, overwrite: bool) -> None:
    """That a run may go there.

    Raises:
        RunFolderError: it may not.
    """
    if path.is_file():
        raise RunFolderError(f"output folder {str(path)!r}: expected a folder or nothing, found a file")
    if not path.is_dir() or not any(path.iterdir()):
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
    ours = {SETTINGS, "lock"}
    if work.exists() and any(work.iterdir()) and not any((work / name).is_file() for name in ours):
        raise RunFolderError(f"folder {str(work)!r} is in the way and is not a run of nuppl; move it elsewhere")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def finished(folder: Path, model: Path, asked: Mapping[str, Any]) -> bool:
    """Whether a folder holds the finished run of a model and settings, and no newer one lies beside it.

    Raises:
        RunFolderError: it holds a finished run of another model or other settings.
    """
    if (_work(folder.absolute()) / CHECKPOINTS).exists() or not (folder / SETTINGS).is_file():
        return False
    check_same(folder, {**_identity(model), **asked})
    return True


def _identity(model: Path) -> dict[str, str]:
    return {"model_copy": model.name, "model_sha256": sha256(model)}


def _work(path: Path) -> Path:
    return path.with_name(f"{path.name}.partial")


def model_of(file: Path, said: Mapping[str, Any]) -> tuple[Path, str]:
    """The model file of the run with this run.json, and a note where it is the run's own copy.

    Raises:
        InputError: neither the file nor its copy is what it was.
    """
    original, copy = Path(str(said.get("model_path", ""))), file.with_name(str(said["model_copy"]))
    for place, note in ((original, ""), (copy, f"{original} is not what it was; using the copy in {file.parent}")):
        if place.is_file() and sha256(place) == said["model_sha256"]:
            return place, note
    raise InputError(
        f"settings {str(file)!r}: expected the model file of that run, but neither {original} nor its copy"
    )
