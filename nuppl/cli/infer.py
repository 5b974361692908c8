"""`nuppl infer`: the posterior of a model, as a run folder with result, report and verdict."""

from __future__ import annotations

import json
import math
import shlex
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nuppl.cli.options import json_option, out_option, program_from, program_options, seed_option
from nuppl.cli.progress import reporting
from nuppl.errors import InputError
from nuppl.inference.registry import DEFAULT, ENGINES
from nuppl.inference.settings import OWN

if TYPE_CHECKING:
    import xarray as xr

    from nuppl.diagnostics.verdict import Verdict
    from nuppl.inference.settings import Settings
    from nuppl.language.program import Program
    from nuppl.results.draws import Draws
    from nuppl.results.run import RunFolder
    from nuppl.results.summary import Summary

__all__ = ["infer"]

NOT_TRUSTED = 4

AT_LEAST_ONE = click.IntRange(1, 10**9)


@click.command()
@click.argument("model", metavar="FILE[:MODEL]", required=False)
@program_options
@click.option("--engine", default=DEFAULT, show_default=True, help="auto, " + ", ".join(ENGINES) + ".")
@click.option(
    "--guide",
    default="laplace",
    show_default=True,
    help="Whose draws importance weights: laplace, tempered, svi or prior.",
)
@click.option("--chains", type=AT_LEAST_ONE, help="Independent chains, islands, or batches of proposals.")
@click.option("--draws", type=AT_LEAST_ONE, help="Draws kept per chain.")
@click.option("--warmup", type=AT_LEAST_ONE, help="Steps of adaptation (hmc, nuts, svi).")
@click.option(
    "--proposals",
    default=2500,
    show_default=True,
    type=click.IntRange(max=10**9),
    help="Proposals per chain (importance).",
)
@click.option(
    "--particles", default=128, show_default=True, type=click.IntRange(max=10**9), help="Particles per island (smc)."
)
@click.option(
    "--marginalize", default="auto", show_default=True, help="Sites to integrate in closed form: auto, none, or names."
)
@click.option("--from", "source", type=click.Path(path_type=Path), help="Repeat a run: its run.json or its folder.")
@click.option("--resume", is_flag=True, help="Go on where an interrupted run stopped.")
@out_option
@seed_option
@json_option
@click.pass_context
def infer(context: click.Context, /, source: Path | None, as_json: bool, resume: bool, **given: Any) -> int:
    """Draw from the posterior of FILE[:MODEL]; writes runs/FILE/ with result, report and verdict.

    An interrupted run, killed or not, goes on with --resume and ends as if nothing had happened.
    """
    from nuppl.results.run import RunFolder, finished

    asked = {**given, **_stored(context, source)} if source else given
    if not asked["model"]:
        raise InputError("infer: expected a model file, or --from with a run to repeat; got neither")
    program, file, engine, settings, determines = _resolved(asked)
    place = asked["out"] or Path("runs") / default_name(asked["model"], file)
    if resume and finished(place, file, determines):
        return _shown(place, as_json)
    said = {"command": shlex.join(["nuppl", *sys.argv[1:]]), "model_path": str(file.absolute())}
    folder = RunFolder.begin(place, file, determines, said, asked["overwrite"], resume)
    try:
        draws = _drawn(program, engine, replace(settings, scratch=folder.checkpoints), folder)
        verdict, rows = _write(folder, program, draws, settings.seed)
        seconds = float(draws.attrs["seconds"])
        done = folder.finish(verdict=verdict.to_json(), seconds=seconds)
    except BaseException as error:
        # What the user must put right leaves nothing to go on from.
        if folder.leave(keep=not isinstance(error, InputError)):
            again = said["command"] + ("" if resume else " --resume")
            click.echo(f"what was done is kept; go on with: {again}", err=True)
        raise
    click.echo(json.dumps(machine(rows, verdict, draws.attrs)) if as_json else table(rows, verdict, draws.attrs))
    click.echo(f"inference took {seconds:.1f} s; report: {done / 'report.html'}", err=True)
    return 0 if verdict.trusted else NOT_TRUSTED


def _resolved(asked: Mapping[str, Any]) -> tuple[Program, Path, str, Settings, dict[str, Any]]:
    """Program, model file, engine, settings, and all that determines the result, JSON-ready."""
    from nuppl.inference.registry import choose, resolved
    from nuppl.inference.registry import engine as find
    from nuppl.inference.settings import Settings
    from nuppl.results.metadata import data_sha256

    chosen: dict[str, Any] = {each.name: asked[each.name] for each in fields(Settings) if each.name in asked}
    chosen |= {name: chosen[name] or 0 for name in OWN}
    settings = Settings(**chosen)
    if asked["engine"] != DEFAULT:
        find(asked["engine"])
    program, file = program_from(asked["model"], asked["fixed"], asked["options"])
    engine = choose(program) if asked["engine"] == DEFAULT else asked["engine"]
    settings = resolved(engine, settings)
    determines = {
        "model": program.model.name,
        "set": list(asked["fixed"]),
        "option": list(asked["options"]),
        "data_sha256": data_sha256(program),
        "engine": engine,
        **{name: getattr(settings, name) for name in chosen},
    }
    return program, file, engine, settings, determines


def _stored(context: click.Context, source: Path) -> dict[str, Any]:
    """The settings of another run, where nothing else was said on the command line."""
    from nuppl.results.run import model_of, read_settings

    file = source / "run.json" if source.is_dir() else source
    found = read_settings(file)
    model, note = model_of(file, found)
    if note:
        click.echo(f"note: {note}", err=True)
    stored = {**found, "fixed": found.get("set"), "options": found.get("option"), "model": f"{model}:{found['model']}"}
    return {
        name: stored[name]
        for name in context.params
        if name in stored and context.get_parameter_source(name) == click.core.ParameterSource.DEFAULT
    }


def _shown(place: Path, as_json: bool) -> int:
    """A run that is already finished."""
    from nuppl.cli.show import result_file, show_posterior
    from nuppl.results.metadata import metadata
    from nuppl.results.storage import load

    groups = load(result_file(place))
    click.echo(f"{place} is finished: nothing to resume", err=True)
    return show_posterior(groups, metadata(groups), as_json)


def default_name(model: str, file: Path) -> str:
    """The folder's name: the file's, and the model's where one was named."""
    _, colon, name = model.rpartition(":")
    return f"{file.stem}-{name}" if colon and not Path(model).exists() else file.stem


def _drawn(program: Program, engine: str, settings: Settings, folder: RunFolder) -> Draws:
    from nuppl.inference.registry import engine as find

    started = time.monotonic()
    with reporting("infer") as progress:
        draws = find(engine)(program, settings, progress)
    seconds = time.monotonic() - started
    folder.log(f"{engine} took {seconds:.1f} s")
    return replace(draws, attrs={**draws.attrs, "seconds": seconds})


def _write(folder: RunFolder, program: Program, draws: Draws, seed: int) -> tuple[Verdict, list[Summary]]:
    from nuppl.diagnostics.verdict import judge
    from nuppl.report.page import render
    from nuppl.results.schema import inferred
    from nuppl.results.summary import summarize_result

    groups = {**inferred(program, draws, seed), **_impacts(folder, program, draws)}
    folder.save(groups)
    rows = summarize_result(groups)
    verdict = judge(groups, rows)
    try:
        render(groups, folder.report, folder.record["command"], verdict, rows)
    except Exception as error:
        # The draws are worth more than their picture: the run is finished, and the reason kept with it.
        folder.log(traceback.format_exc())
        click.echo(f"warning: the report could not be drawn ({error}); log.txt in the run says why", err=True)
    shown = [row for row in rows if row.site in program.interest]
    return verdict, shown


def _impacts(folder: RunFolder, program: Program, draws: Draws) -> dict[str, xr.Dataset]:
    """Which measurement the errors of the interest come from, to first order at the posterior mean."""
    from nuppl.optimize.expansion import expand_quickly
    from nuppl.optimize.impacts import impacts
    from nuppl.results.impacts import impacts_group

    if not any(site.kind == "pull" for site in program.latents.values()):
        return {}
    try:
        mean = {name: value.mean((0, 1)) for name, value in draws.values.items()}
        return {"impacts": impacts_group(impacts(expand_quickly(program, mean)).plain())}
    except InputError as error:
        folder.log(str(error))
        return {}


def machine(rows: list[Summary], verdict: Verdict, attrs: Mapping[str, Any]) -> dict[str, Any]:
    """The result as JSON-ready numbers."""
    return {
        "parameters": {
            row.name: {
                "value": row.mean,
                "error": row.sd,
                "lower": row.lower,
                "upper": row.upper,
                "unit": row.unit,
            }
            for row in rows
        },
        "statistic": attrs.get("log_evidence"),
        "engine": {name: _number(value) for name, value in attrs.items()},
        "verdict": verdict.to_json(),
    }


def _number(value: Any) -> Any:
    """JSON has no infinities."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def table(rows: list[Summary], verdict: Verdict, attrs: Mapping[str, Any]) -> str:
    """The result for people."""
    from nuppl.results.numbers import format_interval, format_measurement

    lines = []
    for row in rows:
        interval = format_interval(row.median, row.lower, row.upper)
        unit = f" {row.unit}" if row.unit else ""
        lines.append(f"{row.name} = {format_measurement(row.mean, row.sd)}{unit}   68 %: {interval}")
    if "log_evidence" in attrs:
        lines.append(f"log evidence = {format_measurement(attrs['log_evidence'], attrs['log_evidence_error'])}")
    if "efficiency" in attrs:
        lines.append(f"efficiency = {100 * attrs['efficiency']:.1f} %, Pareto k = {attrs['pareto_k']:.2f}")
    lines.append(verdict.sentence())
    lines.extend(f"  {line}" for line in verdict.lines())
    return "\n".join(lines)
