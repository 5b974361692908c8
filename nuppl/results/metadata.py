"""What a result file says about itself: attributes of the file, and of each variable.

NetCDF has no booleans, None or dictionaries among its attributes, and a list with one string comes back as a string:
everything but numbers and strings is stored as JSON.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import inspect
import json
import platform
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

import nuppl
from nuppl.errors import InputError
from nuppl.language.program import Program
from nuppl.language.table import Site

__all__ = ["data_sha256", "describe_file", "describe_site", "metadata", "sha256", "source_file", "versions"]

TEXTS = (
    "created_at",
    "engine",
    "model",
    "model_file",
    "model_sha256",
    "docstring",
    "file_docstring",
    "data_sha256",
    "blind",
)


def describe_file(
    program: Program,
    engine: str,
    seed: int,
    attrs: Mapping[str, Any] | None = None,
    notes: tuple[str, ...] = (),
    blind: str = "",
) -> dict[str, str | int]:
    """The attributes of a result file, ready to be written; `blind` names the data in place of the real ones."""
    model, file = program.model, source_file(program)
    of_file = inspect.getdoc(inspect.getmodule(model.function)) or ""
    stored: dict[str, Any] = {
        "versions": versions(),
        "interest": list(program.interest),
        "options": program.options,
        "fixed": {name: value.reshape(program.sites[name].shape).tolist() for name, value in program.fixed.items()},
        "reference": model.reference,
        "panels": model.panels,
        "sources": list(model.sources),
        "attrs": dict(attrs or {}),
        "notes": list(notes),
    }
    return {
        "inference_library": "nuppl",
        "inference_library_version": nuppl.__version__,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "engine": engine,
        "seed": int(seed),
        "model": model.name,
        "model_file": file.name if file else "",
        "model_sha256": sha256(file) if file else "",
        "docstring": model.doc or of_file,
        "file_docstring": of_file if file else "",
        "data_sha256": data_sha256(program),
        "blind": blind,
        **{name: json.dumps(value, default=str) for name, value in stored.items()},
    }


def describe_site(site: Site) -> dict[str, str | float | int]:
    """The attributes of one variable: unit, label, kind, distribution, and bounds where they are finite numbers.

    `prior` says what the distribution of a parameter was made from, {argument: number, or one for each entry}.
    """
    said: dict[str, str | float | int] = {
        "unit": site.unit,
        "label": site.label,
        "kind": site.kind,
        "distribution": site.distribution,
        "auxiliary": int(site.auxiliary),
    }
    bounds = {"lower": site.lower, "upper": site.upper}
    said.update({k: float(v) for k, v in bounds.items() if v.numel() == 1 and bool(v.isfinite())})
    if site.kind == "parameter":
        said["prior"] = json.dumps({name: _entries(value, site) for name, value in site.prior.items()})
    return said


def _entries(value: Tensor, site: Site) -> float | list[float]:
    entries = value.expand(site.full_shape).flatten().tolist()
    return entries[0] if len(set(entries)) == 1 else entries


def metadata(groups: Mapping[str, xr.Dataset]) -> dict[str, Any]:
    """The attributes of a result with JSON decoded.

    Raises:
        InputError: an attribute that is missing or is not what nuppl writes.
    """
    found: dict[str, Any] = {**LATER, **groups["/"].attrs}
    for name, fits in KINDS.items():
        value = found.get(name) if name in TEXTS or name == "seed" else _decoded(found.get(name))
        if not fits(value):
            shown = repr(found.get(name))
            raise InputError(
                f"result: expected the attribute {name!r} as nuppl writes it, got {shown[:100]}; repeat the run"
            )
        found[name] = value
    return found


def _decoded(value: Any) -> Any:
    try:
        return json.loads(value)
    except (TypeError, ValueError, RecursionError):
        return None


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    # JSON has whole numbers of any length; what does not fit a float64 is none of ours.
    return isinstance(value, float) or (isinstance(value, int) and abs(value) < 1 << 63)


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _mapping_of(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(map(fits, value.values()))


def _is_attr(name: str, value: Any) -> bool:
    if name == "islands":
        return isinstance(value, int) and _is_number(value)
    return _is_number(value) or (name not in NUMBERS and (value is None or _is_text(value)))


NUMBERS = ("effective_draws", "log_evidence", "log_evidence_error", "efficiency", "pareto_k", "seconds")
"""What an engine says of a run in numbers that are printed."""

LATER = {"sources": "[]", "file_docstring": "", "data_sha256": "", "blind": ""}
"""Attributes that older files lack, as they would say nothing."""

KINDS: dict[str, Callable[[Any], bool]] = {
    "interest": _is_list,
    "notes": _is_list,
    "sources": _is_list,
    "versions": _mapping_of(_is_text),
    "options": _mapping_of(lambda value: True),
    "fixed": _mapping_of(lambda value: True),
    "reference": _mapping_of(_is_number),
    "panels": _mapping_of(_is_list),
    "attrs": lambda value: isinstance(value, dict) and all(_is_attr(name, each) for name, each in value.items()),
    "seed": lambda value: isinstance(value, int | np.integer),
    **dict.fromkeys(TEXTS, _is_text),
}
"""What each attribute of a file must be, JSON decoded."""


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    packages = ("torch", "pyro-ppl", "numpy", "scipy", "arviz", "xarray")
    found = {name: importlib.metadata.version(name) for name in packages}
    return {"nuppl": nuppl.__version__, "python": platform.python_version(), **found}


def source_file(program: Program) -> Path | None:
    """The file in which the model is written, if it was not typed into a session."""
    if program.model.file is not None:
        return program.model.file
    try:
        name = inspect.getsourcefile(program.model.function)
    except TypeError:
        return None
    return Path(name) if name and Path(name).is_file() else None


def data_sha256(program: Program) -> str:
    """The SHA-256 of all data of a program."""
    found = hashlib.sha256()
    for name, value in program.data.items():
        found.update(name.encode() + value.detach().to(torch.float64).contiguous().numpy().tobytes())
    return found.hexdigest()


def sha256(path: Path) -> str:
    """The file's SHA-256, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
