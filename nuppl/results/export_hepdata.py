"""A scan as a HEPData submission: submission.yaml and a table per file (hepdata-submission.readthedocs.io).

| table        | independent                      | dependent                                                     |
|--------------|----------------------------------|---------------------------------------------------------------|
| scan         | the parameters                   | statistic; p-value and critical value of each level with      |
|              |                                  | their Monte-Carlo errors                                      |
| intervals    | level, number of the interval    | both ends, of one parameter                                   |
| contour_L    | number of the line, of the point | both parameters, of two                                       |
| null         | number of the hypothesis         | its statistic and p-value                                     |
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import xarray as xr
import yaml
from numpy.typing import NDArray

from nuppl.results.contours import borders
from nuppl.results.intervals import intervals
from nuppl.results.metadata import metadata
from nuppl.results.scan_cls import statistic_of
from nuppl.results.scan_more import null_of

__all__ = ["files", "present"]

SUBMISSION = "submission.yaml"
DIGITS = 8
"""Significant digits: HEPData shows what it is given."""
Column = dict[str, Any]


def files(groups: Mapping[str, xr.Dataset]) -> Iterator[tuple[str, Callable[[TextIO], None]]]:
    """The tables and the submission; see `Format`."""
    tables = list(_tables(groups))
    for name, _, columns in tables:
        yield f"{name}.yaml", _writer([columns])
    said = metadata(groups)
    blind = f" Blind: in place of the real data stand {said['blind']}." if said["blind"] else ""
    first = {"comment": f"{said['docstring'] or said['model']}{blind}"}
    yield SUBMISSION, _writer([first, *(_entry(name, text, columns, said) for name, text, columns in tables)])


def present(target: Path) -> list[Path]:
    """What an export would replace."""
    return sorted(target.glob("*.yaml")) if target.is_dir() else []


def _writer(documents: Sequence[Any]) -> Callable[[TextIO], None]:
    return lambda stream: yaml.safe_dump_all(documents, stream, sort_keys=False, allow_unicode=True)


def _entry(name: str, text: str, columns: Mapping[str, Any], said: Mapping[str, Any]) -> dict[str, Any]:
    observables = list(dict.fromkeys(column["header"]["name"] for column in columns["dependent_variables"]))
    return {
        "name": name.replace("_", " "),
        "location": f"nuppl, model {said['model']}",
        "description": text,
        "keywords": [{"name": "observables", "values": observables}],
        "data_file": f"{name}.yaml",
    }


def _tables(groups: Mapping[str, xr.Dataset]) -> Iterator[tuple[str, str, dict[str, list[Column]]]]:
    scan = groups["scan"]
    names = json.loads(scan.attrs["parameters"])
    wilks = "toys" not in scan and "wilks" in scan
    how = "critical values of Wilks' theorem" if wilks else "critical values from pseudo-experiments"
    yield "scan", f"Profiled likelihood over {', '.join(names)}, {how}.", _grid(scan, names)
    if len(names) == 1:
        yield "intervals", f"Accepted intervals of {names[0]}, {how}.", _intervals(scan, names[0])
    if len(names) == 2:
        for number, level in enumerate(scan["level"].values):
            text = f"Border of the region with {100 * level:.4g} % confidence, {how}, line by line."
            lines = list(borders(scan, number))
            if lines:  # a region may lie between the points of the grid, or fill it
                yield f"contour_{100 * level:.4g}".replace(".", "p"), text, _contour(scan, names, number, lines)
    null = null_of(scan)
    if null is not None:
        held = ", ".join(f"{name} = {value:g}" for name, value in null["values"].items())
        yield "null", f"Test of the hypothesis {held} against the best fit.", _null(null)


def _grid(scan: xr.Dataset, names: Sequence[str]) -> dict[str, list[Column]]:
    points = np.meshgrid(*(scan[name].values for name in names), indexing="ij")
    independent = [_parameter(scan, name, point.ravel()) for name, point in zip(names, points, strict=True)]

    def flat(name: str, number: int | None = None) -> Any:
        array = scan[name] if number is None else scan[name].isel(level=number)
        return array.transpose(*names).values.ravel()

    best = json.loads(scan.attrs["best"])
    at_best = [{"name": f"best fit, {name}", "value": f"{value:.{DIGITS}g}"} for name, value in best.items()]
    name = "-2 Delta log L" if "wilks" in scan else f"test statistic ({statistic_of(scan)})"
    dependent = [_column(name, "", flat("statistic"), qualifiers=at_best)]
    if "p_value" in scan:
        dependent.append(_column("p-value", "", flat("p_value"), flat("p_value_error")))
    for number, level in enumerate(scan["level"].values):
        error = flat("critical_error", number) if "toys" in scan else None
        qualifier = [{"name": "CL", "units": "%", "value": f"{100 * level:.4g}"}]
        dependent.append(_column("critical value", "", flat("critical", number), error, qualifiers=qualifier))
    return {"independent_variables": independent, "dependent_variables": dependent}


def _intervals(scan: xr.Dataset, name: str) -> dict[str, list[Column]]:
    rows = [
        (100.0 * float(level), rank + 1, low, high)
        for number, level in enumerate(scan["level"].values)
        for rank, (low, high) in enumerate(
            intervals(scan[name].values, scan["statistic"].values, scan["critical"].isel(level=number).values)
        )
    ]
    levels, ranks, lows, highs = zip(*rows, strict=True) if rows else ((), (), (), ())
    unit = str(scan[name].attrs.get("unit", ""))
    return {
        "independent_variables": [_column("CL", "%", levels), _column("interval", "", ranks)],
        "dependent_variables": [_column(f"{name}, lower end", unit, lows), _column(f"{name}, upper end", unit, highs)],
    }


def _contour(
    scan: xr.Dataset, names: Sequence[str], number: int, lines: Sequence[NDArray[np.float64]]
) -> dict[str, list[Column]]:
    counted = [(i + 1, j + 1) for i, line in enumerate(lines) for j in range(len(line))]
    points = np.concatenate(lines)
    qualifier = [{"name": "CL", "units": "%", "value": f"{100 * float(scan['level'][number]):.4g}"}]
    return {
        "independent_variables": [
            _column(what, "", [row[i] for row in counted]) for i, what in enumerate(("line", "point"))
        ],
        "dependent_variables": [_parameter(scan, name, points[:, axis], qualifier) for axis, name in enumerate(names)],
    }


def _null(null: Mapping[str, Any]) -> dict[str, list[Column]]:
    held = [{"name": name, "value": f"{value:.{DIGITS}g}"} for name, value in null["values"].items()]
    dependent = [_column("-2 Delta log L", "", [null["statistic"]], qualifiers=held)]
    wilks = {"name": "method", "value": f"Wilks, degrees of freedom: {null['parameters']}"}
    dependent.append(_column("p-value", "", [null["wilks_p_value"]], qualifiers=[*held, wilks]))
    if "p_value" in null:
        toys = {"name": "method", "value": f"{null['toys']} pseudo-experiments"}
        dependent.append(_column("p-value", "", [null["p_value"]], [null["p_value_error"]], qualifiers=[*held, toys]))
    return {"independent_variables": [_column("hypothesis", "", [1])], "dependent_variables": dependent}


def _parameter(scan: xr.Dataset, name: str, values: Any, qualifiers: Sequence[Mapping[str, Any]] = ()) -> Column:
    return _column(name, str(scan[name].attrs.get("unit", "")), values, qualifiers=qualifiers)


def _column(
    name: str, unit: str, values: Any, error: Any = None, qualifiers: Sequence[Mapping[str, Any]] = ()
) -> Column:
    header = {"name": name, **({"units": unit} if unit else {})}
    rows: list[dict[str, Any]] = [{"value": _number(value)} for value in values]
    if error is not None:
        for row, each in zip(rows, error, strict=True):
            if each > 0.0:  # the schema knows no errors of zero
                row["errors"] = [{"label": "Monte Carlo", "symerror": _number(each)}]
    # Copies: YAML would refer to what two columns share.
    return {"header": header, **({"qualifiers": list(map(dict, qualifiers))} if qualifiers else {}), "values": rows}


def _number(value: Any) -> int | float | str:
    """As YAML has it; a point without a fit is a dash."""
    if isinstance(value, int | np.integer):
        return int(value)
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else "-"
