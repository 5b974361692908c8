"""Progress of long work on stderr: a bar with an estimate on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from nuppl.typing import Progress

__all__ = ["reporting"]

_PLAIN_EVERY = 10.0
"""Seconds between plain lines."""


@contextmanager
def reporting(title: str) -> Iterator[Progress]:
    """A callback (done, total, what) that shows progress while the block runs."""
    if not sys.stderr.isatty():
        yield _plain(title)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Bar(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        tasks = {}

        def show(done: int, total: int, what: str) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(f"{title}: {what}", total=total)
            bar.update(tasks[what], completed=done, total=total)

        yield show


def _plain(title: str) -> Progress:
    started = time.monotonic()
    last: dict[str, float] = {}
    begun: dict[str, tuple[float, int]] = {}

    def show(done: int, total: int, what: str) -> None:
        now = time.monotonic()
        if what in last and done < total and now - last[what] < _PLAIN_EVERY:
            return
        if what in last and done >= total and now - last[what] < 1.0:
            return
        last[what] = now
        begun.setdefault(what, (now, done))
        left = _estimate(now, done, total, *begun[what])
        with suppress(OSError):  # that nobody reads is no reason to stop
            print(f"{title}: {what} {done}/{total}, {now - started:.0f} s{left}", file=sys.stderr, flush=True)

    return show


def _estimate(now: float, done: int, total: int, since: float, before: int) -> str:
    """What is left of a task, from its pace since it was first heard of."""
    if done <= before or done >= total or now - since < 1.0:
        return ""
    return f", about {(now - since) * (total - done) / (done - before):.0f} s to go"
