"""States of long work, kept on disk so that it goes on after any interruption as if there had been none.

Every file is written whole or not at all; tensors and numbers only, nothing that could run when it is read. Writing
takes a small share of the time: a state is due when enough work has been done since the last.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nuppl.errors import RunFolderError
from nuppl.results.files import whole

__all__ = ["Checkpoints", "State"]

State = dict[str, Any]
"""Tensors, numbers and strings, in dictionaries and lists."""

_LEAST, _SHARE = 0.2, 0.03
"""Seconds between states at least, and the share of the time that writing them may take."""


class Checkpoints:
    """The states of one run by name.

    Arguments:
        folder: where they lie, made when the first is written; nothing is kept where None.

    >>> store = Checkpoints(None)
    >>> store.once("answer", lambda: {"x": 42})["x"], store.load("answer"), store.due()
    (42, None, False)
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._wait = _LEAST
        self._last = time.monotonic()
        self._began: float | None = None

    def due(self) -> bool:
        """Whether enough has been done since the last state."""
        now = time.monotonic()
        due = self.folder is not None and now - self._last >= self._wait
        # Putting a state together, as by writing draws to disk, takes time as well.
        self._began = now if due else None
        return due

    def load(self, name: str) -> State | None:
        """The last state of that name, if there is one.

        Raises:
            RunFolderError: it cannot be read.
        """
        file = self._file(name)
        if file is None or not file.exists():
            return None
        try:
            state: State = torch.load(file, weights_only=True)
        except Exception as error:
            # What torch advises, to read it all the same, is what nobody should do.
            raise RunFolderError(
                f"checkpoint {str(file)!r}: expected one that nuppl wrote, but it cannot be read "
                f"({type(error).__name__}); start anew with --overwrite instead of --resume"
            ) from error
        return state

    def save(self, name: str, state: State) -> None:
        """Write a state in the place of the last.

        Raises:
            RunFolderError: the folder cannot be written, or the disk is full.
        """
        file = self._file(name)
        if file is None:
            return
        started = self._began or time.monotonic()
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with whole(file) as partial, partial.open("wb") as stream:
                torch.save(_own(state), stream)
                stream.flush()
                os.fsync(stream.fileno())
        except (OSError, RuntimeError) as error:
            # torch reports a full disk as a RuntimeError.
            raise RunFolderError(
                f"checkpoint {str(file)!r} could not be written ({error}): expected a folder with room for it; make "
                "some, and go on with --resume"
            ) from error
        self._last, self._began = time.monotonic(), None
        self._wait = max(_LEAST, (self._last - started) / _SHARE)

    def once(self, name: str, make: Callable[[], State]) -> State:
        """A piece of work that is done once: its result, made now or kept from before the interruption."""
        kept = self.load(name)
        if kept is None:
            kept = make()
            self.save(name, kept)
        return kept

    def _file(self, name: str) -> Path | None:
        return None if self.folder is None else self.folder / f"{name}.pt"


def _own(state: Any) -> Any:
    """With tensors that own what they show: a slice would be written with all that it was cut from."""
    if isinstance(state, Tensor):
        return state.detach().clone()
    if isinstance(state, dict):
        return {name: _own(value) for name, value in state.items()}
    if isinstance(state, list):
        return [_own(value) for value in state]
    return state
