"""The option `--statistic` of `nuppl scan`, and the CLs of statistics that know a null hypothesis."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from nuppl.errors import InputError

if TYPE_CHECKING:
    import xarray as xr

    from nuppl.frequentist.grid import Grid
    from nuppl.frequentist.scan import Scan
    from nuppl.frequentist.statistics import Statistic
    from nuppl.language.program import Program
    from nuppl.results.checkpoints import Checkpoints
    from nuppl.typing import Progress

__all__ = ["chosen_statistic", "statistic_option", "with_exclusion"]

F = TypeVar("F", bound=Callable[..., Any])

_OF_THE_RATIO = ("null", "sensitivity", "merge")
"""Options that speak of the likelihood ratio."""


def statistic_option(command: F) -> F:
    """--statistic."""
    return click.option(
        "--statistic",
        default="likelihood-ratio",
        show_default=True,
        metavar="NAME[,KEY=VALUE...]",
        help="likelihood-ratio; q-tilde for upper limits and CLs; gaussian-cls,null=VALUES; "
        "focused,center=VALUES,width=VALUES[,shape=box]; posterior; waldo; or FILE.py:FUNCTION. VALUES of several "
        "parameters have slashes between.",
    )(command)


def chosen_statistic(program: Program, grid: Grid, asked: Mapping[str, Any]) -> tuple[Statistic, dict[str, Any]]:
    """The statistic, and what of it determines the result.

    Raises:
        InputError: there is none of that name, it cannot be used here, or it needs toys.
    """
    from nuppl.frequentist.statistics import STATISTICS, statistic
    from nuppl.results.metadata import sha256

    chosen = statistic(asked["statistic"])
    chosen.check(program, grid)
    if not asked["toys"] and chosen.kind.asymptotic is None:
        raise chosen.needs_toys()
    given = [f"--{name}" for name in _OF_THE_RATIO if asked.get(name)]
    if given and chosen.name != "likelihood-ratio":
        raise InputError(f"{given[0]}: expected the statistic likelihood-ratio, got {chosen.name!r}")
    found = {"statistic": asked["statistic"]}
    if chosen.name not in STATISTICS:
        found["statistic_sha256"] = sha256(Path(chosen.name.rpartition(":")[0]))
    return chosen, found


def with_exclusion(scan: xr.Dataset, found: Scan, seed: int, store: Checkpoints, progress: Progress) -> xr.Dataset:
    """A scan with the name of its statistic, and with CLs where the statistic knows a null hypothesis."""
    from nuppl.frequentist.exclusion import exclusion
    from nuppl.results.scan_cls import with_cls, with_statistic

    named = with_statistic(scan, found.chosen.spec)
    cls = exclusion(found, seed=seed, store=store, progress=progress)
    if cls is None:
        return named
    toys = found.statistic.shape[1]
    return with_cls(named, *cls[0], toys=toys, failed=cls[1])
