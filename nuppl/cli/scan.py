"""`nuppl scan`: the profile likelihood over a grid, and critical values from toys."""

from __future__ import annotations

import shlex
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nuppl.cli.options import Count, json_option, model_options, out_option, seed_option
from nuppl.cli.scan_shown import show_scan, trusted
from nuppl.cli.scanning import Asked, earlier_toys, extended, more_options, one_thread, settings
from nuppl.cli.statistics import chosen_statistic, statistic_option, with_exclusion
from nuppl.errors import InputError

if TYPE_CHECKING:
    import xarray as xr

    from nuppl.frequentist.grid import Grid
    from nuppl.frequentist.linear_toys import LinearThrower
    from nuppl.frequentist.profile import Profile
    from nuppl.frequentist.scan import Scan
    from nuppl.frequentist.statistics import Statistic
    from nuppl.language.program import Program
    from nuppl.results.run import RunFolder

__all__ = ["scan"]

LEAST_LEARNED = 2_000
"""Toys in all from which critical values are learned."""


@click.command()
@model_options
@click.option("--over", required=True, metavar="NAME[=LOW:HIGH],...", help="Parameters to scan.")
@click.option("--grid", default="50", show_default=True, metavar="N[xN...]", help="Points along each parameter.")
@statistic_option
@click.option("--levels", default="0.6827,0.9,0.95", show_default=True, help="Confidence levels.")
@click.option(
    "--toys", default=0, show_default=True, type=Count(0, 10**9), help="Pseudo-experiments per point, at most."
)
@click.option(
    "--critical",
    type=click.Choice(["toys", "learned"]),
    default="toys",
    show_default=True,
    help="Critical values from the toys of each point alone, or learned from the toys of all.",
)
@click.option(
    "--nuisances",
    type=click.Choice(["profile", "prior", "berger-boos"]),
    default="profile",
    show_default=True,
    help="Where the nuisances of toys lie: as the data prefer, drawn from their priors, or the worst of a region.",
)
@click.option(
    "--fits",
    type=click.Choice(["full", "linear"]),
    default="full",
    show_default=True,
    help="How toys are fitted: in full, or by matrix products with linear nuisances, a sample in full as well.",
)
@click.option("--check", default=200, show_default=True, type=click.IntRange(1), help="Size of that sample.")
@click.option("--starts", default=4, show_default=True, type=click.IntRange(min=0), help="Starts of the best fit.")
@click.option("--resume", is_flag=True, help="Go on where an interrupted scan stopped.")
@more_options
@out_option
@seed_option
@json_option
def scan(model: str, as_json: bool, resume: bool, **asked: Any) -> int:
    """Profile the likelihood of FILE[:MODEL] over a grid; writes runs/FILE-scan/ with result and report.

    With --toys regions have the critical values that pseudo-experiments give (Feldman and Cousins), each point by
    itself or, with --critical learned, all points together from far fewer; an interrupted scan goes on with --resume.
    Without toys they have asymptotic ones; the statistics focused, posterior, waldo and those of users have none.
    """
    from nuppl.results.run import finished

    with redirect_stdout(sys.stderr), one_thread():
        built = Asked.of(model, asked)
        program, file, blind = built.resolved()
        grid, chosen, determines = _resolved(program, asked)
        place = asked["out"] or Path("runs") / f"{file.stem}-scan"
        done = resume and finished(place, file, determines)
        if not done:
            folder = _begun(place, file, determines, asked["overwrite"], resume)
            groups = _carried_out(folder, program, grid, chosen, determines, built, blind, asked["workers"])
    if done:
        return _shown(place, as_json)
    click.echo(f"report: {folder.path / 'report.html'}", err=True)
    return show_scan(groups["scan"], as_json)


def _resolved(program: Program, asked: dict[str, Any]) -> tuple[Grid, Statistic, dict[str, Any]]:
    from nuppl.frequentist.critical import check_levels
    from nuppl.frequentist.grid import Grid
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
    chosen, statistic = chosen_statistic(program, grid, asked)
    check_learned(asked, grid)
    return (
        grid,
        chosen,
        {
            "model": program.model.name,
            "set": list(asked["fixed"]),
            "option": list(asked["options"]),
            "data_sha256": data_sha256(program),
            "over": asked["over"],
            "grid": asked["grid"],
            "levels": list(check_levels(levels)),
            "toys": asked["toys"],
            "critical": asked["critical"],
            "nuisances": asked["nuisances"],
            "fits": asked["fits"],
            "check": asked["check"] if asked["fits"] == "linear" else None,
            "starts": asked["starts"],
            "seed": asked["seed"],
            **statistic,
            **settings(asked),
        },
    )


def check_learned(asked: dict[str, Any], grid: Grid) -> None:
    """Raise InputError for learned critical values of too few toys, or of toys of other scans."""
    if asked["nuisances"] == "berger-boos" and (asked["critical"] == "learned" or asked.get("merge")):
        raise InputError(
            "--nuisances berger-boos: expected toys of this scan at each point, got --critical learned or --merge"
        )
    if asked["fits"] == "linear" and (asked["critical"] == "learned" or asked["nuisances"] != "profile"):
        raise InputError("--fits linear: expected --critical toys and --nuisances profile, got others")
    if asked["critical"] != "learned":
        return
    if asked.get("merge"):
        raise InputError("--critical learned: expected toys of this scan, got --merge; leave out one of the two")
    if asked["toys"] * grid.size < LEAST_LEARNED:
        raise InputError(
            f"--critical learned: expected --toys of at least {-(-LEAST_LEARNED // grid.size)} per point, "
            f"{LEAST_LEARNED} in all, got {asked['toys']}"
        )


def _begun(place: Path, file: Path, determines: dict[str, Any], overwrite: bool, resume: bool) -> RunFolder:
    from nuppl.results.run import RunFolder

    said = {"command": shlex.join(["nuppl", *sys.argv[1:]]), "model_path": str(file.absolute())}
    return RunFolder.begin(place, file, determines, said, overwrite, resume)


def _carried_out(
    folder: RunFolder,
    program: Program,
    grid: Grid,
    chosen: Statistic,
    settings: dict[str, Any],
    asked: Asked,
    blind: str,
    workers: int,
) -> dict[str, xr.Dataset]:
    from nuppl.cli.progress import reporting
    from nuppl.cli.running import left_in_order
    from nuppl.frequentist.learned_scan import learned_scan
    from nuppl.frequentist.linear_toys import compare
    from nuppl.frequentist.nuisances import Nuisances
    from nuppl.frequentist.profile import profile
    from nuppl.frequentist.scan import scan as thrown
    from nuppl.frequentist.workers import Workers
    from nuppl.report.scan import render_scan
    from nuppl.results.checkpoints import Checkpoints
    from nuppl.results.run import SCAN
    from nuppl.results.scan_more import with_check

    with left_in_order(folder):
        with reporting("scan") as progress, Workers(asked.program, workers) as several:
            store = Checkpoints(folder.checkpoints)
            shared = {"seed": settings["seed"], "store": store, "progress": progress}
            profiled = profile(program, grid, starts=settings["starts"], spread=several.spread, **shared)
            earlier, seeds = earlier_toys([Path(each) for each in settings["merge"] or ()], profiled, settings)
            nuisances = Nuisances(settings["nuisances"])
            common = {"statistic": chosen, "nuisances": nuisances, **shared}
            linear = None
            if settings["critical"] == "learned":
                found: Scan = learned_scan(profiled, settings["levels"], settings["toys"] * grid.size, **common)
            else:
                linear = _linear(profiled, settings)
                more = {"earlier": earlier, "spread": several.spread, "thrower": linear}
                found = thrown(profiled, settings["levels"], settings["toys"], **common, **more)
            groups = _groups(program, found, settings["seed"], blind, seeds, settings["toys"] > 0)
            groups["scan"].attrs |= {"critical": settings["critical"], "nuisances": settings["nuisances"]}
            if linear:
                checked = compare(linear, settings["check"], settings["seed"], spread=several.spread, progress=progress)
                groups["scan"] = with_check(groups["scan"], *checked)
            groups["scan"] = with_exclusion(groups["scan"], found, settings["seed"], store, progress)
            groups["scan"] = extended(groups["scan"], profiled, settings, several, store, progress)
        folder.save(groups, SCAN)
        render_scan(groups, folder.report, folder.record["command"])
        folder.finish(trusted=trusted(groups["scan"]))
    return groups


def _linear(profiled: Profile, settings: dict[str, Any]) -> LinearThrower | None:
    """What fits toys by matrix products, where that was asked for."""
    from nuppl.frequentist.linear_toys import LinearThrower
    from nuppl.frequentist.toys import Thrower

    if settings["fits"] != "linear" or not settings["toys"]:
        return None
    return LinearThrower.like(Thrower.of(profiled, settings["seed"]))


def _groups(
    program: Program, found: Scan, seed: int, blind: str, earlier: list[int], thrown: bool
) -> dict[str, xr.Dataset]:
    import xarray as xr

    from nuppl.frequentist.critical import wilks
    from nuppl.results.metadata import describe_file
    from nuppl.results.scan import scan_group
    from nuppl.results.scan_more import with_toys

    profiled = found.profile
    critical, error = found.critical
    values = {"statistic": found.observed, "status": profiled.status, "critical": critical}
    values |= {"critical_error": error, "wilks": wilks(found.levels, len(profiled.grid.axes))}
    if found.statistic.shape[1]:
        p, p_error = found.p_value
        values |= {"p_value": p, "p_value_error": p_error, "toys": found.thrown, "failed_toys": found.failed}
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
    )
    if found.statistic.shape[1]:
        group = with_toys(group, found.statistic, [*earlier, *([seed] if thrown else [])])
    return {"/": xr.Dataset(attrs=describe_file(program, "scan", seed, blind=blind)), "scan": group}


def _shown(place: Path, as_json: bool) -> int:
    from nuppl.cli.reading import reading

    click.echo(f"{place} is finished: nothing to resume", err=True)
    with reading(place) as (_, groups):
        return show_scan(groups["scan"], as_json)
