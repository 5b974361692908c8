"""Simulation stores in the making: one process at a time, and nothing touched that is not nuppl's; and their union."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from nuppl.errors import InputError, RunFolderError
from nuppl.results.files import sweep, whole
from nuppl.results.lock import FILE as LOCK
from nuppl.results.lock import Lock
from nuppl.results.simulations import STORE, TILES, SimulationStore

__all__ = ["begun", "merge"]


@contextmanager
def begun(
    path: str | Path, said: Mapping[str, Any], copy: Path | None, overwrite: bool = False
) -> Iterator[SimulationStore]:
    """A store to add to, made if there is none, locked while the block runs.

    Arguments:
        said: for simulations.json, as `SimulationStore.of_program` gives it.
        copy: the model file.
        overwrite: whether to remove the simulations that are there.

    Raises:
        InputError: the store there is of another model.
        RunFolderError: other things are there, another process writes there, or the place cannot be written.
    """
    path = Path(os.path.realpath(path))
    with _writing(path):
        _check_place(path)
        path.mkdir(parents=True, exist_ok=True)
        lock = Lock(path)
    try:
        with _writing(path):
            store = _opened(path, said, copy, overwrite)
        yield store
    finally:
        lock.release()
        with suppress(OSError):
            path.rmdir()  # only if empty


def _opened(path: Path, said: Mapping[str, Any], copy: Path | None, overwrite: bool) -> SimulationStore:
    if (path / STORE).exists() and overwrite:
        _clear(SimulationStore.open(path))
    if not (path / STORE).exists():
        with whole(path / STORE) as partial:
            partial.write_text(json.dumps(dict(said), indent=2, default=str) + "\n", encoding="utf-8")
    store = SimulationStore.open(path)
    store.check(said)
    sweep(path)
    (path / TILES).mkdir(exist_ok=True)
    if copy is not None and not (path / copy.name).exists():
        (path / copy.name).write_bytes(copy.read_bytes())
    return store


def _clear(store: SimulationStore) -> None:
    """Remove what nuppl wrote; simulations.json last, without which the rest would be a stranger's."""
    shutil.rmtree(store.path / TILES, ignore_errors=True)
    if name := Path(str(store.said.get("model_copy", ""))).name:
        (store.path / name).unlink(missing_ok=True)
    (store.path / STORE).unlink()


def merge(store: SimulationStore, others: Sequence[SimulationStore]) -> int:
    """Add the tiles of other stores of the same model to one that has begun; how many were there already.

    Of a tile that is there twice the longer one is kept: both begin with the same simulations.

    Raises:
        InputError: a store of another model, or a damaged tile.
        RunFolderError: there is no room.
    """
    for other in others:
        store.check(other.said)
        if damaged := other.damaged():
            raise InputError(
                f"simulations {str(damaged[0])!r}: expected a tile as nuppl wrote it, found a damaged file; remove it, "
                "or repeat the command that made it"
            )
    twice, rows = 0, {(tile.seed, tile.number): tile.rows for tile in store.held()}
    for other in others:
        for tile in other.held():
            place = tile.seed, tile.number
            twice += place in rows
            if tile.rows > rows.get(place, 0):
                _copy(other.file(*place), store.file(*place))
                rows[place] = tile.rows
    return twice


def _copy(source: Path, place: Path) -> None:
    with _writing(place.parent), whole(place) as partial:
        try:
            os.link(source, partial)  # tiles are replaced, never changed: two stores can share one
        except OSError:
            shutil.copyfile(source, partial)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunFolderError(
            f"output folder {str(path)!r}: expected a place that can be written, got {error.strerror or error}"
        ) from error


def _check_place(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise RunFolderError(f"output folder {str(path)!r}: expected a folder or nothing, found a file")
    if (path / STORE).exists() or not path.is_dir():
        return
    if path == Path.cwd() or any(map(_is_strange, path.iterdir())):
        raise RunFolderError(
            f"output {str(path)!r}: expected a file, found a folder that holds other things than simulations; name a "
            "file in it, or an empty folder"
        )


def _is_strange(entry: Path) -> bool:
    """Whether something is other than what a process leaves that is killed at its beginning."""
    return entry.name != LOCK and not entry.name.endswith(".partial")
