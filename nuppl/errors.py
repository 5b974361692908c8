"""What can go wrong, and the exit code each kind leaves with.

Every message says what was expected, what came and what to do. Exit codes: 1 a bug of ours, 2 the user's input,
3 the run folder cannot be used, 4 finished but not to be trusted, 130 interrupted.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["InputError", "ModelError", "NupplError", "RunFolderError", "unknown"]


class NupplError(Exception):
    """Base of all errors that nuppl raises on purpose."""

    exit_code = 1


class InputError(NupplError, ValueError):
    """The user's model, data or command cannot be used as given."""

    exit_code = 2


class ModelError(InputError):
    """The user's program raised an error of its own; the message names the line."""


class RunFolderError(NupplError):
    """The output folder exists, is locked, or belongs to another run."""

    exit_code = 3


def unknown(kind: str, given: str, known: Iterable[str]) -> InputError:
    """The error for a name that is not there, with the nearest known one.

    >>> str(unknown("engine", "laplac", ["laplace", "nuts"]))
    "unknown engine 'laplac' (did you mean 'laplace'?): expected one of laplace, nuts"
    """
    names = list(known)
    near = difflib.get_close_matches(given, names, n=1, cutoff=0.5)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return InputError(f"unknown {kind} {given!r}{hint}: expected one of {', '.join(names) or '(none)'}")
