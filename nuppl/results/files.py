"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["sweep", "whole"]


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Where to write a file: beside its place, which it takes when the block ends without an error.

    >>> import tempfile
    >>> place = Path(tempfile.mkdtemp()) / "notes.txt"
    >>> with whole(place) as beside:
    ...     _ = beside.write_text("all of it"), place.exists()
    >>> place.read_text(), [file.name for file in place.parent.iterdir()]
    ('all of it', ['notes.txt'])
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what killed processes left half-written in a folder in which nobody else writes."""
    for left in folder.rglob(".*.partial"):
        left.unlink()
