"""`nuppl show`: what a result holds, with its verdict."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from nuppl.cli.options import json_option
from nuppl.cli.reading import reading, result_file

__all__ = ["result_file", "show", "show_posterior"]


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@json_option
def show(run: Path, as_json: bool) -> int:
    """Print what RUN, a run folder or a result file, holds, and whether to trust it."""
    from nuppl.results.metadata import metadata

    with reading(run) as (_, groups):
        said = metadata(groups)
        if "posterior" in groups:
            return show_posterior(groups, said, as_json)
        if "scan" in groups:
            from nuppl.cli.scan_shown import show_scan

            return show_scan(groups["scan"], as_json)
        held = {
            name: {str(v): list(g[v].sizes.items()) for v in g.data_vars} for name, g in groups.items() if name != "/"
        }
        click.echo(json.dumps(held) if as_json else _contents(said, held))
        return 0


def _contents(said: dict[str, Any], held: dict[str, dict[str, list[Any]]]) -> str:
    lines = [f"{said['model']} by {said['engine']}, {said['created_at']}"]
    for group, variables in held.items():
        for name, sizes in variables.items():
            lines.append(f"{group}/{name}" + "".join(f" {dim}={size}" for dim, size in sizes))
    return "\n".join(lines)


def show_posterior(groups: dict[str, Any], said: dict[str, Any], as_json: bool) -> int:
    """Print a posterior; the exit code."""
    from nuppl.cli.infer import NOT_TRUSTED, machine, table
    from nuppl.diagnostics.verdict import judge
    from nuppl.results.summary import summarize_result

    rows = summarize_result(groups)
    verdict = judge(groups, rows)
    shown = [row for row in rows if row.site in said["interest"]]
    if as_json:
        click.echo(json.dumps(machine(shown, verdict, said["attrs"])))
    else:
        click.echo(f"{said['model']} by {said['engine']}, seed {said['seed']}, {said['created_at']}")
        click.echo(table(shown, verdict, said["attrs"]))
    return 0 if verdict.trusted else NOT_TRUSTED
