"""`nuppl report`: the report of a run, written anew from its result alone."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["report"]


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Where to write.  [default: beside the result]")
def report(run: Path, out: Path | None) -> int:
    """Write the HTML report of RUN, a run folder or a result file."""
    import json

    from nuppl.cli.show import result_file
    from nuppl.diagnostics.verdict import judge
    from nuppl.report.page import render
    from nuppl.results.storage import load
    from nuppl.results.summary import summarize_result

    file = result_file(run)
    groups = load(file)
    target = out or file.with_name("report.html")
    settings = file.with_name("run.json")
    command = json.loads(settings.read_text())["command"] if settings.is_file() else ""
    rows = summarize_result(groups)
    render(groups, target, command, judge(groups, rows), rows)
    click.echo(str(target))
    return 0
