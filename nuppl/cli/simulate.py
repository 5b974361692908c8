"""`nuppl simulate`: pseudo-experiments, or the expected data."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nuppl.cli.options import Count, json_option, output_file, program_from, program_options, seed_option
from nuppl.cli.simulating import Asked, added, merged, told
from nuppl.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from nuppl.language.program import Program

__all__ = ["simulate"]


@click.command()
@click.argument("sources", metavar="FILE[:MODEL]", nargs=-1, required=True)
@program_options
@click.option("--asimov", is_flag=True, help="The expected data instead of draws.")
@click.option("-n", "count", type=Count(min=1), help="Number of pseudo-experiments, such as 1e6.  [default: 1]")
@click.option("--processes", default=1, show_default=True, type=click.IntRange(1, 1024), help="That share the work.")
@click.option("--merge", is_flag=True, help="Put folders of simulations, given instead of FILE, together.")
@click.option("--out", type=click.Path(), help="Where to write: a file, or FOLDER/ for a store of simulations.")
@click.option("--overwrite", is_flag=True, help="Replace a finished result.")
@seed_option
@json_option
@click.pass_context
def simulate(
    context: click.Context,
    /,
    sources: tuple[str, ...],
    fixed: tuple[str, ...],
    options: tuple[str, ...],
    asimov: bool,
    count: int | None,
    processes: int,
    merge: bool,
    out: str | None,
    overwrite: bool,
    seed: int,
    as_json: bool,
) -> int:
    """Draw pseudo-experiments of FILE[:MODEL], or with --asimov write its expected data.

    What is not --set is drawn from its prior, or with --asimov kept at its nominal value. Values outside the prior
    are allowed here.

    With --out FOLDER/ simulations are kept in tiles, larger than memory, for `nuppl infer --simulations FOLDER`. The
    same command again goes on after an interruption; with a larger -n it adds to what is there.
    """
    if asimov and count is not None:
        raise InputError("simulate: --asimov gives the one expected data set; leave -n away")
    if merge:
        if out is None or asimov or count is not None or fixed or options:
            raise InputError("simulate: --merge takes folders of simulations and --out FOLDER, and nothing else")
        return told(merged(sources, Path(out), overwrite), as_json)
    if len(sources) > 1:
        raise InputError(f"simulate: expected one model file, got {', '.join(sources)}; --merge takes folders")
    if out is not None and not asimov and (out.endswith("/") or Path(out).is_dir()):
        given = context.get_parameter_source("seed") != click.core.ParameterSource.DEFAULT
        asked = Asked(sources[0], fixed, options)
        return told(added(asked, Path(out), count or 1, seed if given else None, processes, overwrite), as_json)
    program, file = program_from(sources[0], fixed, options, outside=True)
    target = output_file(Path(out or f"{file.stem}-{'asimov' if asimov else 'simulated'}.nc"), overwrite)
    used = _asimov(program, target) if asimov else _draw(program, target, count or 1, seed)
    if as_json:
        click.echo(json.dumps({"out": str(target), "parameters": used}))
    else:
        for name, value in used.items():
            click.echo(f"{name} = {value}")
        click.echo(f"wrote {target}", err=True)
    return 0


def _asimov(program: Program, target: Path) -> dict[str, object]:
    from nuppl.language.simulation import asimov
    from nuppl.results.schema import expected
    from nuppl.results.storage import save

    means = asimov(program)
    for name, mean in means.items():
        if not bool(mean.isfinite().all()):
            raise InputError(f"expected data of {name!r} are not finite at these values; change --set")
    save(expected(program, means), target)
    point = {**program.nominal(), **program.fixed}
    return {
        name: point[name].squeeze().tolist() for name in program.sites if name in point and _worth_telling(point[name])
    }


def _draw(program: Program, target: Path, count: int, seed: int) -> dict[str, object]:
    from nuppl.language import simulation
    from nuppl.results.schema import simulated
    from nuppl.results.storage import save

    _check_room(program, count)
    drawn = simulation.simulate(program, count, seed=seed)
    save(simulated(program, drawn, seed), target)
    failed = {name: int(drawn[name].reshape(count, -1).isnan().any(-1).sum()) for name in program.data_sites}
    for name, lost in failed.items():
        if lost:
            click.echo(f"warning: {lost} of {count} simulations of {name} failed (NaN)", err=True)
    return {name: value.squeeze().tolist() for name, value in program.fixed.items()}


def _check_room(program: Program, count: int) -> None:
    """Draws are held in memory until they are written."""
    each = 8 * sum(site.size for site in program.sites.values())
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if count * each > memory:
        raise InputError(
            f"-n: expected at most {memory // each} pseudo-experiments, whose {each} bytes each fit into memory, got "
            f"{count}; draw them into a folder, --out FOLDER/"
        )


def _worth_telling(value: Tensor) -> bool:
    """Scalars, and vectors that are not all zero: a thousand pulls at their centres are one fact, not a thousand."""
    return value.numel() == 1 or bool((value != 0).any())
