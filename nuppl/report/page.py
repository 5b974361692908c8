"""The report: one HTML file that needs nothing else, drawn from the result file alone."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import xarray as xr
from jinja2 import Environment, StrictUndefined

from nuppl.diagnostics.verdict import Verdict, judge
from nuppl.report.canvas import Picture, style
from nuppl.report.figures_corner import corner
from nuppl.report.figures_pulls import pulls
from nuppl.report.figures_spectra import spectra
from nuppl.report.tables import data_rows, nuisance_rows, parameter_row, pretty
from nuppl.results.metadata import metadata
from nuppl.results.numbers import format_number
from nuppl.results.summary import Summary, summarize_result

__all__ = ["render"]


def render(
    groups: Mapping[str, xr.Dataset],
    path: str | Path,
    command: str = "",
    verdict: Verdict | None = None,
    rows: Sequence[Summary] | None = None,
) -> Path:
    """Write the report of a posterior.

    Arguments:
        groups: of a posterior, fresh or loaded.
        path: where to; an existing file is replaced once the new one is complete.
        command: the command line that made the result.
        verdict: on the result; judged here unless given.
        rows: the summary of the posterior, where that is at hand.

    Raises:
        InputError: a result without a posterior.
    """
    said = metadata(groups)
    if rows is None and "posterior" in groups:
        rows = summarize_result(groups)
    verdict = verdict or judge(groups, rows)
    text = _template().render(
        css=_resource("report.css"),
        command=command,
        said=said,
        verdict=verdict,
        checks=[_check(check) for check in verdict.checks],
        pictures=_pictures(groups, said),
        facts=_facts(groups, said),
        **_tables(groups, said, rows or ()),
    )
    return _write(Path(path), text)


def _pictures(groups: Mapping[str, xr.Dataset], said: Mapping[str, Any]) -> dict[str, list[Picture]]:
    with style():
        shown = corner(groups, said["interest"])
        return {
            "corner": [shown] if shown else [],
            "spectra": spectra(groups, said["panels"], said["reference"]),
            "pulls": pulls(groups),
        }


def _tables(
    groups: Mapping[str, xr.Dataset], said: Mapping[str, Any], rows: Sequence[Summary]
) -> dict[str, list[dict[str, str]]]:
    posterior = groups["posterior"]
    interest = [row for row in rows if row.site in said["interest"]]
    return {
        "interest": [parameter_row(row, posterior[row.site].attrs) for row in interest],
        "nuisances": nuisance_rows([row for row in rows if row.site not in said["interest"]], posterior),
        "data": data_rows(groups),
    }


def _check(check: Any) -> dict[str, Any]:
    return {**vars(check), "value": pretty(format_number(check.value, 4))}


def _facts(groups: Mapping[str, xr.Dataset], said: Mapping[str, Any]) -> dict[str, list[tuple[str, str]]]:
    sizes = groups["posterior"].sizes
    run = [("engine", said["engine"]), ("seed", str(said["seed"])), ("created", str(said["created_at"]))]
    run.append(("draws", f"{sizes['chain']} chains × {sizes['draw']}"))
    run += [(name.replace("_", " "), _value(value)) for name, value in said["attrs"].items()]
    model = [("model", said["model"]), ("file", said["model_file"]), ("SHA-256", said["model_sha256"])]
    return {
        "Run": run,
        "Model": model,
        "Options": [(name, str(value)) for name, value in said["options"].items()],
        "Fixed": [(name, str(value)) for name, value in said["fixed"].items()],
        "Reference of the ratios": [(name, _value(value)) for name, value in said["reference"].items()],
        "Versions": list(said["versions"].items()),
    }


def _value(value: Any) -> str:
    return format_number(value) if isinstance(value, float) else str(value)


def _template() -> Any:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_resource("report.html.j2"))


def _resource(name: str) -> str:
    return files("nuppl.report").joinpath(name).read_text(encoding="utf-8")


def _write(path: Path, text: str) -> Path:
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path
