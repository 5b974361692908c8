"""Work on parts of a scan, in one process or in several.

A job is a call of one function; its result depends on its arguments alone, so that a scan does not depend on how many
processes there are, nor on who did what. Each process builds the program anew, since a model is a function in a file of
the user's; everything else is sent to it.
"""

from __future__ import annotations

import io
import pickle
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from nuppl.errors import NupplError, RunFolderError
from nuppl.language.program import Program

__all__ = ["Function", "Spread", "Workers", "in_turn"]

Function = Callable[..., tuple[Tensor, ...]]
"""What a job calls."""
Spread = Callable[[Function, Sequence[tuple[Any, ...]]], Iterator[tuple[int, tuple[Tensor, ...]]]]
"""(function, arguments of each job) to (number of the job, its result), in any order."""


def in_turn(function: Function, jobs: Sequence[tuple[Any, ...]]) -> Iterator[tuple[int, tuple[Tensor, ...]]]:
    """One job after the other, in this process.

    >>> list(in_turn(lambda x: (x + 1,), [(torch.tensor(1),)]))
    [(0, (tensor(2),))]
    """
    for number, job in enumerate(jobs):
        yield number, function(*job)


class Workers:
    """Processes that share jobs; they end with the block, and when this process ends.

    Arguments:
        build: makes the program; sent to each process.
        count: of processes.
    """

    def __init__(self, build: Callable[[], Program], count: int) -> None:
        self._build, self._count = build, count
        self._pipes: list[Connection] = []
        self._processes: list[Any] = []

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.terminate()
            process.join()

    def spread(self, function: Function, jobs: Sequence[tuple[Any, ...]]) -> Iterator[tuple[int, tuple[Tensor, ...]]]:
        """Whoever is free gets the next job.

        Raises:
            NupplError: the first that a process ran into.
        """
        if self._count == 1 or not jobs:
            yield from in_turn(function, jobs)
            return
        self._start()
        task, waiting, busy = _dumped(function), list(enumerate(jobs))[::-1], dict[Any, int]()
        for pipe in self._pipes:
            pipe.send(("function", task))
        idle = list(self._pipes)
        while waiting or busy:
            while waiting and idle:
                number, job = waiting.pop()
                pipe = idle.pop()
                pipe.send(("job", _dumped(job)))
                busy[pipe] = number
            for ready in wait(list(busy)):
                found = _received(ready)
                idle.append(ready)  # type: ignore[arg-type]
                yield busy.pop(ready), found

    def _start(self) -> None:
        context = get_context("spawn")
        while len(self._processes) < self._count:
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, self._build), daemon=True)
            self._processes.append(process)
            process.start()
            theirs.close()  # so that the pipe ends when the process does
            self._pipes.append(ours)


def _received(pipe: Any) -> tuple[Tensor, ...]:
    try:
        said = pipe.recv()
    except (EOFError, ConnectionResetError):
        raise RunFolderError(
            "a process that threw toys was ended, perhaps for want of memory; what was done is kept: go on with "
            "--resume, with fewer --workers or more memory"
        ) from None
    if isinstance(said, BaseException):
        raise said
    return tuple(torch.from_numpy(part) for part in said)


def _work(pipe: Any, build: Callable[[], Program]) -> None:
    """What a process does. It ends when nobody listens any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all: the first process ends the others
    torch.set_num_threads(1)
    program = build()
    function: Any = None
    with suppress(BrokenPipeError, EOFError, ConnectionResetError):
        while True:
            what, sent = pipe.recv()
            if what == "function":
                function = _loaded(sent, program)
                continue
            try:
                # As arrays: a tensor would travel as a handle on memory that this process owns.
                pipe.send(tuple(part.numpy() for part in function(*_loaded(sent, program))))
            except NupplError as error:
                pipe.send(error)


class _Pickler(pickle.Pickler):
    def persistent_id(self, found: Any) -> str | None:
        return "program" if isinstance(found, Program) else None


class _Unpickler(pickle.Unpickler):
    def __init__(self, stream: io.BytesIO, program: Program) -> None:
        super().__init__(stream)
        self._program = program

    def persistent_load(self, name: Any) -> Program:
        return self._program


def _dumped(found: Any) -> bytes:
    stream = io.BytesIO()
    _Pickler(stream).dump(found)
    return stream.getvalue()


def _loaded(sent: bytes, program: Program) -> Any:
    return _Unpickler(io.BytesIO(sent), program).load()
