"""The seal of a result file: its last 79 bytes say the SHA-256 of all bytes before them.

HDF5 ignores what follows its own end, so every reader of netCDF reads a sealed file. A flipped bit, on the other hand,
can make the HDF5 library crash, or read other numbers than were written: the seal is looked at first. It guards
against accidents; who edits a file on purpose can seal it again. A file without a seal is not refused, since other
programs that add to a result cut the seal off.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import IO

from nuppl.errors import InputError

__all__ = ["check_seal", "is_sealed", "seal"]

_LENGTH = 79
_SEAL = re.compile(rb"\nnuppl sha256 ([0-9a-f]{64})\n")
_BLOCK = 1 << 20


def seal(path: Path) -> None:
    """Append the seal to a file that is complete."""
    with path.open("r+b") as file:
        digest = _digest(file, path.stat().st_size)
        file.write(f"\nnuppl sha256 {digest}\n".encode())


def is_sealed(path: Path) -> bool:
    """Whether a file ends with a seal, right or wrong."""
    with path.open("rb") as file:
        return _read(file) is not None


def check_seal(path: Path) -> None:
    """Compare a file with its seal, if it has one.

    Raises:
        InputError: the file is not what was sealed.
    """
    with path.open("rb") as file:
        said = _read(file)
        file.seek(0)
        if said is not None and said != _digest(file, path.stat().st_size - _LENGTH):
            raise InputError(
                f"result file {str(path)!r}: expected the bytes that nuppl wrote, got others (its SHA-256 differs from "
                "the one at its end); it was damaged or changed since: copy it again, or repeat the run"
            )


def _read(file: IO[bytes]) -> str | None:
    """The SHA-256 that the seal states."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _LENGTH))
    found = _SEAL.fullmatch(file.read())
    return found[1].decode() if found else None


def _digest(file: IO[bytes], size: int) -> str:
    """The SHA-256 of the next `size` bytes."""
    digest = hashlib.sha256()
    while size > 0 and (block := file.read(min(size, _BLOCK))):
        digest.update(block)
        size -= len(block)
    return digest.hexdigest()
