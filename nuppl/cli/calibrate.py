"""`nuppl calibrate`: whether the posteriors of a run's engine, or network, hold the truth as often as they say."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nuppl.cli.options import json_option, program_from, seed_option
from nuppl.cli.progress import reporting
from nuppl.errors import InputError

if TYPE_CHECKING:
    import xarray as xr

    from nuppl.diagnostics.calibration import Asked
    from nuppl.diagnostics.verdict import Verdict
    from nuppl.language.program import Program
    from nuppl.learning.posteriors import Posteriors
    from nuppl.results.amended import Amended
    from nuppl.sampling.settings import Settings
    from nuppl.typing import Progress

__all__ = ["calibrate"]

NETWORK_SETS, ENGINE_SETS = 500, 50
"""Data sets by default, for a network that serves many at once and for an engine that is repeated."""

NAME = "calibration"
"""Of the folder for states, and of the group."""

_WEIGHTED_DRAWS = 400


@click.command()
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@click.option(
    "-n",
    "--datasets",
    type=click.IntRange(max=10**6),
    help=f"Simulated data sets.  [default: {NETWORK_SETS} for a network, {ENGINE_SETS} for another engine]",
)
@click.option(
    "--draws", default=99, show_default=True, type=click.IntRange(max=10**5), help="Posterior draws of each data set."
)
@click.option(
    "--weighted",
    default=0,
    show_default=True,
    type=click.IntRange(0, 10**6),
    metavar="N",
    help="Of a network whose program has a density: repeat the whole engine, weights and all, on N of the data sets.",
)
@seed_option
@json_option
def calibrate(run: Path, datasets: int | None, draws: int, weighted: int, seed: int, as_json: bool) -> int:
    """Test the posteriors of RUN, a finished run of nuppl infer, on data that its program simulates.

    The network of npe, fmpe or npse answers for many data sets at once; any other engine is repeated on each. Adds the
    group `calibration` to the result and draws the report anew. Interrupted, it goes on when it is called again.
    """
    with redirect_stdout(sys.stderr):
        group, verdict = _calibrated(run, datasets, draws, weighted, seed)
    click.echo(json.dumps(_machine(group, verdict)) if as_json else _table(group, verdict))
    return 0 if verdict.trusted else 4


@dataclass(frozen=True)
class _Opened:
    """A run as it can be repeated; `network` is the folder of what was trained."""

    program: Program
    engine: str
    settings: Settings
    network: Path | None


def _calibrated(run: Path, datasets: int | None, draws: int, weighted: int, seed: int) -> tuple[xr.Dataset, Verdict]:
    from nuppl.diagnostics.calibration import Asked
    from nuppl.diagnostics.checks_calibration import calibration_checks
    from nuppl.diagnostics.verdict import Verdict
    from nuppl.results.amended import Amended, finished_run

    opened = _opened(run, finished_run(run))
    served = _serves(opened)
    asked = Asked(datasets or (NETWORK_SETS if served else ENGINE_SETS), draws, seed)
    if datasets is not None:
        asked = replace(asked, datasets=datasets)
    counts = {"network": asked.datasets, "weighted": weighted} if served else {opened.engine: asked.datasets}
    counts = {name: count for name, count in counts.items() if count}
    _check(opened, counts)
    work = Amended.begin(run, NAME, {**asdict(asked), "counts": counts, "network": _digest(opened.network)})
    if work.resumed:
        click.echo("calibrate goes on where one was interrupted", err=True)
    try:
        group = _carried_out(work, opened, asked, counts)
        work.finish(f"calibrated on {asked.datasets} data sets")
    except BaseException as error:
        if work.leave(keep=not isinstance(error, InputError)):
            click.echo("what was done is kept; the same command goes on", err=True)
        raise
    checks = tuple(calibration_checks(group, weighted="weighted" in counts))
    return group, Verdict(all(check.passed or not check.serious for check in checks), checks)


def _opened(run: Path, said: Mapping[str, Any]) -> _Opened:
    """The program, engine and settings of a run.

    Raises:
        InputError: the model file or its data are not what they were, or the network is gone.
    """
    from nuppl.inference.registry import engine as find
    from nuppl.inference.registry import resolved
    from nuppl.results.metadata import data_sha256
    from nuppl.results.record import model_of
    from nuppl.sampling.settings import GUIDE, GUIDES, Settings

    file, note = model_of(run / "run.json", said)
    if note:
        click.echo(f"note: {note}", err=True)
    program, _ = program_from(f"{file}:{said['model']}", said.get("set", ()), said.get("option", ()))
    if data_sha256(program) != said.get("data_sha256"):
        raise InputError(
            f"run {str(run)!r}: the program has changed since: its data are not those of the run; repeat the run, then "
            "calibrate it"
        )
    engine, guide = str(said.get("engine")), str(said.get("guide", "laplace"))
    find(engine)
    if said.get("rounds", 1) > 1:
        raise InputError(
            f"run {str(run)!r}: its network learned in rounds and serves its own data only, so it cannot be calibrated "
            "on others: expected a run with --rounds 1"
        )
    network = run if (run / GUIDE).is_file() else None if guide in GUIDES else Path(guide)
    kept = {each.name: said[each.name] for each in fields(Settings) if each.name in said}
    settings = resolved(engine, Settings(**{**kept, "guide": str(network) if network else guide}))
    _check_network(run, engine, network, said)
    return _Opened(program, engine, settings, network)


def _check_network(run: Path, engine: str, network: Path | None, said: Mapping[str, Any]) -> None:
    from nuppl.inference.registry import ENGINES

    if network is None and ENGINES[engine].module in ("neural", "surrogates"):
        raise InputError(
            f"run {str(run)!r} of {engine} holds no network: expected guide.json and guide.pt in it, found none; "
            "repeat the run"
        )
    if network is not None and "guide_sha256" in said and _digest(network) != said["guide_sha256"]:
        raise InputError(f"run {str(run)!r}: the network in {str(network)!r} is not the one it used; repeat the run")


def _digest(network: Path | None) -> str:
    from nuppl.results.metadata import sha256

    if network is None:
        return ""
    if not (network / "guide.pt").is_file():
        raise InputError(f"network {str(network)!r}: expected guide.pt beside guide.json, found none; repeat the run")
    return sha256(network / "guide.pt")


def _serves(opened: _Opened) -> bool:
    """Whether a network answers for many data sets at once."""
    from nuppl.inference.registry import ENGINES

    return ENGINES[opened.engine].module in ("neural", "surrogates")


def _check(opened: _Opened, counts: Mapping[str, int]) -> None:
    from nuppl.diagnostics.calibration import Asked

    for count in counts.values():
        Asked(count)
    if "weighted" in counts and not _exact(opened.program):
        raise InputError("--weighted: a data site is a simulator, so there are no weights; leave it away")


def _exact(program: Program) -> bool:
    return all(site.has_density for site in program.data_sites.values())


def _carried_out(work: Amended, opened: _Opened, asked: Asked, counts: Mapping[str, int]) -> xr.Dataset:
    """The group, which is in the result when this returns."""
    from nuppl.cli.reading import reading
    from nuppl.diagnostics.calibration import calibrate as carry_out
    from nuppl.diagnostics.verdict import judge
    from nuppl.language.precision import double_precision
    from nuppl.results.summary import summarize_result

    with reporting("calibrate") as progress, double_precision():
        methods = {name: (_posteriors(name, opened, progress), count) for name, count in counts.items()}
        group = carry_out(opened.program, methods, asked, work.store, progress)
    with reading(work.path) as (_, groups):
        amended = {**groups, NAME: group}
        rows = summarize_result(amended)
        verdict = judge(amended, rows)
        work.save(amended, verdict=verdict.to_json())
        _draw(work.path, amended, verdict, rows)
    return group


def _posteriors(name: str, opened: _Opened, progress: Progress) -> Posteriors:
    from nuppl.inference.registry import ENGINES
    from nuppl.inference.registry import engine as find
    from nuppl.language.density import Whitened
    from nuppl.learning.neural_files import restore
    from nuppl.learning.posteriors import NetworkPosteriors, RepeatedEngine
    from nuppl.learning.surrogate_draws import SurrogatePosteriors
    from nuppl.learning.surrogate_files import restore_learned

    if name == "network" and opened.network is not None:
        whitened = Whitened(opened.program) if _exact(opened.program) else None
        if ENGINES[opened.engine].module == "surrogates":
            learned = restore_learned(opened.network, opened.engine, opened.program, whitened)
            return SurrogatePosteriors(learned, opened.program)
        amortised = restore(opened.network, opened.engine, opened.program, whitened)
        return NetworkPosteriors(amortised, opened.program, whitened)
    settings = opened.settings
    if name == "weighted" or opened.engine == "importance":
        # Batches of proposals are independent: one is as good a test as several.
        chains = 2 if ENGINES[opened.engine].module == "surrogates" else 1
        settings = replace(settings, chains=chains, draws=_WEIGHTED_DRAWS // chains)
    return RepeatedEngine(find(opened.engine), opened.program, settings)


def _draw(path: Path, groups: Mapping[str, xr.Dataset], verdict: Verdict, rows: Any) -> None:
    from nuppl.report.page import render
    from nuppl.results.record import read_settings

    try:
        render(groups, path / "report.html", str(read_settings(path / "run.json").get("command", "")), verdict, rows)
    except OSError:
        raise
    except Exception as error:
        with (path / "log.txt").open("a", encoding="utf-8") as log:
            log.write(traceback.format_exc())
        click.echo(f"warning: the report could not be drawn ({error}); log.txt in the run says why", err=True)


def _machine(group: xr.Dataset, verdict: Verdict) -> dict[str, Any]:
    """The calibration as JSON-ready numbers."""
    methods = {}
    for number, name in enumerate(map(str, group["method"].values)):
        found = group.isel(method=number)
        p_values = zip(found["test"].values, found["quantity"].values, found["p_value"].values, strict=True)
        methods[name] = {
            "datasets": int(found["datasets"]),
            "failed": int(found["failed"]),
            "p_values": [{"test": str(t), "quantity": str(q), "p": float(p)} for t, q, p in p_values if p == p],
            "local_p": float(found["local_p"]),
        }
    said = {name: value.item() if hasattr(value, "item") else value for name, value in group.attrs.items()}
    return {**said, "methods": methods, "observed_p": float(group["observed_p"]), "verdict": verdict.to_json()}


def _table(group: xr.Dataset, verdict: Verdict) -> str:
    """The calibration for people."""
    sizes = zip(group["method"].values, group["datasets"].values, group["failed"].values, strict=True)
    lines = [
        f"{name}: {size} simulated data sets, {int(group.attrs['draws'])} draws each"
        + (f"; {failed} more without a posterior" if failed else "")
        for name, size, failed in sizes
    ]
    lines += [f"  {check.name} = {check.value:.3g}{'' if check.passed else '  FAILED'}" for check in verdict.checks]
    bad = [check.name for check in (*verdict.failed, *verdict.cautions)]
    rate = f"a right posterior fails one with a probability of at most {100 * group.attrs['false_alarm']:g} %"
    if bad:
        lines.append(f"Not calibrated: {len(bad)} of {len(verdict.checks)} tests failed ({rate}).")
    else:
        lines.append(f"Calibrated: all {len(verdict.checks)} tests passed ({rate}).")
    return "\n".join([*lines, *(f"  {line}" for line in verdict.lines())])
