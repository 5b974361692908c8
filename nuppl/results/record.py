"""run.json: what was asked of a run, with which versions, and when; enough to repeat it, and to tell two runs apart."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nuppl.errors import InputError, RunFolderError
from nuppl.results.files import whole
from nuppl.results.metadata import sha256

__all__ = ["SETTINGS", "changed_since", "check_same", "identity", "model_of", "now", "read_settings", "write_settings"]

SETTINGS = "run.json"


def write_settings(folder: Path, record: Mapping[str, Any]) -> None:
    """Write a run.json, whole or not at all.

    Raises:
        OSError: there is no room, or the folder cannot be written.
    """
    with whole(folder / SETTINGS) as partial:
        partial.write_text(json.dumps(record, indent=2, default=str) + "\n", encoding="utf-8")


def read_settings(file: Path) -> dict[str, Any]:
    """What a run.json says.

    Raises:
        InputError: no such file, or not one that nuppl wrote.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"settings {str(file)!r}: expected a run.json that nuppl wrote, but {error}") from error
    if not isinstance(found, dict) or not {"model_copy", "model_sha256", "status"} <= found.keys():
        raise InputError(f"settings {str(file)!r}: expected a run.json that nuppl wrote, found another file")
    return found


def check_same(folder: Path, determines: Mapping[str, Any]) -> dict[str, Any]:
    """That the run in a folder has the same model and settings; what its run.json says.

    Raises:
        RunFolderError: it has not; says what differs.
    """
    there = read_settings(folder / SETTINGS)
    here = json.loads(json.dumps(dict(determines), default=str))
    differences = [
        f"{name.replace('_', ' ')} was {there.get(name)!r} and is now {value!r}"
        for name, value in here.items()
        if there.get(name) != value
    ]
    if differences:
        raise RunFolderError(
            f"output folder {str(folder)!r} belongs to another run: {'; '.join(differences)}. To go on with it repeat "
            "its command, `command` in its run.json; to discard it use --overwrite without --resume; or choose "
            "another --out"
        )
    return there


def changed_since(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Versions and numbers of threads that differ between two records: the numbers of a run may depend on them."""
    was, now = ({**_mapping(said.get("versions")), "threads": said.get("threads")} for said in (there, here))
    return [f"{name} was {was.get(name)} and is now {value}" for name, value in now.items() if was.get(name) != value]


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def identity(model: Path) -> dict[str, str]:
    """By which the model file of a run is known again."""
    return {"model_copy": model.name, "model_sha256": sha256(model)}


def model_of(file: Path, said: Mapping[str, Any]) -> tuple[Path, str]:
    """The model file of the run with this run.json, and a note where it is the run's own copy.

    Raises:
        InputError: neither the file nor its copy is what it was.
    """
    original, copy = Path(str(said.get("model_path", ""))), file.parent / Path(str(said["model_copy"])).name
    for place, note in ((original, ""), (copy, f"{original} is not what it was; using the copy in {file.parent}")):
        if place.is_file() and sha256(place) == said["model_sha256"]:
            return place, note
    raise InputError(
        f"settings {str(file)!r}: expected the model file of that run, but neither {original} nor its copy"
    )


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
