"""Model files: a Python file becomes the models that it declares."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from nuppl.errors import InputError, NupplError, unknown
from nuppl.language.model import Model
from nuppl.language.precision import double_precision

__all__ = ["load_function", "load_model", "load_models", "where"]


def load_models(path: str | Path) -> dict[str, Model]:
    """The models of a file, in the order written.

    Raises:
        InputError: no such file, one that cannot be run (with the user's line), or one without a model.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(
            f"model file {str(path)!r}: expected a Python file, found " + ("a folder" if path.is_dir() else "none")
        )
    module = _execute(path)
    models = {value.name: value for value in vars(module).values() if isinstance(value, Model)}
    if not models:
        raise InputError(
            f"model file {str(path)!r}: expected a function decorated with @nuppl.model, found none; "
            "put `@nuppl.model(interest=...)` above the function"
        )
    return models


def load_model(spec: str, load: Callable[[str], dict[str, Model]] = load_models) -> tuple[Model, Path]:
    """The model named by FILE or FILE:MODEL, and its file; without a name the file must declare just one.

    Arguments:
        spec: FILE or FILE:MODEL.
        load: a file's models by name.

    Raises:
        InputError: see `load`; several models and no name, or a name that is not there.
    """
    file, colon, name = spec.partition(":") if not Path(spec).exists() else (spec, "", "")
    models = load(file)
    if colon:
        if not name:
            raise InputError(
                f"model {spec!r}: expected a name after the colon, one of {', '.join(models)}, got none; "
                "leave the colon away where the file has just one model"
            )
        if name not in models:
            raise unknown(f"model in {file}", name, models)
        return models[name], Path(file)
    if len(models) > 1:
        raise InputError(
            f"model file {file!r} has several models: say which, {file}:NAME with one of {', '.join(models)}"
        )
    return next(iter(models.values())), Path(file)


def load_function(spec: str) -> Callable[..., Any]:
    """The function that FILE.py:NAME names.

    Raises:
        InputError: no such file, one that cannot be run (with the user's line), or no such function.
    """
    path, _, name = spec.rpartition(":") if not spec.endswith(".py") else (spec, "", "")
    if not Path(path).is_file():
        raise InputError(f"{spec!r}: expected a Python file {path!r}, found none")
    found = vars(_execute(Path(path), "file"))
    functions = [key for key, value in found.items() if callable(value) and not key.startswith("_")]
    if name not in functions:
        raise unknown(f"function in {path}", name, functions)
    function: Callable[..., Any] = found[name]
    return function


def where(error: BaseException, path: str | Path) -> str:
    """`file.py, line 12: ValueError: ...`, the last line of the user's file that the error passed through."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}: {type(error).__name__}: {error.msg}"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename) == Path(path).resolve()]
    line = f", line {frames[-1].lineno}" if frames else ""
    return f"{path}{line}: {type(error).__name__}: {error}"


def _execute(path: Path, what: str = "model file") -> ModuleType:
    name = f"nuppl_model_{path.stem}"
    spec = spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise InputError(f"model file {str(path)!r}: expected a Python file, with a name ending in .py")
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        with double_precision():
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        if isinstance(error, NupplError) and not isinstance(error, InputError):
            raise
        raise InputError(f"{what} could not be run: {where(error, path)}") from error
    return module
