"""`nuppl infer`: the posterior of a model, as a run folder with result, report and verdict."""

from __future__ import annotations

import json
import math
import shlex
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nuppl.cli.options import CountOrFolder, json_option, out_option, program_options, seed_option
from nuppl.cli.scanning import Asked, blind_options
from nuppl.errors import InputError
from nuppl.inference.registry import DEFAULT, ENGINES
from nuppl.sampling.settings import OWN

if TYPE_CHECKING:
    from nuppl.diagnostics.verdict import Verdict
    from nuppl.language.program import Program
    from nuppl.results.run import RunFolder
    from nuppl.results.summary import Summary
    from nuppl.sampling.settings import Settings

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
    help="Whose draws importance weights: laplace, tempered, svi or prior; or a run of a neural engine, to use its "
    "network without training.",
)
@click.option("--chains", type=AT_LEAST_ONE, help="Independent chains, islands, or batches of proposals.")
@click.option("--draws", type=AT_LEAST_ONE, help="Draws kept per chain.")
@click.option("--warmup", type=AT_LEAST_ONE, help="Steps of adaptation (hmc, nuts, svi).")
@click.option(
    "--proposals",
    default=2500,
    show_default=True,
    type=click.IntRange(max=10**9),
    help="Proposals per chain (importance, npe, fmpe, npse).",
)
@click.option(
    "--particles", default=128, show_default=True, type=click.IntRange(max=10**9), help="Particles per island (smc)."
)
@click.option(
    "--simulations",
    default=10_000,
    show_default=True,
    type=CountOrFolder(max=10**9),
    help="From which a network learns: a number, or a folder that nuppl simulate wrote (neural engines).",
)
@click.option(
    "--epochs",
    default=0,
    type=click.IntRange(0, 10**6),
    help="Passes over them; by default until nothing is gained (neural engines).",
)
@click.option(
    "--ensemble",
    default=1,
    show_default=True,
    type=click.IntRange(max=1000),
    help="Networks whose mixture is used (neural engines).",
)
@click.option(
    "--rounds",
    default=1,
    show_default=True,
    type=click.IntRange(max=1000),
    help="Rounds of simulations, each nearer to the posterior of these data; the network then serves no others (neural "
    "engines).",
)
@click.option(
    "--marginalize", default="auto", show_default=True, help="Sites to integrate in closed form: auto, none, or names."
)
@click.option("--from", "source", type=click.Path(path_type=Path), help="Repeat a run: its run.json or its folder.")
@click.option("--resume", is_flag=True, help="Go on where an interrupted run stopped.")
@blind_options
@out_option
@seed_option
@json_option
@click.pass_context
def infer(context: click.Context, /, source: Path | None, as_json: bool, resume: bool, **given: Any) -> int:
    """Draw from the posterior of FILE[:MODEL]; writes runs/FILE/ with result, report and verdict.

    An interrupted run, killed or not, goes on with --resume and ends as if nothing had happened.
    """
    from nuppl.cli.running import carried_out
    from nuppl.results.run import finished

    asked = {**given, **_stored(context, source)} if source else given
    _check_guide(context, asked)
    if not asked["model"]:
        raise InputError("infer: expected a model file, or --from with a run to repeat; got neither")
    with redirect_stdout(sys.stderr):  # whatever a model prints: stdout is for results
        program, file, engine, settings, determines = _resolved(asked)
        place = asked["out"] or Path("runs") / default_name(asked["model"], file)
        done = resume and finished(place, file, determines)
        if not done:
            folder = _begun(place, file, determines, asked["overwrite"], resume)
            rows, verdict, attrs = carried_out(folder, program, engine, settings)
    if done:
        return _shown(place, as_json)
    click.echo(json.dumps(machine(rows, verdict, attrs)) if as_json else table(rows, verdict, attrs))
    report = folder.path / "report.html"
    said = f"report: {report}" if report.exists() else f"result: {folder.path}"
    click.echo(f"inference took {attrs['seconds']:.1f} s; {said}", err=True)
    return 0 if verdict.trusted else NOT_TRUSTED


def _check_guide(context: click.Context, asked: Mapping[str, Any]) -> None:
    """That nobody names the guide of importance where a network is trained; its default stands for none there."""
    from nuppl.sampling.settings import GUIDES

    named = context.get_parameter_source("guide") == click.core.ParameterSource.COMMANDLINE
    engine = ENGINES.get(asked["engine"])
    if named and asked["guide"] in GUIDES and engine is not None and engine.module in ("neural", "surrogates"):
        raise InputError(
            f"--guide {asked['guide']}: {asked['engine']} trains a network of its own: expected no guide, or a run of "
            f"{asked['engine']}; --engine importance weights the draws of {asked['guide']!r}"
        )


def _begun(place: Path, file: Path, determines: Mapping[str, Any], overwrite: bool, resume: bool) -> RunFolder:
    import torch

    from nuppl.results.run import RunFolder

    command = shlex.join(["nuppl", *sys.argv[1:]])
    said = {"command": command, "model_path": str(file.absolute()), "threads": torch.get_num_threads()}
    folder = RunFolder.begin(place, file, determines, said, overwrite, resume)
    if folder.notes:
        click.echo(f"note: {'; '.join(folder.notes)}: numbers may differ from those of a run left alone", err=True)
    return folder


def _resolved(asked: Mapping[str, Any]) -> tuple[Program, Path, str, Settings, dict[str, Any]]:
    """Program, model file, engine, settings, and all that determines the result, JSON-ready."""
    from nuppl.inference.registry import choose, resolved
    from nuppl.inference.registry import engine as find
    from nuppl.results.metadata import data_sha256
    from nuppl.sampling.settings import GUIDES, Settings

    chosen: dict[str, Any] = {each.name: asked[each.name] for each in fields(Settings) if each.name in asked}
    chosen |= {name: chosen[name] or 0 for name in OWN}
    settings = Settings(**chosen)
    if asked["engine"] != DEFAULT:
        find(asked["engine"])
    program, file, blind = Asked.of(asked["model"], asked).resolved()
    engine = asked["engine"] if asked["engine"] != DEFAULT else choose(program)
    trained = {}
    if settings.guide not in GUIDES:
        engine, trained["guide_sha256"] = _trained(settings.guide, asked["engine"])
    if isinstance(settings.simulations, str):
        trained["simulations_sha256"] = _simulated(settings.simulations, program)
    settings = resolved(engine, settings)
    determines = {
        "model": program.model.name,
        "set": list(asked["fixed"]),
        "option": list(asked["options"]),
        "data_sha256": data_sha256(program),
        "engine": engine,
        **{name: getattr(settings, name) for name in chosen},
        **trained,
        **({"blind": asked["blind"], "at": asked["at"], "blind_data": blind} if blind else {}),
    }
    return program, file, engine, settings, determines


def _trained(guide: str, engine: str) -> tuple[str, str]:
    """The engine of a run that trained a network, and the network's SHA-256."""
    from nuppl.learning.neural_files import read_guide
    from nuppl.results.metadata import sha256

    own = str(read_guide(Path(guide))["config"]["estimator"])
    if engine not in (DEFAULT, own):
        raise InputError(f"guide {guide!r} is a trained {own}: expected --engine {own} or none, got {engine}")
    return own, sha256(Path(guide) / "guide.pt")


def _simulated(folder: str, program: Program) -> str:
    """The SHA-256 of a store of simulations, which must be of the program."""
    from nuppl.results.simulations import SimulationStore, digest

    SimulationStore.open(folder).check(SimulationStore.of_program(program))
    return digest(folder)


def _stored(context: click.Context, source: Path) -> dict[str, Any]:
    """The settings of another run, where nothing else was said on the command line."""
    from nuppl.results.record import model_of, read_settings

    file = source / "run.json" if source.is_dir() else source
    found = read_settings(file)
    model, note = model_of(file, found)
    if note:
        click.echo(f"note: {note}", err=True)
    named = f":{found['model']}" if "model" in found else ""
    stored = {**found, "fixed": found.get("set"), "options": found.get("option"), "model": f"{model}{named}"}
    # An engine that has no use for a number of these stores 0.
    stored |= {name: stored.get(name) or None for name in OWN}
    default = click.core.ParameterSource.DEFAULT
    if context.get_parameter_source("engine") != default and context.params["engine"] != stored.get("engine"):
        stored.pop("guide", None)  # it was another engine's
    return {
        name: _checked(context, option, stored[name], file)
        for option in context.command.params
        if (name := str(option.name)) in stored and context.get_parameter_source(name) == default
    }


def _checked(context: click.Context, option: click.Parameter, value: Any, file: Path) -> Any:
    """A stored setting, as strictly as one on the command line: people edit files."""
    try:
        return option.type_cast_value(context, value)
    except (click.BadParameter, TypeError) as error:
        raise InputError(f"settings {str(file)!r}: {option.name}: expected what --help says, but {error}") from error


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
