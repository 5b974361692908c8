"""`nuppl simulate --out FOLDER/`: a store of simulations that grows tile by tile, in one process or in several."""

from __future__ import annotations

import json
import shutil
import signal
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from nuppl.cli.options import program_from
from nuppl.cli.progress import reporting
from nuppl.errors import InputError, NupplError, RunFolderError
from nuppl.typing import Progress

if TYPE_CHECKING:
    from nuppl.language.program import Program
    from nuppl.results.simulations import SimulationStore

__all__ = ["Asked", "added", "merged", "told"]


class Asked(NamedTuple):
    """What a process needs to build the program."""

    model: str
    fixed: tuple[str, ...]
    options: tuple[str, ...]

    def program(self) -> tuple[Program, Path]:
        """The program and its file."""
        return program_from(self.model, self.fixed, self.options, outside=True)


def added(asked: Asked, target: Path, count: int, seed: int | None, processes: int, overwrite: bool) -> dict[str, Any]:
    """Bring a store to so many simulations, and say what it holds.

    Arguments:
        seed: None for that of the store, or 0.

    Raises:
        InputError: all simulations failed, or the store is of another model.
        RunFolderError: the place cannot be used.
    """
    import torch

    from nuppl.results.simulations import SimulationStore
    from nuppl.results.storing import begun

    program, file = asked.program()
    threads = torch.get_num_threads()
    # One thread: sums over several may differ in the last digit, and a store shall not depend on the machine.
    torch.set_num_threads(1)
    try:
        with begun(target, SimulationStore.of_program(program), file, overwrite) as store:
            _complain_of_damage(store)
            held = store.held()
            chosen = seed if seed is not None else held[0].seed if held else 0
            _check_room(store, count - sum(tile.rows for tile in held))
            missing = store.missing(count, chosen)
            with reporting("simulate") as progress:
                _draw(store, program, asked, chosen, missing, processes, progress)
            return _said(store, target)
    except KeyboardInterrupt:
        click.echo(f"what was drawn is kept in {target}; the same command goes on", err=True)
        raise
    finally:
        torch.set_num_threads(threads)


def merged(sources: Sequence[str], target: Path, overwrite: bool) -> dict[str, Any]:
    """Put stores together into one, which may be there already, and say what it holds.

    Raises:
        InputError: no store, stores of different models, or a damaged one.
        RunFolderError: the place cannot be used.
    """
    from nuppl.results.simulations import SimulationStore
    from nuppl.results.storing import begun, merge

    stores = [SimulationStore.open(source) for source in sources]
    if overwrite and any(store.path.resolve() == target.resolve() for store in stores):
        raise InputError(f"--overwrite would remove {str(target)!r}, which is to be merged; leave it away")
    for store in stores:
        stores[0].check(store.said)
    first = stores[0]
    copy = first.path / Path(str(first.said.get("model_copy", ""))).name
    with begun(target, first.said, copy if copy.is_file() else None, overwrite) as store:
        twice = merge(store, [other for other in stores if other.path.resolve() != store.path.resolve()])
        if twice:
            click.echo(f"note: {twice} tiles were in more than one folder, and are taken once", err=True)
        return _said(store, target)


def told(said: dict[str, Any], as_json: bool) -> int:
    """Print what a store holds; the exit code."""
    if as_json:
        click.echo(json.dumps(said))
        return 0
    total, failed = said["simulations"], said["failed"]
    click.echo(f"{said['out']}: {total} simulations, {failed} failed ({100 * failed / total:.2g} %)")
    for reason, number in said["reasons"].items():
        click.echo(f"  {number} times {reason}")
    return 0


def _complain_of_damage(store: SimulationStore) -> None:
    for file in store.damaged():
        click.echo(f"note: {file} is damaged; it is drawn anew", err=True)
        file.unlink()


def _check_room(store: SimulationStore, more: int) -> None:
    """Whitened latents do not shrink: at least they must fit."""
    least = more * max(4 * store.latents, 1)
    free = shutil.disk_usage(store.path).free
    if least > free:
        raise RunFolderError(
            f"output folder {str(store.path)!r}: {more} more simulations take at least {least} bytes, expected as many "
            f"free, found {free}; make room, or choose another --out or a smaller -n"
        )


def _said(store: SimulationStore, target: Path) -> dict[str, Any]:
    held = store.held()
    reasons: Counter[str] = Counter()
    for tile in held:
        reasons.update(tile.reasons)
    total, failed = sum(tile.rows for tile in held), reasons.total()
    if failed == total:
        why = "; ".join(f"{number} times {reason}" for reason, number in reasons.most_common(3))
        raise InputError(
            f"all {total} simulations failed: {why}. Their parameters are kept in {str(target)!r}; expected a program "
            "that can be drawn from its prior; look for the place with nuppl check"
        )
    return {
        "out": str(target),
        "simulations": total,
        "failed": failed,
        "reasons": dict(reasons.most_common()),
        "seeds": sorted({tile.seed for tile in held}),
    }


def _draw(
    store: SimulationStore,
    program: Program,
    asked: Asked,
    seed: int,
    missing: Sequence[tuple[int, int]],
    processes: int,
    progress: Progress,
) -> None:
    from nuppl.learning.simulating import fill

    if min(processes, len(missing)) <= 1:
        fill(store, program, seed, missing, progress)
        return
    shares = [list(missing[first::processes]) for first in range(min(processes, len(missing)))]
    context = get_context("spawn")
    pipes = [context.Pipe(duplex=False) for _ in shares]
    workers = [
        context.Process(target=_work, args=(pipe[1], asked, store.path, seed, share), daemon=True)
        for pipe, share in zip(pipes, shares, strict=True)
    ]
    try:
        for worker, (_, sending) in zip(workers, pipes, strict=True):
            worker.start()
            sending.close()  # so that the pipe ends when the worker does
        _listen([receiving for receiving, _ in pipes], sum(rows for _, rows in missing), progress)
    finally:
        for worker in workers:
            if worker.pid is not None:
                worker.terminate()
                worker.join()


def _listen(pipes: list[Any], total: int, progress: Progress) -> None:
    """Until all workers have finished.

    Raises:
        NupplError: of the first that has not.
    """
    done = dict.fromkeys(pipes, 0)
    running = set(pipes)
    while running:
        ready: list[Any] = list(wait(list(running)))
        for pipe in ready:
            try:
                said = pipe.recv()
            except EOFError:
                raise RunFolderError(
                    "a process that drew simulations was ended, perhaps for want of memory; what was drawn is kept, "
                    "and the same command goes on: with fewer --processes, or more memory"
                ) from None
            if isinstance(said, NupplError):
                raise said
            if said is None:
                running.discard(pipe)
            else:
                done[pipe] = said
                progress(sum(done.values()), total, "simulations")


def _work(pipe: Connection, asked: Asked, path: Path, seed: int, share: Sequence[tuple[int, int]]) -> None:
    """One of several processes, each with tiles of its own. It ends when nobody listens any more."""
    import torch

    from nuppl.learning.simulating import fill
    from nuppl.results.simulations import SimulationStore

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all: the first process ends the others
    torch.set_num_threads(1)
    with suppress(BrokenPipeError):
        try:
            program, _ = asked.program()
            fill(SimulationStore.open(path), program, seed, share, lambda done, *_: pipe.send(done))
            pipe.send(None)
        except NupplError as error:
            pipe.send(error)
