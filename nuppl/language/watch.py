"""Watching a user's program: which site is at work, and which of the user's lines an error came from."""

from __future__ import annotations

import copy
import functools
import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyro
import torch
from pyro.poutine.messenger import Messenger

import nuppl
from nuppl.errors import NupplError
from nuppl.language.findings import Row, row_of_message
from nuppl.language.model import Model

__all__ = ["Watch", "describe_error", "watched"]

# The standard library's folder holds site-packages as well.
_PACKAGES = (nuppl, torch, pyro, os)
_NOT_THE_USERS = tuple(str(Path(str(package.__file__)).resolve().parent) for package in _PACKAGES)


class Watch(Messenger):  # type: ignore[misc]
    """Remembers the site at work, and the sites met in the latest run.

    Attributes:
        site: the site at work, None between sites.
        last: the site before, None at the start.
        rows: the sites met, as printed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.restart()

    def restart(self) -> None:
        """Forget the run before."""
        self.site: str | None = None
        self.last: str | None = None
        self.rows: dict[str, Row] = {}

    def _pyro_sample(self, msg: Any) -> None:
        if not msg["infer"].get("_deterministic"):
            self.site = msg["name"]
            self.rows.setdefault(msg["name"], row_of_message(msg))

    def _pyro_post_sample(self, msg: Any) -> None:
        self.site, self.last = None, self.site or self.last


def watched(model: Model) -> tuple[Model, Watch]:
    """The same model, with a watch on every run."""
    watch = Watch()
    twin = copy.copy(model)
    twin.function = _under(watch, model.function)
    return twin, watch


def _under(watch: Watch, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        watch.restart()
        with watch:
            return function(*args, **kwargs)

    return run


def describe_error(error: BaseException) -> str:
    """`file.py, line 12: ValueError: ...`, the last line outside nuppl, torch, Pyro and installed packages."""
    cause = error.__cause__
    origin = cause if isinstance(error, NupplError) and cause and not isinstance(cause, NupplError) else error
    frames = [f for f in traceback.extract_tb(origin.__traceback__) if not _is_foreign(f.filename)]
    line = f"{frames[-1].filename}, line {frames[-1].lineno}: " if frames else ""
    if isinstance(origin, NupplError):
        # The program names the line itself where it stopped at its nominal point.
        return str(origin) if line and str(origin).startswith(line) else f"{line}{origin}"
    # Pyro appends a table of shapes to the messages of its own errors; ours is clearer.
    text = str(origin).split("Trace Shapes:")[0].strip()
    return f"{line}{type(origin).__name__}: {text}"


def _is_foreign(filename: str) -> bool:
    return filename.startswith("<") or str(Path(filename).resolve()).startswith(_NOT_THE_USERS)
