"""`nuppl scan`: the profile likelihood over a grid, and critical values from toys."""

from __future__ import annotations

import json
import shlex
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nuppl.cli.options import Count, json_option, model_options, out_option, program_from, seed_option
from nuppl.errors import InputError

if TYPE_CHECKING:
    import xarray as xr

    from nuppl.frequentist.cls import Cls
    from nuppl.frequentist.grid import Grid
    from nuppl.frequentist.scan import Scan
    from nuppl.frequentist.statistics import Statistic
    from nuppl.language.program import Program
    from nuppl.results.run import RunFolder

__all__ = ["scan", "show_scan"]

NOT_TRUSTED = 4
MOST_LOST = 0.01
"""Share of failed fits, of points or of toys, above which a scan is not to be trusted."""


@click.command()
@model_options
@click.option("--over", required=True, metavar="NAME[=LOW:HIGH],...", help="Parameters to scan.")
@click.option("--grid", default="50", show_default=True, metavar="N[xN...]", help="Points along each parameter.")
@click.option(
    "--statistic",
    default="likelihood-ratio",
    show_default=True,
    metavar="NAME[,KEY=VALUE...]",
    help="The test statistic: likelihood-ratio; q-tilde (upper limits, CLs); gaussian-cls,null=...; "
    "focused,center=...,width=...[,shape=box]; posterior; waldo; or FILE.py:function. Values of several parameters have "
    "slashes between.",
)
@click.option("--levels", default="0.6827,0.9,0.95", show_default=True, help="Confidence levels.")
@click.option(
    "--toys", default=0, show_default=True, type=Count(0, 10**9), help="Pseudo-experiments per point, at most."
)
@click.option("--starts", default=4, show_default=True, type=click.IntRange(min=0), help="Starts of the best fit.")
@click.option("--resume", is_flag=True, help="Go on where an interrupted scan stopped.")
@out_option
@seed_option
@json_option
def scan(model: str, as_json: bool, resume: bool, **asked: Any) -> int:
    """Profile the likelihood of FILE[:MODEL] over a grid; writes runs/FILE-scan/ with result and report.

    With --toys regions have the critical values that pseudo-experiments give (Feldman and Cousins); an interrupted scan
    goes on with --resume. Without, they have asymptotic ones, which the statistics focused, posterior, waldo and a
    user's own do not have.
    """
    from nuppl.results.run import finished

    with redirect_stdout(sys.stderr):
        program, file = program_from(model, asked["fixed"], asked["options"])
        grid, chosen, determines = _resolved(program, asked)
        place = asked["out"] or Path("runs") / f"{file.stem}-scan"
        done = resume and finished(place, file, determines)
        if not done:
            folder = _begun(place, file, determines, asked["overwrite"], resume)
            groups = _carried_out(folder, program, grid, chosen, determines)
    if done:
        return _shown(place, as_json)
    click.echo(f"report: {folder.path / 'report.html'}", err=True)
    return show_scan(groups["scan"], as_json)


def show_scan(found: xr.Dataset, as_json: bool) -> int:
    """Print a scan; the exit code."""
    from nuppl.report.scan import scan_lines, scan_rows
    from nuppl.results.scan import cls_numbers

    if as_json:
        best, rows = json.loads(found.attrs["best"]), scan_rows(found)
        said = {"best": best, "levels": rows, "verdict": {"trusted": _trusted(found)}}
        click.echo(json.dumps(said | cls_numbers(found)))
    else:
        click.echo("\n".join(scan_lines(found)))
    if not _trusted(found):
        click.echo(f"warning: more than {100 * MOST_LOST:g} % of the fits failed: do not trust this scan", err=True)
        return NOT_TRUSTED
    return 0


def _resolved(program: Program, asked: dict[str, Any]) -> tuple[Grid, Statistic, dict[str, Any]]:
    from nuppl.frequentist.critical import check_levels
    from nuppl.frequentist.grid import Grid
    from nuppl.frequentist.statistics import STATISTICS, statistic
    from nuppl.results.metadata import data_sha256

    try:
        counts = [int(part) for part in asked["grid"].split("x")]
        levels = [float(part) for part in asked["levels"].split(",")]
    except ValueError:
        raise InputError(
            f"scan: expected --grid as 40 or 40x60 and --levels as 0.68,0.9, got {asked['grid']!r} and "
            f"{asked['levels']!r}"
        ) from None
    grid = Grid.over(program, asked["over"].split(","), counts)
    chosen = statistic(asked["statistic"])
    chosen.check(program, grid)
    if not asked["toys"] and chosen.kind.asymptotic is None:
        raise chosen.needs_toys()
    user = {} if chosen.name in STATISTICS else {"statistic_sha256": sha256_of(Path(chosen.name.rpartition(":")[0]))}
    return grid, chosen, {
        "model": program.model.name,
        "set": list(asked["fixed"]),
        "option": list(asked["options"]),
        "data_sha256": data_sha256(program),
        "over": asked["over"],
        "grid": asked["grid"],
        "levels": list(check_levels(levels)),
        "toys": asked["toys"],
        "starts": asked["starts"],
        "seed": asked["seed"],
        "statistic": asked["statistic"],
        **user,
    }


def _begun(place: Path, file: Path, determines: dict[str, Any], overwrite: bool, resume: bool) -> RunFolder:
    from nuppl.results.run import RunFolder

    said = {"command": shlex.join(["nuppl", *sys.argv[1:]]), "model_path": str(file.absolute())}
    return RunFolder.begin(place, file, determines, said, overwrite, resume)


def _carried_out(
    folder: RunFolder, program: Program, grid: Grid, chosen: Statistic, settings: dict[str, Any]
) -> dict[str, xr.Dataset]:
    from nuppl.cli.progress import reporting
    from nuppl.cli.running import left_in_order
    from nuppl.frequentist.exclusion import exclusion
    from nuppl.frequentist.profile import profile
    from nuppl.frequentist.scan import scan as thrown
    from nuppl.report.scan import render_scan
    from nuppl.results.checkpoints import Checkpoints
    from nuppl.results.run import SCAN

    with left_in_order(folder):
        with reporting("scan") as progress:
            store = Checkpoints(folder.checkpoints)
            seed = settings["seed"]
            profiled = profile(program, grid, starts=settings["starts"], seed=seed, progress=progress)
            found = thrown(
                profiled,
                settings["levels"],
                settings["toys"],
                statistic=chosen,
                seed=seed,
                store=store,
                progress=progress,
            )
            cls = exclusion(found, seed=seed, store=store, progress=progress)
        groups = _groups(program, found, cls, settings)
        folder.save(groups, SCAN)
        render_scan(groups, folder.report, folder.record["command"])
        folder.finish(trusted=_trusted(groups["scan"]))
    return groups


def _groups(
    program: Program, found: Scan, cls: tuple[Cls, int] | None, settings: dict[str, Any]
) -> dict[str, xr.Dataset]:
    import xarray as xr

    from nuppl.frequentist.critical import wilks
    from nuppl.results.metadata import describe_file
    from nuppl.results.scan import scan_group

    profiled = found.profile
    critical, error = found.critical
    values = {"statistic": found.observed, "status": profiled.status, "critical": critical, "critical_error": error}
    if found.chosen.name == "likelihood-ratio":
        values["wilks"] = wilks(found.levels, len(profiled.grid.axes))
    if found.statistic.shape[1]:
        p, p_error = found.p_value
        values |= {"p_value": p, "p_value_error": p_error, "toys": found.thrown, "failed_toys": found.failed}
    values |= _excluded(found, *cls) if cls else {}
    best = profiled.likelihoods.natural.values(profiled.best.point)
    names, sites = profiled.grid.names, program.latents
    group = scan_group(
        {axis.name: axis.values for axis in profiled.grid.axes},
        {name: sites[name].unit for name in names},
        {name: sites[name].label for name in names},
        found.levels,
        values,
        {name: float(best[name]) for name in names},
        [axis.name for axis in profiled.grid.axes if axis.log],
        settings["statistic"],
    )
    return {"/": xr.Dataset(attrs=describe_file(program, "scan", settings["seed"])), "scan": group}


def _excluded(found: Scan, cls: Cls, failed: int) -> dict[str, Any]:
    import torch

    values = {"cls": cls.observed, "cls_expected": cls.expected}
    if cls.limit is not None and cls.expected_limit is not None:
        values |= {"limit": cls.limit, "limit_expected": cls.expected_limit}
    if found.statistic.shape[1]:
        values |= {"null_toys": torch.tensor(found.statistic.shape[1]), "failed_null_toys": torch.tensor(failed)}
    return values


def _trusted(found: xr.Dataset) -> bool:
    lost = float((found["status"] == 2).mean())
    toys = float(found["failed_toys"].sum() / found["toys"].sum()) if "toys" in found else 0.0
    null = float(found["failed_null_toys"] / found["null_toys"]) if "null_toys" in found else 0.0
    return max(lost, toys, null) <= MOST_LOST


def _shown(place: Path, as_json: bool) -> int:
    from nuppl.cli.reading import reading

    click.echo(f"{place} is finished: nothing to resume", err=True)
    with reading(place) as (_, groups):
        return show_scan(groups["scan"], as_json)
