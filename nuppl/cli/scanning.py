"""What `nuppl scan` does besides the scan: blind data, a null hypothesis, sensitivity, processes, others' toys."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from nuppl.cli.options import Count, assignments, program_from
from nuppl.cli.reading import reading
from nuppl.errors import InputError

if TYPE_CHECKING:
    import xarray as xr
    from torch import Tensor

    from nuppl.frequentist.profile import Profile
    from nuppl.frequentist.scan import Earlier
    from nuppl.frequentist.workers import Workers
    from nuppl.language.program import Program
    from nuppl.results.checkpoints import Checkpoints
    from nuppl.typing import Progress

__all__ = ["Asked", "blind_options", "earlier_toys", "extended", "more_options", "one_thread", "point", "settings"]

F = TypeVar("F", bound=Callable[..., Any])


def blind_options(command: F) -> F:
    """--blind and --at."""
    command = click.option(
        "--at", metavar="NAME=VALUE,...", help="Where blind data and sensitivity are; else nominal."
    )(command)
    return click.option(
        "--blind",
        is_flag=False,
        flag_value="asimov",
        type=click.Choice(["asimov", "toy"]),
        help="Put pseudo-data in place of the real ones: as expected (asimov), or one draw (toy).",
    )(command)


def more_options(command: F) -> F:
    """The options of this module."""
    for option in (
        click.option("--merge", multiple=True, type=click.Path(path_type=Path), help="Scans whose toys count as well."),
        click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 4096), help="Processes."),
        click.option("--sensitivity", type=Count(0, 10**7), metavar="N", help="Expected result, from N experiments."),
        click.option("--null", metavar="NAME=VALUE,...", help="A hypothesis: its p-value, by toys if there are any."),
        blind_options,
    ):
        command = option(command)
    return command


def settings(asked: Mapping[str, Any]) -> dict[str, Any]:
    """What of these options determines the result."""
    found = {name: asked[name] for name in ("null", "sensitivity", "blind", "at")}
    return {**found, "merge": [str(folder) for folder in asked["merge"]] or None}


class Asked(NamedTuple):
    """What a process needs to build the program, pseudo-data included."""

    model: str
    fixed: tuple[str, ...]
    options: tuple[str, ...]
    blind: str | None
    at: str | None
    seed: int

    @classmethod
    def of(cls, model: str, asked: Mapping[str, Any]) -> Asked:
        """From the command line."""
        at = asked["at"] or (asked.get("null") if asked["blind"] else None)
        return cls(model, tuple(asked["fixed"]), tuple(asked["options"]), asked["blind"], at, asked["seed"])

    def resolved(self) -> tuple[Program, Path, str]:
        """The program, its file, and in words which data took the place of the real ones; "" for none."""
        program, file = program_from(self.model, self.fixed, self.options)
        if self.blind is None:
            return program, file, ""
        from nuppl.frequentist.sensitivity import pseudo_data

        truth = true_values(program, self.at)
        data = pseudo_data(program, self.blind, truth, self.seed)
        what = "the data that are expected" if self.blind == "asimov" else "one pseudo-experiment"
        return program.with_(data=data), file, f"{what} {_where(self.at)}"

    def program(self) -> Program:
        """The program."""
        return self.resolved()[0]


def _where(at: str | None) -> str:
    return f"at {at.replace('=', ' = ').replace(',', ', ')}" if at else "at the nominal point"


def true_values(program: Program, at: str | None) -> dict[str, Tensor]:
    """Every free latent at its nominal value, but for those that are given."""
    import torch

    from nuppl.frequentist.hypothesis import check_point
    from nuppl.language.density import Natural

    given = point(at, "--at") if at else {}
    if given:
        check_point(Natural(program), given, "at")
    return {**program.nominal(), **{name: torch.tensor(v, dtype=torch.float64) for name, v in given.items()}}


def point(text: str, flag: str) -> dict[str, float]:
    """{name: value} of NAME=VALUE,NAME=VALUE.

    >>> point("sin2_2theta14=0", "--null")
    {'sin2_2theta14': 0.0}
    """
    found = {}
    for name, value in assignments(text.split(","), flag).items():
        try:
            found[name] = float(value)
        except ValueError:
            raise InputError(f"{flag} {name}: expected a number, got {value!r}") from None
        if not math.isfinite(found[name]):
            raise InputError(f"{flag} {name}: expected a finite number, got {value!r}")
    return found


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums over several threads may differ in the last digit, and a scan shall not depend on the machine."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def earlier_toys(folders: Sequence[Path], profile: Profile, determines: Mapping[str, Any]) -> tuple[Any, list[int]]:
    """Toys of finished scans, to count with those of this one, and their seeds.

    Raises:
        InputError: a scan of another model, other data or another grid, without toys, or whose toys count already.
    """
    import torch

    from nuppl.frequentist.scan import Earlier
    from nuppl.results.scan_more import seeds_of

    parts, seeds = [], []
    taken = {determines["seed"]: "this scan"} if determines["toys"] else {}
    for folder in folders:
        with reading(folder) as (_, groups):
            parts.append(_earlier(folder, groups, profile, determines))
            for seed in seeds_of(groups["scan"]):
                if seed in taken:
                    raise InputError(
                        f"--merge {str(folder)!r}: its toys have the seed {seed}, as those of {taken[seed]}, and are "
                        "the same; expected other ones: repeat one of the two with another --seed"
                    )
                taken[seed] = str(folder)
                seeds.append(seed)
    if not parts:
        return None, seeds
    return Earlier(torch.cat([part.statistic for part in parts], 1), sum(part.failed for part in parts)), seeds  # type: ignore[arg-type]


def _earlier(folder: Path, groups: dict[str, xr.Dataset], profile: Profile, here: Mapping[str, Any]) -> Earlier:
    import torch

    from nuppl.frequentist.scan import Earlier

    def refused(expected: str) -> InputError:
        return InputError(f"--merge {str(folder)!r}: expected {expected}")

    if "scan" not in groups or "toy_statistic" not in groups["scan"]:
        raise refused("a finished scan with toys (--toys), found another result")
    scan, said = groups["scan"], groups["/"].attrs
    if said["model"] != here["model"] or said["data_sha256"] != here["data_sha256"]:
        raise refused(f"a scan of the model {here['model']!r} with the same data, got one of {said['model']!r}")
    grid = profile.grid
    same = all(
        name in scan and scan[name].shape == axis.values.shape for name, axis in zip(grid.names, grid.axes, strict=True)
    )
    if not same or any(
        abs(scan[a.name].values - a.values.numpy()).max() > 1e-12 * a.values.abs().max() for a in grid.axes
    ):
        raise refused("a scan over the same grid")
    there = torch.from_numpy(scan["statistic"].values.reshape(-1).copy())
    if bool(((there - profile.statistic).abs() > 1e-3 * (1.0 + there.abs())).any()):
        raise refused("a scan with the same statistic at every point: were options, held sites or the model others?")
    toys = torch.from_numpy(scan["toy_statistic"].values.reshape(grid.size, -1).copy())
    return Earlier(toys, torch.from_numpy(scan["failed_toys"].values.reshape(-1).copy()).long())


def extended(
    scan: xr.Dataset,
    profile: Profile,
    asked: Mapping[str, Any],
    workers: Workers,
    store: Checkpoints,
    progress: Progress,
) -> xr.Dataset:
    """A scan with its hypothesis and its sensitivity, as far as they were asked for."""
    if asked["null"]:
        scan = _with_null(scan, profile, asked, workers, store, progress)
    if asked["sensitivity"] is not None:
        scan = _with_sensitivity(scan, profile, asked, workers, store, progress)
    return scan


def _with_null(
    scan: xr.Dataset,
    profile: Profile,
    asked: Mapping[str, Any],
    workers: Workers,
    store: Checkpoints,
    progress: Progress,
) -> xr.Dataset:
    import torch
    from scipy.stats import chi2

    from nuppl.frequentist.critical import p_value
    from nuppl.frequentist.hypothesis import hypothesis
    from nuppl.frequentist.refined import refined
    from nuppl.frequentist.scan import null_toys
    from nuppl.frequentist.toys import Thrower
    from nuppl.results.scan_more import with_null

    values = point(asked["null"], "--null")
    found = hypothesis(profile, values)
    count = len({*profile.grid.names, *values})
    said: dict[str, Any] = {"values": values, "statistic": found.statistic, "parameters": count}
    said["wilks_p_value"] = float(chi2.sf(found.statistic, count))
    if not asked["toys"]:
        return with_null(scan, said, None)
    thrower = Thrower.of(refined(profile), asked["seed"])
    t, failed = null_toys(found, thrower, asked["toys"], store=store, spread=workers.spread, progress=progress)
    p, error = (float(part) for part in p_value(t, torch.tensor(found.statistic, dtype=t.dtype)))
    said |= {"p_value": p, "p_value_error": error, "toys": len(t), "failed": int(failed.sum())}
    return with_null(scan, said, t)


def _with_sensitivity(
    scan: xr.Dataset,
    profile: Profile,
    asked: Mapping[str, Any],
    workers: Workers,
    store: Checkpoints,
    progress: Progress,
) -> xr.Dataset:
    from nuppl.frequentist.sensitivity import sensitivity
    from nuppl.results.scan_more import with_sensitivity

    where = asked["at"] or asked["null"]
    truth = true_values(profile.likelihoods.natural.program, where)
    found = sensitivity(
        profile,
        truth,
        asked["sensitivity"],
        seed=asked["seed"],
        store=store,
        spread=workers.spread,
        progress=progress,
    )
    said = {"at": dict(found.at), "words": _where(where), "toys": len(found.experiments), "failed": found.failed}
    return with_sensitivity(scan, said, found.asimov, found.experiments)
