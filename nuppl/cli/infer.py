"""`nuppl infer`: the posterior of a model, as a run folder with result, report and verdict."""

from __future__ import annotations

import json
import math
import shlex
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nuppl.cli.options import json_option, model_options, out_option, program_from, seed_option
from nuppl.cli.progress import reporting
from nuppl.errors import InputError
from nuppl.inference.registry import DEFAULT, ENGINES
from nuppl.inference.settings import OWN

if TYPE_CHECKING:
    from nuppl.diagnostics.verdict import Verdict
    from nuppl.results.summary import Summary

__all__ = ["infer"]

NOT_TRUSTED = 4

AT_LEAST_ONE = click.IntRange(min=1)


@click.command()
@model_options
@click.option("--engine", default=DEFAULT, show_default=True, help="auto, " + ", ".join(ENGINES) + ".")
@click.option("--guide", default="laplace", show_default=True, help="Whose draws importance weights.")
@click.option("--chains", type=AT_LEAST_ONE, help="Independent chains, islands, or batches of proposals.")
@click.option("--draws", type=AT_LEAST_ONE, help="Draws kept per chain.")
@click.option("--warmup", type=AT_LEAST_ONE, help="Steps of adaptation (hmc, nuts, svi).")
@click.option("--proposals", default=2500, show_default=True, type=int, help="Proposals per chain (importance).")
@click.option("--particles", default=128, show_default=True, type=int, help="Particles per island (smc).")
@click.option(
    "--marginalize", default="auto", show_default=True, help="Sites to integrate in closed form: auto, none, or names."
)
@out_option
@seed_option
@json_option
def infer(
    model: str,
    fixed: tuple[str, ...],
    options: tuple[str, ...],
    engine: str,
    out: Path | None,
    overwrite: bool,
    seed: int,
    as_json: bool,
    **choices: Any,
) -> int:
    """Draw from the posterior of FILE[:MODEL]; writes runs/FILE/ with result, report and verdict."""
    from nuppl.inference.registry import choose, resolved
    from nuppl.inference.registry import engine as find
    from nuppl.inference.settings import Settings
    from nuppl.results.run import RunFolder

    given: dict[str, Any] = {name: value or 0 if name in OWN else value for name, value in choices.items()}
    settings = Settings(seed=seed, **given)
    if engine != DEFAULT:
        find(engine)
    program, file = program_from(model, fixed, options)
    engine = choose(program) if engine == DEFAULT else engine
    settings = resolved(engine, settings)
    used = {name: getattr(settings, name) for name in choices}
    asked = {"model": model, "set": list(fixed), "option": list(options), "engine": engine, "seed": seed, **used}
    command = shlex.join(["nuppl", *sys.argv[1:]])
    folder = RunFolder.create(out or Path("runs") / default_name(model, file), {"command": command, **asked}, overwrite)
    folder.copy_model(file)
    settings = replace(settings, scratch=folder.work)
    started = time.monotonic()
    try:
        with reporting("infer") as progress:
            draws = find(engine)(program, settings, progress)
    except InputError:
        folder.abandon()
        raise
    seconds = time.monotonic() - started
    draws = replace(draws, attrs={**draws.attrs, "seconds": seconds})
    folder.log(f"{engine} took {seconds:.1f} s")
    verdict, rows = _write(folder, program, draws, seed, command)
    place = folder.finish(verdict=verdict.to_json(), seconds=seconds)
    click.echo(json.dumps(machine(rows, verdict, draws.attrs)) if as_json else table(rows, verdict, draws.attrs))
    click.echo(f"inference took {seconds:.1f} s; report: {place / 'report.html'}", err=True)
    return 0 if verdict.trusted else NOT_TRUSTED


def default_name(model: str, file: Path) -> str:
    """The folder's name: the file's, and the model's where one was named."""
    _, colon, name = model.rpartition(":")
    return f"{file.stem}-{name}" if colon and not Path(model).exists() else file.stem


def _write(folder: Any, program: Any, draws: Any, seed: int, command: str) -> tuple[Verdict, list[Summary]]:
    from nuppl.diagnostics.verdict import judge
    from nuppl.report.page import render
    from nuppl.results.schema import inferred
    from nuppl.results.summary import summarize_result

    groups = inferred(program, draws, seed)
    folder.save(groups)
    rows = summarize_result(groups)
    verdict = judge(groups, rows)
    try:
        render(groups, folder.report, command, verdict, rows)
    except Exception as error:
        # The draws are worth more than their picture: the run is finished, and the reason kept with it.
        folder.log(traceback.format_exc())
        click.echo(f"warning: the report could not be drawn ({error}); log.txt in the run says why", err=True)
    shown = [row for row in rows if row.site in program.interest]
    return verdict, shown


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
        lines.append(f"log evidence = {attrs['log_evidence']:.3f} ± {attrs['log_evidence_error']:.3f}")
    if "efficiency" in attrs:
        lines.append(f"efficiency = {100 * attrs['efficiency']:.1f} %, Pareto k = {attrs['pareto_k']:.2f}")
    lines.append(verdict.sentence())
    lines.extend(f"  {check.name}: {check.advice}" for check in verdict.failed)
    return "\n".join(lines)
