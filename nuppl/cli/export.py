"""`nuppl export`: a posterior or a scan in the format of another program."""

from __future__ import annotations

from pathlib import Path

import click

from nuppl.cli.reading import reading

__all__ = ["export"]


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "--to",
    "name",
    required=True,
    metavar="FORMAT",
    help="getdist (chains with names and ranges), csv (summary, or the points of a scan) or hepdata (the tables of a "
    "scan). ArviZ reads posterior.nc as it is.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="CSV file, folder of HEPData, or what GetDist files begin with.  [default: in the run]",
)
@click.option("--overwrite", is_flag=True, help="Replace the files of an earlier export.")
def export(run: Path, name: str, out: Path | None, overwrite: bool) -> int:
    """Write the posterior or the scan of RUN, a run folder or a result file, for another program.

    GetDist: PREFIX_1.txt and so on, PREFIX.paramnames and PREFIX.ranges; load them with
    getdist.loadMCSamples(PREFIX), which wants a folder in it (./chains). CSV: one row per number with mean, sd,
    quantiles and convergence; of a scan one row per point. HEPData: a folder with submission.yaml and its tables.
    """
    from nuppl.results.export import export as write
    from nuppl.results.export import find

    form = find(name)
    with reading(run) as (file, groups):
        stem = run.resolve().name if run.is_dir() else file.stem
        for written in write(groups, name, out or file.with_name(stem + form.ending), overwrite):
            click.echo(str(written))
    return 0
