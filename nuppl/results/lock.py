"""One process per run: a lock that the system lets go of when its holder ends, however that ends."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from nuppl.errors import RunFolderError

__all__ = ["Lock"]

FILE = "lock"


class Lock:
    """The lock of a folder, which exists, held from creation to `release`.

    A file that a killed process left says nothing: what counts is whether the system holds its lock.

    Raises:
        RunFolderError: another process holds it; says which.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / FILE
        self._stream = self._taken()
        try:
            self._stream.truncate(0)
            self._stream.write(json.dumps(_holder()))
            self._stream.flush()
        except OSError:
            self.release()
            raise

    def _taken(self) -> IO[str]:
        while True:
            stream = self.file.open("a+", encoding="utf-8")
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                with stream:
                    stream.seek(0)
                    raise RunFolderError(_in_use(self.file.parent, stream.read())) from None
            # The last holder may have moved the folder away between opening and locking.
            if self._is_ours(stream):
                return stream
            stream.close()
            self.file.parent.mkdir(parents=True, exist_ok=True)

    def holds(self) -> bool:
        """Whether the folder is where it was, and still ours."""
        return not self._stream.closed and self._is_ours(self._stream)

    def _is_ours(self, stream: IO[str]) -> bool:
        try:
            return os.path.samestat(os.fstat(stream.fileno()), self.file.stat())
        except FileNotFoundError:
            return False

    def release(self, folder: Path | None = None) -> None:
        """Let go, and remove the file from the folder, which may have been renamed."""
        with suppress(OSError):
            ((folder or self.file.parent) / FILE).unlink(missing_ok=True)
        with suppress(OSError):  # what could not be written on a full disk
            self._stream.close()


def _holder() -> dict[str, Any]:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {"process": os.getpid(), "host": socket.gethostname(), "since": now, "command": " ".join(sys.argv)}


def _in_use(folder: Path, said: str) -> str:
    try:
        holder = json.loads(said)
        who = "process {process} on {host} since {since} ({command})".format(**holder)
    except (ValueError, KeyError, TypeError):
        who = "another process"
    return f"output folder {str(folder)!r} is in use by {who}; wait for it, or choose another --out"
