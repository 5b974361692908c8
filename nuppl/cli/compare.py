"""`nuppl compare`: posteriors and scans of one model on the same axes."""

from __future__ import annotations

import json
import shlex
import sys
from contextlib import ExitStack
from pathlib import Path

import click

from nuppl.cli.options import json_option, out_option, output_file
from nuppl.cli.reading import reading

__all__ = ["compare"]


@click.command()
@click.argument("results", metavar="RUN|SCAN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--against", metavar="RUN", type=click.Path(path_type=Path), help="A run of the null hypothesis, for Bayes factors."
)
@out_option
@json_option
def compare(results: tuple[Path, ...], against: Path | None, out: Path | None, overwrite: bool, as_json: bool) -> int:
    """Lay runs and scans of one model, with the same data and parameters, side by side; writes compare.html.

    Credible and confidence regions on the same axes, their intervals in one table, where and why they differ, the
    p-value of a null hypothesis beside its Bayes factor, and the sensitivity of the scans.
    """
    from nuppl.cli.infer import NOT_TRUSTED
    from nuppl.report.compare import compare as compared
    from nuppl.report.compare import comparison_json, comparison_lines, write_comparison

    target = output_file(out or Path("compare.html"), overwrite)
    with ExitStack() as opened:
        given = [(str(path), opened.enter_context(reading(path))[1]) for path in results]
        null = None if against is None else (str(against), opened.enter_context(reading(against))[1])
        found = compared(given, null)
        write_comparison(found, target, shlex.join(["nuppl", *sys.argv[1:]]))
    click.echo(json.dumps(comparison_json(found)) if as_json else "\n".join(comparison_lines(found)))
    click.echo(f"report: {target}", err=True)
    return NOT_TRUSTED if found.untrusted else 0
