"""A run from the first draw to the finished folder, or to what an interrupted one leaves."""

from __future__ import annotations

import shlex
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from nuppl.cli.progress import reporting
from nuppl.diagnostics.verdict import Verdict, judge
from nuppl.errors import InputError
from nuppl.inference.registry import engine as find
from nuppl.language.program import Program
from nuppl.results.draws import Draws
from nuppl.results.run import RunFolder, writing
from nuppl.results.summary import Summary, summarize_result
from nuppl.sampling.settings import Settings

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["carried_out", "left_in_order"]


def carried_out(
    folder: RunFolder, program: Program, engine: str, settings: Settings
) -> tuple[list[Summary], Verdict, Mapping[str, Any]]:
    """The rows to show, the verdict and the engine's numbers of a run that is in its place."""
    with left_in_order(folder):
        draws = _drawn(program, engine, replace(settings, scratch=folder.checkpoints, kept=folder.work), folder)
        verdict, rows = _write(folder, program, draws, settings.seed)
        folder.finish(verdict=verdict.to_json(), seconds=draws.attrs["seconds"])
    return rows, verdict, draws.attrs


@contextmanager
def left_in_order(folder: RunFolder) -> Iterator[None]:
    """Work on a run; if that ends early, keep what was done and say how to go on."""
    try:
        with writing(folder.path):
            yield
    except BaseException as error:
        if folder.leave(keep=_passes(error)):
            command = folder.record["command"]
            again = command if "--resume" in shlex.split(command) else f"{command} --resume"
            click.echo(f"what was done is kept; go on with: {again}", err=True)
        raise


def _passes(error: BaseException) -> bool:
    """Whether the same work may succeed another time: what the user must put right leaves nothing to go on from."""
    return not isinstance(error, InputError) or isinstance(error.__cause__, OSError | MemoryError)


def _drawn(program: Program, engine: str, settings: Settings, folder: RunFolder) -> Draws:
    started = time.monotonic()
    with reporting("infer") as progress:
        draws = find(engine)(program, settings, progress)
    seconds = time.monotonic() - started
    folder.log(f"{engine} took {seconds:.1f} s")
    return replace(draws, attrs={**draws.attrs, "seconds": seconds})


def _write(folder: RunFolder, program: Program, draws: Draws, seed: int) -> tuple[Verdict, list[Summary]]:
    from nuppl.report.page import render
    from nuppl.results.schema import inferred

    groups = {**inferred(program, draws, seed), **_impacts(folder, program, draws), **_training(folder)}
    # As it was when the run began: the file may have been edited since.
    groups["/"].attrs["model_sha256"] = folder.record["model_sha256"]
    groups["/"].attrs["blind"] = folder.record.get("blind_data", "")
    folder.save(groups)
    rows = summarize_result(groups)
    verdict = judge(groups, rows)
    try:
        render(groups, folder.report, folder.record["command"], verdict, rows)
    except OSError:
        raise  # a full disk, say: once there is room it can be drawn
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


def _training(folder: RunFolder) -> dict[str, xr.Dataset]:
    """How a network learned, where this run trained one."""
    from nuppl.results.training import training_group
    from nuppl.sampling.settings import GUIDE

    if not (folder.work / GUIDE).exists():
        return {}
    from nuppl.learning.neural_files import read_guide

    return {"training": training_group(read_guide(folder.work)["training"])}
