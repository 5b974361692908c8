"""A store of simulations: a folder of tiles, larger than memory, that grows, merges and is read tile by tile.

| file             | holds                                                                       |
|------------------|-----------------------------------------------------------------------------|
| simulations.json | the model by which it is known again, and how it was made                   |
| *.py             | a copy of the model file                                                    |
| tiles/S-N.nc     | tile N of seed S: what it holds follows from model, S and N                 |
| lock             | who is writing, for as long as somebody is                                  |

What a tile holds depends on nothing else, so a store is the same in whatever order, by however many processes and
through however many interruptions it was made.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from nuppl.errors import InputError
from nuppl.language.layout import Layout
from nuppl.language.program import Program
from nuppl.language.simulation import TILE
from nuppl.results.metadata import sha256, source_file, versions
from nuppl.results.record import now
from nuppl.results.tiles import Shapes, Tile, read_tile, tile_rows, write_tile

__all__ = ["STORE", "TILES", "Held", "SimulationStore", "digest"]

STORE = "simulations.json"
"""What marks the folder of a store."""

_MOST, _BYTES = 8192, 1 << 26
"""Simulations in a tile at most, and bytes."""

TILES = "tiles"
"""The folder of tiles in a store."""

_NAME = re.compile(r"(\d+)-(\d{6,})\.nc")

_SAME = ("model", "model_sha256", "options", "fixed", "latents", "data")
"""By which a model is known again."""


class Held(NamedTuple):
    """What a tile of a store holds."""

    seed: int
    number: int
    rows: int
    reasons: Mapping[str, int]
    """Why simulations failed, {text: how many}."""

    @property
    def failed(self) -> int:
        """Simulations that failed."""
        return sum(self.reasons.values())


@dataclass(frozen=True)
class SimulationStore:
    """A store of simulations.

    Attributes:
        path: the folder.
        said: what simulations.json says.
    """

    path: Path
    said: Mapping[str, Any]

    @classmethod
    def open(cls, path: str | Path) -> SimulationStore:
        """A store that is there, to be read.

        Raises:
            InputError: there is none.
        """
        path = Path(path)
        try:
            said = json.loads((path / STORE).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            said = None
        if not isinstance(said, dict) or not {*_SAME, "rows"} <= said.keys():
            found = "a folder without it" if path.is_dir() else "a file" if path.exists() else "nothing"
            raise InputError(
                f"simulations {str(path)!r}: expected a folder that nuppl simulate wrote, with its {STORE}, found "
                f"{found}"
            )
        return cls(path, said)

    def check(self, said: Mapping[str, Any]) -> None:
        """That the store is of a model.

        Arguments:
            said: as `of_program` gives it, or another store has it.

        Raises:
            InputError: it is not; says what differs.
        """
        here = json.loads(json.dumps({name: said[name] for name in _SAME}, default=str))
        differences = [
            f"{name.replace('_', ' ')} was {_short(self.said[name])} and is now {_short(here[name])}"
            for name in _SAME
            if self.said[name] != here[name]
        ]
        if differences:
            copy = self.said.get("model_copy")
            kept = f"; the model file as it was is {str(self.path / str(copy))!r}" if copy else ""
            raise InputError(
                f"simulations {str(self.path)!r} are of another model: {'; '.join(differences)}. Simulate this one "
                f"into a folder of its own, or use the model that they were made with{kept}"
            )

    @staticmethod
    def of_program(program: Program) -> dict[str, Any]:
        """What simulations.json says of a program; observed data are not part of it."""
        file = source_file(program)
        layout = Layout(program.latents.values(), whitened=True)
        data = {name: list(site.shape) for name, site in program.data_sites.items()}
        each = 4 * layout.dim + 8 * sum(math.prod(shape) for shape in data.values())
        return {
            "model": program.model.name,
            "model_sha256": sha256(file) if file else "",
            "model_copy": file.name if file else "",
            "model_path": str(file.absolute()) if file else "",
            "options": program.options,
            "fixed": {name: value.tolist() for name, value in program.fixed.items()},
            "latents": {name: list(block.shape) for name, block in layout.blocks.items()},
            "data": data,
            "rows": _rows(each),
            "columns": layout.names(),
            "versions": versions(),
            "created_at": now(),
        }

    @property
    def rows(self) -> int:
        """Simulations in a full tile."""
        return int(self.said["rows"])

    @property
    def latents(self) -> int:
        """Whitened latents."""
        return sum(math.prod(shape) for shape in self.said["latents"].values())

    @property
    def shapes(self) -> Shapes:
        """Of the data sites."""
        return {name: tuple(shape) for name, shape in self.said["data"].items()}

    def held(self) -> list[Held]:
        """What every tile holds, in the order in which they are read; damaged files are passed over."""
        found = []
        for seed, number, file in self.files():
            if (said := tile_rows(file)) is not None:
                found.append(Held(seed, number, *said))
        return found

    def damaged(self) -> list[Path]:
        """Tiles that cannot be read."""
        return [file for _, _, file in self.files() if tile_rows(file) is None]

    def files(self) -> list[tuple[int, int, Path]]:
        """(seed, number, file) of all tiles, in order."""
        files = [(name, file) for file in (self.path / TILES).glob("*.nc") if (name := _NAME.fullmatch(file.name))]
        return sorted((int(name[1]), int(name[2]), file) for name, file in files)

    def missing(self, n: int, seed: int) -> list[tuple[int, int]]:
        """(number, simulations that it shall have) of the tiles of a seed that bring the store to n in all."""
        held = self.held()
        if sum(tile.rows for tile in held) >= n:
            return []
        there = {tile.number: tile.rows for tile in held if tile.seed == seed}
        wanted = n - sum(tile.rows for tile in held if tile.seed != seed)
        shares = ((number, min(self.rows, wanted - number * self.rows)) for number in range(-(-wanted // self.rows)))
        return [(number, rows) for number, rows in shares if there.get(number, 0) < rows]

    def write(self, seed: int, number: int, tile: Tile) -> None:
        """Put a tile in its place.

        Raises:
            RunFolderError: there is no room for it.
        """
        write_tile(self.file(seed, number), tile, self.shapes)

    def read(self, seed: int, number: int, columns: Tensor | None = None) -> Tile:
        """One tile, as far as it is there.

        Raises:
            InputError: it is damaged.
        """
        return read_tile(self.file(seed, number), self.latents, self.shapes, columns)

    def begun(self, seed: int, number: int, batch: int) -> list[Tile]:
        """What a tile holds in whole batches, if anything: from there it can be gone on with."""
        held = tile_rows(self.file(seed, number)) if self.file(seed, number).exists() else None
        keep = 0 if held is None else held[0] // batch * batch
        return [self.read(seed, number).first(keep)] if keep else []

    def tiles(self, columns: Tensor | None = None) -> Iterator[Tile]:
        """All tiles in order, one at a time in memory.

        Arguments:
            columns: which whitened latents to read, with shape (d,); all by default.

        Raises:
            InputError: one is damaged.
        """
        for seed, number, _ in self.files():
            yield self.read(seed, number, columns)

    def file(self, seed: int, number: int) -> Path:
        """Where a tile lies."""
        return self.path / TILES / f"{seed}-{number:06d}.nc"


def digest(path: str | Path) -> str:
    """The SHA-256 of all that a store holds: of the seals of its tiles.

    Raises:
        InputError: there is no store.
    """
    found = hashlib.sha256()
    for _, _, file in SimulationStore.open(path).files():
        with file.open("rb") as stream:
            stream.seek(max(0, file.stat().st_size - 128))
            found.update(file.name.encode() + stream.read())
    return found.hexdigest()


def _rows(each: int) -> int:
    """Simulations in a tile: a power of two, so that few bytes of one simulation make as many tiles as few of many."""
    rows = _MOST
    while rows > TILE and rows * each > _BYTES:
        rows //= 2
    return rows


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
