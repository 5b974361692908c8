"""The report: one HTML file that needs nothing else, drawn from the result file alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import xarray as xr
from jinja2 import Environment, StrictUndefined

from nuppl.diagnostics.verdict import Verdict
from nuppl.report.contents import Contents, gather
from nuppl.report.tables import data_rows, nuisance_rows, parameter_row, pretty
from nuppl.report.tables_checks import citation, left_out_table, shift_table
from nuppl.results.files import whole
from nuppl.results.numbers import format_number
from nuppl.results.summary import Summary

__all__ = ["filled", "interest_rows", "render", "resource", "write_page"]


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
    return write_page(gather(groups, verdict, rows), path, command)


def write_page(contents: Contents, path: str | Path, command: str = "") -> Path:
    """Write what `gather` found as a page."""
    text = filled(
        "report.html.j2",
        css=resource("report.css"),
        command=command,
        said=contents.said,
        sources=[citation(source) for source in contents.said["sources"]],
        verdict=contents.verdict,
        checks=[_check(check) for check in contents.verdict.checks],
        pictures=contents.pictures,
        facts=_facts(contents.groups, contents.said),
        shifts=[shift_table(number, rows) for number, rows in contents.shifts],
        unweighted=contents.unweighted,
        left_out=[left_out_table(site) for site in contents.left_out],
        **_tables(contents),
    )
    with whole(Path(path)) as partial:
        partial.write_text(text, encoding="utf-8")
    return Path(path)


def interest_rows(groups: Mapping[str, xr.Dataset], said: Mapping[str, Any], rows: Sequence[Summary]) -> Any:
    """The table of the interest."""
    posterior = groups["posterior"]
    return [parameter_row(row, posterior[row.site].attrs) for row in rows if row.site in said["interest"]]


def _tables(contents: Contents) -> dict[str, list[dict[str, str]]]:
    groups, interest = contents.groups, contents.said["interest"]
    others = [row for row in contents.rows if row.site not in interest]
    return {
        "interest": interest_rows(groups, contents.said, contents.rows),
        "nuisances": nuisance_rows(others, groups["posterior"]),
        "data": data_rows(groups),
    }


def _check(check: Any) -> dict[str, Any]:
    outcome = "passed" if check.passed else "failed" if check.serious else "caution"
    return {
        **vars(check),
        "value": pretty(format_number(check.value, 4)),
        "outcome": outcome,
        "link": check.link if check.anchor else "",
    }


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


def filled(template: str, **values: Any) -> str:
    """A template of this folder with its values filled in, text escaped."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(resource(template)).render(**values)


def resource(name: str) -> str:
    """A text file of this folder."""
    return files("nuppl.report").joinpath(name).read_text(encoding="utf-8")
