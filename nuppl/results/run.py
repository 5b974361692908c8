"""The folder of a run, and that nothing finished is ever lost.

A run is written next to its destination, in `<name>.partial`, and renamed when it is complete: a folder under the final
name holds a finished run, always. What an interrupted run left stays in `<name>.partial` until the next run begins.

| file          | holds                                                              |
|---------------|--------------------------------------------------------------------|
| posterior.nc  | the result                                                         |
| report.html   | the result, for people                                             |
| run.json      | resolved settings, versions, seed, hashes, when                    |
| log.txt       | what happened, line by line                                        |
| *.py          | a copy of the model file                                           |
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import xarray as xr

from nuppl.errors import RunFolderError
from nuppl.results.metadata import sha256, versions
from nuppl.results.storage import save

__all__ = ["RunFolder"]

SETTINGS, RESULT, REPORT, LOG = "run.json", "posterior.nc", "report.html", "log.txt"


@dataclass
class RunFolder:
    """A run being written; `create` begins one and `finish` puts it in its place.

    Attributes:
        path: the destination.
        work: where files are written until then.
    """

    path: Path
    work: Path
    overwrite: bool = False
    settings: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def create(cls, path: str | Path, settings: Mapping[str, Any], overwrite: bool = False) -> RunFolder:
        """Begin a run.

        Arguments:
            path: the destination.
            settings: everything that was asked for, JSON-ready.
            overwrite: whether a finished run in that place may be replaced, when this one is finished.

        Raises:
            RunFolderError: the place is taken, or cannot be written.
        """
        path = Path(path).absolute()
        run = cls(path, path.with_name(f"{path.name}.partial"), overwrite, dict(settings))
        run._check_place()
        try:
            run._clear(run.work)
            run.work.mkdir(parents=True)
            run._write_settings("running")
        except OSError as error:
            raise RunFolderError(
                f"output folder {str(path)!r}: expected a place that can be written, got {error.strerror}"
            ) from error
        return run

    def log(self, line: str) -> None:
        """Add a line with the time to log.txt."""
        with (self.work / LOG).open("a", encoding="utf-8") as file:
            file.write(f"{datetime.now(UTC).isoformat(timespec='seconds')} {line}\n")

    def copy_model(self, file: Path) -> None:
        """Keep the model file with the run, and its hash with the settings."""
        shutil.copyfile(file, self.work / file.name)
        self.settings |= {"model_copy": file.name, "model_sha256": sha256(file)}

    def save(self, groups: Mapping[str, xr.Dataset]) -> Path:
        """Write the result."""
        return save(groups, self.work / RESULT)

    @property
    def report(self) -> Path:
        """Where the report goes."""
        return self.work / REPORT

    def abandon(self) -> None:
        """Remove what was written: nothing was finished that could be lost."""
        self._clear(self.work)

    def finish(self, **settings: Any) -> Path:
        """Mark the run as finished and put it in its place.

        Arguments:
            settings: added to run.json, such as the verdict.

        Raises:
            RunFolderError: the place was taken meanwhile.
        """
        self.settings |= settings
        self._write_settings("finished")
        self._check_place()
        old = self.path.with_name(f"{self.path.name}.replaced")
        self._clear(old)
        if self.path.exists():
            os.rename(self.path, old)
        os.rename(self.work, self.path)
        self._clear(old)
        return self.path

    def _write_settings(self, status: str) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self.settings |= {"status": status, "versions": versions(), f"{status}_at": now}
        partial = self.work / f".{SETTINGS}.partial"
        partial.write_text(json.dumps(self.settings, indent=2, default=str) + "\n", encoding="utf-8")
        os.replace(partial, self.work / SETTINGS)

    def _check_place(self) -> None:
        if self.path.is_file():
            raise RunFolderError(f"output folder {str(self.path)!r}: expected a folder or nothing, found a file")
        if not self.path.is_dir() or not any(self.path.iterdir()):
            return
        if not (self.path / SETTINGS).is_file():
            raise RunFolderError(
                f"output folder {str(self.path)!r} holds other things than a run of nuppl; choose another --out"
            )
        if not self.overwrite:
            raise RunFolderError(
                f"output folder {str(self.path)!r} holds a finished run; choose another --out, or replace it with "
                "--overwrite"
            )

    @staticmethod
    def _clear(folder: Path) -> None:
        """Remove a run's own working folder, and nothing that is not one."""
        if not folder.exists():
            return
        if not (folder / SETTINGS).is_file() and any(folder.iterdir()):
            raise RunFolderError(f"folder {str(folder)!r} is in the way and is not a run of nuppl; move it elsewhere")
        shutil.rmtree(folder)
