"""pyhf workspaces as they are written: JSON, checked where it is read, so that every error names the line at fault.

A workspace has channels (regions of bins), each a sum of samples (processes), each with modifiers (what may change it),
and measurements, which say what is of interest. Format: https://scikit-hep.org/pyhf/likelihood.html.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nuppl.errors import InputError, unknown

__all__ = [
    "Channel",
    "Measurement",
    "Modifier",
    "Sample",
    "Workspace",
    "field",
    "number",
    "numbers",
    "read_json",
    "read_workspace",
]

SETTINGS = ("inits", "bounds", "auxdata", "sigmas", "factors", "fixed")
"""What a measurement may set of a parameter."""


@dataclass(frozen=True)
class Modifier:
    """One way in which a sample may change; `where` names it in errors."""

    type: str
    name: str
    data: Any
    where: str


@dataclass(frozen=True)
class Sample:
    """One process in one channel: its expected counts, one per bin."""

    name: str
    nominal: tuple[float, ...]
    modifiers: tuple[Modifier, ...]


@dataclass(frozen=True)
class Channel:
    """A region: what is expected in its bins, and what was observed."""

    name: str
    samples: tuple[Sample, ...]
    observed: tuple[float, ...]


@dataclass(frozen=True)
class Measurement:
    """What is of interest ("" for nothing), and settings of parameters as written, {parameter: {setting: value}}."""

    name: str
    interest: str
    settings: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Workspace:
    """Channels and measurements, in the order written; `where` names the file in errors."""

    channels: tuple[Channel, ...]
    measurements: tuple[Measurement, ...]
    where: str


def read_json(path: str | Path) -> Any:
    """What a JSON file holds.

    Raises:
        InputError: no such file, or not JSON (with the line).
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"file {str(path)!r}: expected a JSON file, but {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"file {str(path)!r}: expected JSON, but {error}") from error


def read_workspace(content: Any, where: str) -> Workspace:
    """A workspace from its JSON.

    Arguments:
        content: dictionaries and lists.
        where: names the file in errors.

    Raises:
        InputError: not a workspace; says which channel, sample and modifier, what was expected and what came.
    """
    observed = dict(_named(content, "observations", where, lambda found, at: numbers(field(found, "data", at), at)))
    channels = dict(_named(content, "channels", where, lambda found, at: _channel(found, at, observed)))
    measurements = dict(_named(content, "measurements", where, _measurement))
    return Workspace(tuple(channels.values()), tuple(measurements.values()), where)


def field(content: Any, name: str, where: str) -> Any:
    """An entry of a dictionary; refuses what is none, or has none by that name."""
    if not isinstance(content, dict):
        raise InputError(f"{where}: expected an object with {name!r}, got {_shown(content)}")
    if name not in content:
        raise InputError(
            f"{where}: expected an entry {name!r}, found {'only ' + ', '.join(content) if content else 'none'}"
        )
    return content[name]


def numbers(content: Any, where: str, count: int | None = None, per: str = "bin") -> tuple[float, ...]:
    """A list of finite numbers, as many as there are bins where that is known."""
    wanted = "numbers" if count is None else f"{count} numbers, one per {per},"
    if not isinstance(content, list) or not content:
        raise InputError(f"{where}: expected a list of {wanted.rstrip(',')}, got {_shown(content)}")
    for entry in content:
        number(entry, where)
    if count is not None and len(content) != count:
        raise InputError(f"{where}: expected {wanted} got {len(content)}: {_shown(content)}")
    return tuple(float(entry) for entry in content)


def number(content: Any, where: str) -> float:
    """A finite number."""
    if not isinstance(content, int | float) or isinstance(content, bool) or not math.isfinite(content):
        raise InputError(f"{where}: expected a finite number, got {_shown(content)}")
    return float(content)


def _shown(content: Any) -> str:
    text = json.dumps(content, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _named(content: Any, kind: str, where: str, read: Any) -> Iterable[tuple[str, Any]]:
    """(name, what `read` makes of it) for each entry of a list in which no name comes twice."""
    entries = field(content, kind, where)
    if not isinstance(entries, list) or (not entries and kind != "parameters"):
        raise InputError(f"{where}: expected a list of {kind}, got {_shown(entries)}")
    seen: set[str] = set()
    for entry in entries:
        name = field(entry, "name", f"{where}: an entry of {kind!r}")
        if not isinstance(name, str) or not name:
            raise InputError(f"{where}: {kind}: expected a name, got {_shown(name)}")
        at = f"{where}, {kind.removesuffix('s')} {name!r}"
        if name in seen:
            raise InputError(f"{at}: appears twice; expected each name once")
        seen.add(name)
        yield name, read(entry, at)


def _channel(content: Any, where: str, observed: Mapping[str, tuple[float, ...]]) -> Channel:
    name = content["name"]
    samples = field(content, "samples", where)
    first = field(samples[0], "data", where) if isinstance(samples, list) and samples else None
    bins = len(numbers(first, f"{where}, its first sample")) if first is not None else 0
    found = tuple(sample for _, sample in _named(content, "samples", where, lambda s, at: _sample(s, at, bins)))
    if name not in observed:
        raise InputError(f"{where}: expected an observation of that name, found {', '.join(observed) or 'none'}")
    counts = numbers(list(observed[name]), f"{where}, its observation", bins)
    if min(counts) < 0.0:
        raise InputError(f"{where}, its observation: expected counts of at least 0, got {min(counts):g}")
    return Channel(name, found, counts)


def _sample(content: Any, where: str, bins: int) -> Sample:
    nominal = numbers(field(content, "data", where), where, bins)
    entries = field(content, "modifiers", where)
    if not isinstance(entries, list):
        raise InputError(f"{where}: expected a list of modifiers, got {_shown(entries)}")
    modifiers = tuple(_modifier(entry, where) for entry in entries)
    written = [(modifier.type, modifier.name) for modifier in modifiers]
    for modifier in modifiers:
        if written.count((modifier.type, modifier.name)) > 1:
            raise InputError(f"{modifier.where}: appears twice; expected each modifier of a sample once")
    return Sample(content["name"], nominal, modifiers)


def _modifier(content: Any, where: str) -> Modifier:
    name = field(content, "name", f"{where}, a modifier")
    kind = field(content, "type", f"{where}, modifier {name!r}")
    if not isinstance(name, str) or not name or not isinstance(kind, str):
        raise InputError(f"{where}: expected a modifier with name and type, got {_shown(content)}")
    return Modifier(kind, name, content.get("data"), f"{where}, modifier {name!r} ({kind})")


def _measurement(content: Any, where: str) -> Measurement:
    config = field(content, "config", where)
    interest = field(config, "poi", where) or ""
    if not isinstance(interest, str):
        raise InputError(f"{where}: expected the name of a parameter as poi, got {_shown(interest)}")
    settings = dict(_named({"parameters": [], **config}, "parameters", where, _settings))
    return Measurement(content["name"], interest, settings)


def _settings(content: Mapping[str, Any], where: str) -> dict[str, Any]:
    for name in content:
        if name not in ("name", *SETTINGS):
            raise InputError(f"{where}: {unknown('setting', name, SETTINGS)}")
    return {name: value for name, value in content.items() if name != "name"}
