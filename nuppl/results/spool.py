"""Draws kept on disk while an engine makes them, so that memory does not grow with their number.

The file holds the history of one scalar entry after the other, (entry, chain, draw): what reads one number at a time,
as every statistic does, reads one stretch of the file.
"""

from __future__ import annotations

import math
import os
import weakref
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile, gettempdir
from typing import IO, NamedTuple

import numpy as np
import torch
from torch import Tensor

from nuppl.errors import InputError, RunFolderError
from nuppl.results.checkpoints import State

__all__ = ["Spool"]

BUFFER = 1 << 24
"""Bytes that wait in memory: an engine may append a draw at a time, and the disk still sees long stretches."""
NUMBER = 8
"""Bytes of a float64."""

FILE = "draws.spool"

Name = tuple[str, str]
"""("values", site) or ("stats", name)."""


class Column(NamedTuple):
    """Where one site lies in the file: from `offset`, in bytes, as (*site, chain, draw)."""

    offset: int
    site: tuple[int, ...]


class Spool:
    """An append-only store of draws on disk, as float64.

    Arguments:
        chains: number of chains.
        draws: the most draws that any chain will have.
        folder: where the file lies. It stays there, so that another process can go on with it (`state`); without a
            folder it lies in the system's temporary one (TMPDIR) and has no name: it is gone with the last tensor that
            shows it, or with the process, however that ends.
        state: of the spool that began in that folder.

    Raises:
        InputError: no chain or no draw.
        RunFolderError: a folder that cannot be written.

    >>> spool = Spool(chains=2, draws=3)
    >>> for draw in range(3):
    ...     spool.append({"x": torch.full((2, 1, 4), float(draw))}, {"lp": torch.zeros(2, 1)})
    >>> spool.values()["x"].shape, spool.values()["x"][0, :, 0].tolist()
    (torch.Size([2, 3, 4]), [0.0, 1.0, 2.0])
    """

    def __init__(self, chains: int, draws: int, folder: str | Path | None = None, state: State | None = None) -> None:
        if chains < 1 or draws < 1:
            raise InputError(f"spool: expected at least one chain and one draw, got {chains} and {draws}")
        self.chains, self.draws = chains, draws
        self._place, self._kept = str(folder or gettempdir()), folder is not None
        self._filled = [0] * chains if state is None else list(state["filled"])
        columns = [] if state is None else state["columns"]
        self._columns = {(kind, name): Column(offset, tuple(site)) for kind, name, offset, site in columns}
        self._waiting: list[dict[Name, Tensor]] = []
        self._waiting_for: int | None = None
        try:
            self._file = self._opened(folder, state is None)
        except OSError as error:
            raise self._no_room(error) from error
        weakref.finalize(self, _closed, self._file)

    @staticmethod
    def _opened(folder: str | Path | None, new: bool) -> IO[bytes]:
        if folder is None:
            return TemporaryFile()
        Path(folder).mkdir(parents=True, exist_ok=True)
        return (Path(folder) / FILE).open("w+b" if new else "r+b")

    def state(self) -> State:
        """What another process needs to go on: what was appended so far is in the file."""
        self._flush()
        if self._kept:
            self._sync()
        columns = [[*name, column.offset, list(column.site)] for name, column in self._columns.items()]
        return {"filled": list(self._filled), "columns": columns}

    def _sync(self) -> None:
        """A state on disk must not speak of draws that a power cut took away."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._no_room(error) from error

    def append(
        self, values: Mapping[str, Tensor], stats: Mapping[str, Tensor] | None = None, chain: int | None = None
    ) -> None:
        """Add n draws, any n, to every chain or to one.

        Arguments:
            values: every free latent, {site: (chain, n, *site)}; the same sites at every call.
            stats: one number per draw, {name: (chain, n)}; the same names at every call.
            chain: the only chain that the draws belong to; the axis `chain` then has size 1.

        Raises:
            InputError: other names or shapes than before, or more draws than there is room for.
            RunFolderError: the disk is full.
        """
        block = {("values", name): value for name, value in values.items()}
        block |= {("stats", name): value for name, value in (stats or {}).items()}
        self._columns = self._columns or self._laid_out(block)
        n = self._checked(block, chain)
        if chain != self._waiting_for:
            self._flush()
        # A clone: the engine may go on writing to its own tensor.
        copies = {name: value.detach().to("cpu", torch.float64, copy=True) for name, value in block.items()}
        self._waiting.append(copies)
        self._waiting_for = chain
        for number in self._numbers(chain):
            self._filled[number] += n
        if sum(value.nbytes for part in self._waiting for value in part.values()) > BUFFER:
            self._flush()

    def values(self) -> Mapping[str, Tensor]:
        """Every site, {site: (chain, draw, *site)}; see `Shown`."""
        return self._shown("values")

    def stats(self) -> Mapping[str, Tensor]:
        """Every number per draw, {name: (chain, draw)}."""
        return self._shown("stats")

    def _shown(self, kind: str) -> Mapping[str, Tensor]:
        if len(set(self._filled)) > 1:
            raise InputError(f"spool: expected equally many draws of every chain, got {self._filled}")
        self._flush()
        return Shown(self, kind)

    def _numbers(self, chain: int | None) -> range:
        return range(self.chains) if chain is None else range(chain, chain + 1)

    def _laid_out(self, block: Mapping[Name, Tensor]) -> dict[Name, Column]:
        columns, offset = {}, 0
        for name, value in block.items():
            columns[name] = Column(offset, tuple(value.shape[2:]))
            offset += NUMBER * self.chains * self.draws * math.prod(value.shape[2:])
        try:
            # Draws to come are zeros that need no room yet.
            self._file.truncate(offset)
        except OSError as error:
            raise self._no_room(error) from error
        return columns

    def _checked(self, block: Mapping[Name, Tensor], chain: int | None) -> int:
        """The number of draws in a block that fits."""
        if block.keys() != self._columns.keys() or not block:
            names = ([name for _, name in keys] for keys in (self._columns, block))
            raise InputError("spool: expected the sites and statistics {}, got {}".format(*names))
        n, chains = next(iter(block.values())).shape[1], self._numbers(chain)
        for name, value in block.items():
            want = (len(chains), n, *self._columns[name].site)
            if tuple(value.shape) != want:
                raise InputError(f"spool: expected {name[1]!r} with shape {want}, got {tuple(value.shape)}")
        if chains.stop > self.chains or max(self._filled[number] for number in chains) + n > self.draws:
            raise InputError(f"spool: no room in chain {chain} for {n} draws after {self._filled} of {self.draws} each")
        return n

    def _flush(self) -> None:
        """Write what waits."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        try:
            for name, column in self._columns.items():
                self._write(column, torch.cat([part[name] for part in waiting], dim=1))
            self._file.flush()
        except OSError as error:
            raise self._no_room(error) from error

    def _write(self, column: Column, block: Tensor) -> None:
        """Write (chain, n, *site), the last n draws so far of the chains that waited."""
        chains, n = self._numbers(self._waiting_for), block.shape[1]
        entries = block.flatten(2) if column.site else block[..., None]
        for k, entry in enumerate(entries.permute(2, 0, 1).contiguous().numpy()):
            for chain, run in zip(chains, entry, strict=True):
                place = (k * self.chains + chain) * self.draws + self._filled[chain] - n
                self._file.seek(column.offset + NUMBER * place)
                self._file.write(run.data)

    def _no_room(self, error: OSError) -> RunFolderError:
        instead = "and go on with --resume" if self._kept else "or name another folder in the environment's TMPDIR"
        return RunFolderError(
            f"draws could not be kept in {self._place!r} ({error.strerror}): expected a folder with room for them; "
            f"make some, {instead}"
        )

    def _map(self, name: Name) -> Tensor:
        column, filled = self._columns[name], self._filled[0]
        shape = (*column.site, self.chains, self.draws)
        # Copy on write: whoever changes a tensor changes neither the file nor another's tensor.
        array = np.memmap(self._file, np.float64, mode="c", offset=column.offset, shape=shape)
        return torch.from_numpy(array).movedim((-2, -1), (0, 1))[:, :filled]


class Shown(Mapping[str, Tensor]):
    """The draws in a spool, (chain, draw, *site), each mapped from the file anew when asked for.

    What was read leaves memory with the tensor: ask for one site, be done with it, ask for the next.
    """

    def __init__(self, spool: Spool, kind: str) -> None:
        self._spool, self._kind = spool, kind

    def __getitem__(self, name: str) -> Tensor:
        if (self._kind, name) not in self._spool._columns:
            raise KeyError(name)
        return self._spool._map((self._kind, name))

    def __iter__(self) -> Iterator[str]:
        return (name for kind, name in self._spool._columns if kind == self._kind)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _closed(file: IO[bytes]) -> None:
    """Close; what a full disk could not take has been complained of."""
    with suppress(OSError):
        file.close()
