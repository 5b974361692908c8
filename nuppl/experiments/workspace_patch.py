"""JSON patches (RFC 6902): how one published background becomes a workspace for each of many signals.

A patch is a list of operations, or one of a patch set as HEPData publishes them, {"patches": [{"metadata": {"name":
...}, "patch": [...]}, ...]}.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nuppl.errors import InputError, unknown
from nuppl.experiments.workspace_files import field, read_json

__all__ = ["patched", "read_patch"]

OPERATIONS = ("add", "remove", "replace", "move", "copy", "test")


def read_patch(spec: str | Path) -> Any:
    """The operations in FILE, or in FILE:NAME where it is a patch set.

    Raises:
        InputError: no such file, not JSON, a patch set without a name, or a name that is not in it.
    """
    file, _, name = (str(spec), "", "") if Path(spec).exists() else str(spec).rpartition(":")
    content = read_json(file or name)
    if isinstance(content, list):
        return content
    where = f"patch set {file!r}"
    entries = field(content, "patches", where)
    known = {field(field(entry, "metadata", where), "name", where): entry for entry in entries}
    if not name:
        raise InputError(f"{where}: say which patch, {file}:NAME with one of {', '.join(known)}")
    if name not in known:
        raise unknown(f"patch in {file}", name, known)
    return field(known[name], "patch", where)


def patched(content: Any, operations: Any, where: str = "patch") -> Any:
    """A copy of some JSON with the operations of a patch carried out in order.

    Raises:
        InputError: an operation that RFC 6902 does not know, or a place that is not there; says which.

    >>> patched({"a": [1, 3]}, [{"op": "add", "path": "/a/1", "value": 2}, {"op": "remove", "path": "/a/0"}])
    {'a': [2, 3]}
    """
    if not isinstance(operations, Sequence) or isinstance(operations, str):
        raise InputError(f"{where}: expected a list of operations, got {type(operations).__name__}")
    # One level above the content, so that the whole of it can be replaced too.
    root = {"": copy.deepcopy(content)}
    for number, operation in enumerate(operations):
        _carry_out(root, operation, f"{where}, operation {number + 1}")
    return root[""]


def _carry_out(root: Any, operation: Any, where: str) -> None:
    kind, path = field(operation, "op", where), field(operation, "path", where)
    where = f"{where} ({kind} {path!r})"
    if kind not in OPERATIONS:
        raise InputError(f"{where}: {unknown('operation', kind, OPERATIONS)}")
    if kind in ("move", "copy"):
        source = field(operation, "from", where)
        value = copy.deepcopy(_look_up(root, source, where))
        if kind == "move":
            _take_out(root, source, where)
        _put_in(root, path, value, where)
    elif kind == "add":
        _put_in(root, path, copy.deepcopy(field(operation, "value", where)), where)
    elif kind == "replace":
        parent, key = _parent(root, path, where)
        parent[key] = copy.deepcopy(field(operation, "value", where))
    elif kind == "remove":
        _take_out(root, path, where)
    elif _look_up(root, path, where) != field(operation, "value", where):
        raise InputError(f"{where}: expected another value there; is this patch made for this workspace?")


def _put_in(root: Any, path: str, value: Any, where: str) -> None:
    parent, key = _parent(root, path, where, new=True)
    if isinstance(parent, list):
        parent.insert(key, value)
    else:
        parent[key] = value


def _take_out(root: Any, path: str, where: str) -> None:
    parent, key = _parent(root, path, where)
    del parent[key]


def _look_up(root: Any, path: str, where: str) -> Any:
    parent, key = _parent(root, path, where)
    return parent[key]


def _parent(root: Any, path: str, where: str, new: bool = False) -> tuple[Any, Any]:
    """The container that holds the place, and its key there; `new` where the place need not exist yet."""
    *above, last = [part.replace("~1", "/").replace("~0", "~") for part in str(path).split("/")]
    inside = root
    for part in above:
        inside = inside[_key(inside, part, where)]
    return inside, _key(inside, last, where, new)


def _key(inside: Any, part: str, where: str, new: bool = False) -> Any:
    if isinstance(inside, list):
        number = len(inside) if part == "-" else int(part) if part.isdecimal() else -1
        if 0 <= number < len(inside) + int(new):
            return number
        raise InputError(f"{where}: expected an entry from 0 to {len(inside) - 1} of a list, got {part!r}")
    if isinstance(inside, dict) and (new or part in inside):
        return part
    raise InputError(f"{where}: found no {part!r} there; is this patch made for this workspace?")
