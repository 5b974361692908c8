"""What several commands share: the model argument, `--set`, `--option`, and how they become a program."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from nuppl.errors import InputError, RunFolderError

if TYPE_CHECKING:
    from nuppl.language.program import Program

__all__ = [
    "Count",
    "CountOrFolder",
    "assignments",
    "json_option",
    "model_options",
    "out_option",
    "output_file",
    "program_from",
    "program_options",
    "seed_option",
]

LARGEST = 2**63 - 1
"""Seeds are stored as whole numbers of 64 bits."""

F = TypeVar("F", bound=Callable[..., Any])


class Count(click.IntRange):
    """A whole number, which may be written as 1e6."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number."""
        try:
            whole = int(value)
        except ValueError:
            whole = self._whole(value, param, ctx)
        return super().convert(whole, param, ctx)

    def _whole(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> int:
        with suppress(ValueError, OverflowError):
            if float(value).is_integer():
                return int(float(value))
        self.fail(f"expected a whole number such as 1000 or 1e3, got {value!r}", param, ctx)


class CountOrFolder(Count):
    """A whole number, or the name of a folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number, or the name."""
        return value if isinstance(value, str) and Path(value).is_dir() else super().convert(value, param, ctx)

    def _whole(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> int:
        with suppress(ValueError):
            return super()._whole(value, param, ctx) if math.isfinite(float(value)) else int(value)
        self.fail(f"expected a whole number, or a folder that nuppl simulate wrote, got {value!r}", param, ctx)


def model_options(command: F) -> F:
    """FILE[:MODEL], --set and --option."""
    return click.argument("model", metavar="FILE[:MODEL]")(program_options(command))


def program_options(command: F) -> F:
    """--set and --option."""
    command = click.option("--option", "options", multiple=True, metavar="NAME=VALUE", help="An option of the model.")(
        command
    )
    return click.option("--set", "fixed", multiple=True, metavar="SITE=VALUE", help="Hold a site at a value.")(command)


def seed_option(command: F) -> F:
    """--seed."""
    return click.option("--seed", default=0, show_default=True, type=click.IntRange(0, LARGEST), help="The root seed.")(
        command
    )


def json_option(command: F) -> F:
    """--json."""
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(command)


def out_option(command: F) -> F:
    """--out and --overwrite."""
    command = click.option("--overwrite", is_flag=True, help="Replace a finished result.")(command)
    return click.option("--out", type=click.Path(path_type=Path), help="Where to write.")(command)


def output_file(target: Path, overwrite: bool) -> Path:
    """A path where a file may be written.

    Raises:
        RunFolderError: something is there that may not be replaced, or there is no such folder.
    """
    if target.is_dir():
        raise RunFolderError(f"output {str(target)!r}: expected a file, found a folder; name a file in it")
    if target.exists() and not overwrite:
        raise RunFolderError(f"output {str(target)!r} exists; choose another --out, or replace it with --overwrite")
    if not target.parent.is_dir():
        raise RunFolderError(f"output {str(target)!r}: expected a folder {str(target.parent)!r}, found none; make it")
    return target


def assignments(pairs: Iterable[str], flag: str) -> dict[str, str]:
    """{name: text} of NAME=VALUE arguments.

    >>> assignments(["flux=EF"], "--option")
    {'flux': 'EF'}
    """
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name.strip():
            raise InputError(f"{flag}: expected NAME=VALUE, got {pair!r}")
        if name.strip() in found:
            raise InputError(f"{flag}: {name.strip()!r} is given twice; give it once")
        found[name.strip()] = text.strip()
    return found


def numbers(pairs: Iterable[str]) -> dict[str, Any]:
    """{site: value} of SITE=VALUE arguments; a vector is written 1,2,3."""
    found: dict[str, Any] = {}
    for name, text in assignments(pairs, "--set").items():
        try:
            values = [float(part) for part in text.split(",")]
        except ValueError:
            raise InputError(f"--set {name}: expected a number, or numbers with commas between, got {text!r}") from None
        if not all(map(math.isfinite, values)):
            raise InputError(f"--set {name}: expected finite numbers, got {text!r}")
        found[name] = values[0] if len(values) == 1 else values
    return found


def program_from(
    model: str, fixed: Iterable[str], options: Iterable[str], outside: bool = False
) -> tuple[Program, Path]:
    """The program that the arguments describe, and the model file."""
    from nuppl.cli.loading import models_of
    from nuppl.language.loading import load_model

    loaded, file = load_model(model, models_of)
    return loaded.bind(assignments(options, "--option"), numbers(fixed), outside=outside), file
