"""Result files that nuppl did not write so: damaged at random, cut, or rebuilt by someone who means ill.

`mutants(result, folder, count)` writes them; the kinds take turns, and number n is the same file at every call. Half of
the damaged ones, and all rebuilt ones, carry no seal, so that they get as far as anyone can bring them.
"""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import netCDF4
import numpy as np

SEAL = 79
"""Bytes of the seal at the end of a result."""


def mutants(result: Path, folder: Path, count: int) -> Iterator[Path]:
    """Write `count` mutants of a result."""
    for number in range(count):
        chance = Random(number)
        kind = KINDS[number % len(KINDS)]
        path = folder / f"{number:03d}-{kind.__name__}.nc"
        shutil.copyfile(result, path)
        kind(path, chance)
        yield path


def flipped(path: Path, chance: Random) -> None:
    """Bits flipped, wherever they are."""
    _flip(path, chance, 1.0)


def flipped_unsealed(path: Path, chance: Random) -> None:
    """Bits flipped where the structure of the file is, which no seal protects."""
    _cut_seal(path)
    _flip(path, chance, 0.15)


def truncated(path: Path, chance: Random) -> None:
    """The end missing, from a byte to everything."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(chance.choice([0, 1, 7, 512, size // 2, size - SEAL - 1, size - 1, chance.randrange(size)]))


def overwritten(path: Path, chance: Random) -> None:
    """A stretch of other bytes, unsealed."""
    _cut_seal(path)
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(chance.randrange(size))
        file.write(chance.choice([b"\0" * 4096, b"\xff" * 300, chance.randbytes(1000), b"(lp0\n" * 50]))


def other_bytes(path: Path, chance: Random) -> None:
    """Another kind of file under the name of a result."""
    path.write_bytes(
        chance.choice(
            [pickle.dumps(Bomb(path)), b"", b"PK\3\4" + chance.randbytes(99), b"CDF\1" + bytes(64), b"#!/bin/sh"]
        )
    )


def hostile_file_attribute(path: Path, chance: Random) -> None:
    """An attribute of the file that is not what it should be."""
    with netCDF4.Dataset(path, "a") as file:
        file.setncattr(chance.choice(sorted(file.ncattrs())), _hostile(path, chance))


def hostile_site_attribute(path: Path, chance: Random) -> None:
    """The same of a variable."""
    with netCDF4.Dataset(path, "a") as file:
        group = file.groups[chance.choice(sorted(file.groups))]
        variable = group.variables[chance.choice(sorted(group.variables))]
        names = [name for name in variable.ncattrs() if name != "_FillValue"]
        added = [
            "units",
            "label",
            "unit",
            "kind",
            "prior",
            "lower",
            "upper",
            "scale_factor",
            "_Unsigned",
            "coordinates",
        ]
        variable.setncattr(chance.choice(sorted({*names, *added})), _hostile(path, chance))


def hostile_engine_attribute(path: Path, chance: Random) -> None:
    """What the engine says of the run, with a value no engine gives."""
    with netCDF4.Dataset(path, "a") as file:
        said = json.loads(file.getncattr("attrs"))
        said[chance.choice([*sorted(said), "islands", "effective_draws", "pareto_k"])] = chance.choice(
            ["much", None, [1, 2], {"a": 1}, -1, 0, 1e300, 10**400, True, float("nan"), float("inf")]
        )
        file.setncattr("attrs", json.dumps(said))


def hostile_list(path: Path, chance: Random) -> None:
    """JSON that can be decoded, but not used."""
    name = chance.choice(["interest", "reference", "panels", "fixed", "options", "versions", "notes"])
    values: list[object] = [
        ["nothing"],
        [1],
        [["signal"]],
        {"signal": "x"},
        {"a": {"b": 1}},
        {"signal": ["y"]},
        None,
        3,
        [],
    ]
    with netCDF4.Dataset(path, "a") as file:
        file.setncattr(name, json.dumps(chance.choice(values)))


def missing_group(path: Path, chance: Random) -> None:
    """One group left out."""
    with netCDF4.Dataset(path) as file:
        gone = chance.choice(sorted(file.groups))
    _rebuild(path, lambda group, name: group == gone)


def missing_variable(path: Path, chance: Random) -> None:
    """One variable left out."""
    with netCDF4.Dataset(path) as file:
        every = sorted((name, variable) for name, group in file.groups.items() for variable in group.variables)
    gone = chance.choice(every)
    _rebuild(path, lambda group, name: (group, name) == gone)


def not_numbers(path: Path, chance: Random) -> None:
    """NaN, infinity or enormous numbers in a variable."""
    with netCDF4.Dataset(path, "a") as file:
        group = file.groups[chance.choice(sorted(file.groups))]
        names = [name for name, variable in group.variables.items() if variable.dtype != str]
        variable = group.variables[chance.choice(sorted(names))]
        values = np.array(variable[...])
        bad = chance.choice([np.nan, np.inf, -np.inf, 1e308, -1e308, 0.0]) if values.dtype.kind == "f" else -(2**62)
        if chance.random() < 0.5:
            values[...] = bad
        else:
            values.reshape(-1)[:: chance.randrange(1, 50)] = bad
        variable[...] = values


def huge(path: Path, chance: Random) -> None:
    """A variable that claims more than any memory holds."""
    with netCDF4.Dataset(path, "a") as file:
        group = file.groups[chance.choice(sorted(file.groups))]
        group.createDimension("endless", chance.choice([10**7, 10**10, 10**15]))
        kind = chance.choice(["f8", "i8", "S1"])
        dims = ("endless", "endless") if chance.random() < 0.3 else ("endless",)
        name = "endless" if len(dims) == 1 and chance.random() < 0.5 else "claimed"
        group.createVariable(name, kind, dims, chunksizes=(1024,) * len(dims), zlib=True)


def strange_type(path: Path, chance: Random) -> None:
    """Draws, data or coordinates of a type of the file's own."""
    with netCDF4.Dataset(path, "a") as file:
        group = file.groups[chance.choice(["posterior", "observed_data", "sample_stats", "constant_data"])]
        group.createDimension("few", 3)
        kind = chance.choice(["compound", "vlen", "enum", "text"])
        if kind == "compound":
            made = group.createCompoundType(np.dtype([("a", "f8"), ("b", "i4")]), "pair")
        elif kind == "vlen":
            made = group.createVLType(np.int32, "ragged")
        elif kind == "enum":
            made = group.createEnumType(np.int8, "choice", {"no": 0, "yes": 1})
        variable = group.createVariable(chance.choice(["odd", "few"]), str if kind == "text" else made, ("few",))
        if kind == "text":
            variable[:] = np.array(["__import__('os')", "x", "y"], dtype=object)


def nested(path: Path, chance: Random) -> None:
    """Groups in groups in groups."""
    with netCDF4.Dataset(path, "a") as file:
        group = file
        for depth in range(chance.choice([1, 2, 60])):
            group = group.createGroup(f"deeper{depth}")


def turned(path: Path, chance: Random) -> None:
    """A variable over other dims than it has."""
    with netCDF4.Dataset(path, "a") as file:
        name = chance.choice(["posterior", "posterior_predictive", "log_likelihood", "sample_stats", "observed_data"])
        group = file.groups[name]
        variable = chance.choice(sorted(set(group.variables) - {"chain", "draw"}))
        group.renameVariable(variable, "was")
        group.createDimension("other", 2)
        group.createVariable(variable, "f8", ("other",))[:] = [1.0, 2.0]


KINDS: tuple[Callable[[Path, Random], None], ...] = (
    flipped,
    flipped_unsealed,
    truncated,
    overwritten,
    other_bytes,
    hostile_file_attribute,
    hostile_site_attribute,
    hostile_engine_attribute,
    hostile_list,
    missing_group,
    missing_variable,
    not_numbers,
    huge,
    strange_type,
    nested,
    turned,
)


class Bomb:
    """Unpickled, it leaves a file that tells."""

    def __init__(self, path: Path) -> None:
        self.mark = str(path.parent / "executed")

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (self.mark, "w")


def _hostile(path: Path, chance: Random) -> object:
    mark = path.parent / "executed"
    return chance.choice(
        [
            "[" * 100_000,
            '{"a":' * 5_000 + "1" + "}" * 5_000,
            "9" * 10_000,
            "x" * 1_000_000,
            "",
            "NaN",
            "null",
            '{"a": 1e999}',
            '["a", 1, null]',
            f"__import__('pathlib').Path({str(mark)!r}).touch()",
            f"!!python/object/apply:builtins.open [{mark}, w]",
            f"{{{{ ''.__class__.__mro__[1].__subclasses__() }}}} <script>x</script> $(touch {mark})",
            r"\frac{" * 2_000,
            "$^{_{",
            "days since 0000-99-99",
            pickle.dumps(Bomb(path), protocol=0).decode("latin-1"),
            np.frombuffer(pickle.dumps(Bomb(path)), dtype=np.uint8),
            np.arange(3.0),
            np.int64(-1),
            np.float64("nan"),
            1e308,
        ]
    )


def _cut_seal(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - SEAL)


def _flip(path: Path, chance: Random, part: float) -> None:
    data = bytearray(path.read_bytes())
    for _ in range(chance.choice([1, 3, 30])):
        data[chance.randrange(int(part * len(data)))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def _rebuild(path: Path, without: Callable[[str, str], bool]) -> None:
    """The same file without some groups or variables; netCDF cannot remove, only copy."""
    new = path.with_suffix(".new")
    with netCDF4.Dataset(path) as old, netCDF4.Dataset(new, "w") as file:
        file.setncatts({name: old.getncattr(name) for name in old.ncattrs()})
        for group_name, group in old.groups.items():
            kept = {name: variable for name, variable in group.variables.items() if not without(group_name, name)}
            if not kept or without(group_name, ""):
                continue
            copy = file.createGroup(group_name)
            for name, dimension in group.dimensions.items():
                copy.createDimension(name, len(dimension))
            for name, variable in kept.items():
                made = copy.createVariable(name, variable.dtype, variable.dimensions)
                made.setncatts({key: variable.getncattr(key) for key in variable.ncattrs() if key != "_FillValue"})
                made[...] = variable[...]
    new.replace(path)
