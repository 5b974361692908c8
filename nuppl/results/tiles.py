"""One tile of a simulation store: a netCDF file with a fixed number of simulations, or the first of them.

| variable      | dims           | holds                                                                |
|---------------|----------------|----------------------------------------------------------------------|
| u             | draw, latent   | whitened latents, float32                                            |
| each data site| draw, its axes | data, float32 where that is exact (as for counts), else float64      |
| failed        | draw           | 0, or which reason a simulation failed for: then latents are kept as |
|               |                | far as they were drawn, and data may be NaN                          |

The reasons are an attribute of the file.

Whitened latents are numbers of order one, of which float32 keeps seven digits: half the room, for an error that is ten
million times smaller than the prior. Data come in any unit and are never rounded.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import netCDF4
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nuppl.errors import InputError, RunFolderError
from nuppl.results.files import whole
from nuppl.results.seal import check_seal, is_sealed, seal

__all__ = ["Shapes", "Tile", "read_tile", "tile_rows", "write_tile"]

Shapes = Mapping[str, tuple[int, ...]]
"""{data site: shape of one simulation}, in the order of the flat data."""

_CHUNK = 1 << 13
"""Numbers of one latent that lie together: columns can be read without the others."""

_REASONS = 8
"""Reasons for failures that a tile tells apart."""

_OTHERS = "other reasons"

_DAMAGED = (OSError, RuntimeError, ValueError, KeyError, IndexError, AttributeError, TypeError)
"""What a damaged file raises in the libraries below."""


class Tile(NamedTuple):
    """Simulations that belong together.

    Attributes:
        u: whitened latents with shape (n, D), or those that were asked for; float32.
        data: of all sites side by side, with shape (n, M); float64.
        code: 0, or the number of the reason why a simulation failed, from 1, with shape (n,).
        reasons: what is known to fail.
    """

    u: Tensor
    data: Tensor
    code: Tensor
    reasons: tuple[str, ...]

    @property
    def failed(self) -> Tensor:
        """Which simulations failed, with shape (n,)."""
        return self.code != 0

    def counts(self) -> dict[str, int]:
        """How many failed for which reason."""
        counts = torch.bincount(self.code, minlength=len(self.reasons) + 1)[1:].tolist()
        return {reason: count for reason, count in zip(self.reasons, counts, strict=True) if count}

    def first(self, n: int) -> Tile:
        """The first n simulations."""
        return Tile(self.u[:n], self.data[:n], self.code[:n], self.reasons)

    @classmethod
    def joined(cls, tiles: Sequence[Tile]) -> Tile:
        """Tiles after each other."""
        reasons = tuple(dict.fromkeys(reason for tile in tiles for reason in tile.reasons))
        codes = [_recoded(tile.code, tile.reasons, reasons) for tile in tiles]
        u, data = torch.cat([tile.u for tile in tiles]), torch.cat([tile.data for tile in tiles])
        return cls(u, data, torch.cat(codes), reasons)


def _recoded(code: Tensor, reasons: Sequence[str], wanted: Sequence[str]) -> Tensor:
    return torch.tensor([0, *(wanted.index(reason) + 1 for reason in reasons)])[code]


def write_tile(path: Path, tile: Tile, shapes: Shapes) -> None:
    """Write a tile, whole or not at all.

    Raises:
        RunFolderError: the disk is full, or the folder cannot be written.
    """
    try:
        with whole(path) as partial:
            with netCDF4.Dataset(partial, "w") as file:
                _write(file, tile, shapes)
            seal(partial)
    except (OSError, RuntimeError) as error:
        # The netCDF library reports a full disk as a RuntimeError that does not say so.
        raise RunFolderError(
            f"simulations {str(path)!r} could not be written ({error}): expected a folder with room for it; make some, "
            "and repeat the command: what is there is kept"
        ) from error


def _write(file: Any, tile: Tile, shapes: Shapes) -> None:
    rows, latents = tile.u.shape
    codes, reasons = _most_common(tile)
    file.inference_library, file.reasons = "nuppl", json.dumps(reasons)
    file.createDimension("draw", rows)
    if latents:  # netCDF takes an axis without entries for one without end
        file.createDimension("latent", latents)
        chunk = (rows, max(1, min(latents, _CHUNK // rows)))
        file.createVariable("u", "f4", ("draw", "latent"), chunksizes=chunk)[:] = tile.u.numpy()
    file.createVariable("failed", "i1", ("draw",), zlib=True, complevel=1)[:] = codes.numpy()
    parts = tile.data.split([math.prod(shape) for shape in shapes.values()], dim=1)
    for (name, shape), part in zip(shapes.items(), parts, strict=True):
        dims = tuple(f"{name}_dim_{i}" for i in range(len(shape)))
        for dim, size in zip(dims, shape, strict=True):
            file.createDimension(dim, size)
        values = _narrow(part.numpy()).reshape(rows, *shape)
        # Numbers that float32 holds are counts and the like, which shrink; the noise of others does not.
        packed = {"zlib": True, "complevel": 1} if values.dtype == np.float32 else {}
        file.createVariable(_stored(name), values.dtype, ("draw", *dims), **packed)[:] = values


def _stored(name: str) -> str:
    """A site may be called as one of our own variables."""
    return f"data_{name}" if name in ("u", "failed") else name


def _narrow(values: NDArray[np.float64]) -> NDArray[Any]:
    """As float32 where that changes nothing."""
    with np.errstate(over="ignore"):
        short = values.astype(np.float32)
    return short if np.array_equal(short, values, equal_nan=True) else values


def _most_common(tile: Tile) -> tuple[Tensor, list[str]]:
    """Codes and reasons with the rare ones put together: a message may have a number in it that never comes again."""
    counts = torch.bincount(tile.code, minlength=len(tile.reasons) + 1)[1:]
    told = sorted((i for i in range(len(counts)) if counts[i]), key=lambda i: -int(counts[i]))
    kept = [tile.reasons[i] for i in told[:_REASONS]]
    mapped = [tile.reasons[i] if i in told[:_REASONS] else _OTHERS for i in range(len(counts))]
    reasons = list(dict.fromkeys([*kept, *([_OTHERS] if len(told) > _REASONS else [])]))
    table = [0, *(reasons.index(reason) + 1 if reason in reasons else 0 for reason in mapped)]
    return torch.tensor(table)[tile.code], reasons


def tile_rows(path: Path) -> tuple[int, dict[str, int]] | None:
    """Simulations in a tile, and how many of them failed for which reason; None of a file that is damaged."""
    try:
        if not is_sealed(path):
            return None
        with netCDF4.Dataset(path) as file:
            file.set_auto_mask(False)
            codes, reasons = _failures(file)
    except _DAMAGED:
        return None
    counts = torch.bincount(codes, minlength=len(reasons) + 1)[1:].tolist()
    return len(codes), {reason: count for reason, count in zip(reasons, counts, strict=True) if count}


def _failures(file: Any) -> tuple[Tensor, tuple[str, ...]]:
    reasons = json.loads(file.reasons)
    codes = torch.from_numpy(np.asarray(file["failed"][:], dtype=np.int64))
    if not isinstance(reasons, list) or not all(isinstance(reason, str) for reason in reasons):
        raise InputError(f"expected the reasons of failures as texts, got {file.reasons[:100]!r}")
    if len(codes) and not 0 <= int(codes.min()) <= int(codes.max()) <= len(reasons):
        raise InputError("expected a reason for every simulation that failed")
    return codes, tuple(reasons)


def read_tile(path: Path, latents: int, shapes: Shapes, columns: Tensor | None = None) -> Tile:
    """A tile, or of its latents some.

    Arguments:
        latents: whitened latents of the model.
        columns: which of them to read, with shape (d,); all by default.

    Raises:
        InputError: the file is damaged, or is not what the store says.
    """
    try:
        check_seal(path)
        if not is_sealed(path):
            raise InputError("it is truncated")
        with netCDF4.Dataset(path) as file:
            return _read(file, latents, shapes, columns)
    except _DAMAGED as error:
        raise InputError(
            f"simulations {str(path)!r}: expected a tile as nuppl wrote it, but it cannot be read ({error}); remove it "
            "and repeat the command that made the store: it draws the same simulations again"
        ) from error


def _read(file: Any, latents: int, shapes: Shapes, columns: Tensor | None) -> Tile:
    file.set_auto_mask(False)
    rows = len(file.dimensions["draw"])
    expected = {"failed": (rows,), **({"u": (rows, latents)} if latents else {})}
    expected |= {_stored(name): (rows, *shape) for name, shape in shapes.items()}
    for name, shape in expected.items():
        if file[name].shape != shape or file[name].dtype.kind not in "fi":
            raise InputError(f"expected numbers with shape {shape} in {name!r}, got {file[name].shape}")
    data = [np.asarray(file[_stored(name)][:], dtype=np.float64).reshape(rows, -1) for name in shapes]
    flat = np.concatenate(data, axis=1) if data else np.zeros((rows, 0))
    u = torch.from_numpy(_columns(file, rows, latents, columns))
    return Tile(u, torch.from_numpy(flat), *_failures(file))


def _columns(file: Any, rows: int, latents: int, columns: Tensor | None) -> NDArray[np.float32]:
    if columns is None or not 0 < len(columns) <= latents // 4:
        every = np.asarray(file["u"][:], dtype=np.float32) if latents else np.empty((rows, 0), dtype=np.float32)
        return every if columns is None else np.ascontiguousarray(every[:, columns.numpy()])
    # One after the other: the library is slow at picking several at once.
    return np.stack([file["u"][:, column] for column in columns.tolist()], axis=1).astype(np.float32)
