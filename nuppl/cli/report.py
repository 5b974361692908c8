"""`nuppl report`: the report of a run, written anew from its result alone, and its figures as files."""

from __future__ import annotations

import json
from pathlib import Path

import click

from nuppl.cli.options import output_file
from nuppl.cli.reading import reading

__all__ = ["report"]

FORMATS = ("svg", "pdf", "png")


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Where to write.  [default: beside the result]")
@click.option("--figures", type=click.Path(path_type=Path), metavar="DIR", help="Write each figure as a file, too.")
@click.option(
    "--format", "form", default=FORMATS[0], show_default=True, type=click.Choice(FORMATS), help="Of those files."
)
def report(run: Path, out: Path | None, figures: Path | None, form: str) -> int:
    """Write the HTML report of RUN, a run folder or a result file."""
    from nuppl.report.contents import gather, write_figures
    from nuppl.report.page import write_page

    with reading(run) as (file, groups):
        target = output_file(out or file.with_name("report.html"), overwrite=True)
        contents = gather(groups)
        click.echo(str(write_page(contents, target, _command(file))))
        if figures is not None:
            for written in write_figures(contents, figures, form):
                click.echo(str(written))
    return 0


def _command(file: Path) -> str:
    """What the run's record says of how it was made; a broken record costs nobody a report."""
    try:
        said = json.loads(file.with_name("run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return ""
    return str(said.get("command", "")) if isinstance(said, dict) else ""
