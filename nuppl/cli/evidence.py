"""`nuppl evidence`: which of two models the data prefer, and how far that depends on the priors' ranges."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nuppl.cli.options import json_option
from nuppl.cli.reading import reading

if TYPE_CHECKING:
    from nuppl.diagnostics.evidence import Comparison
    from nuppl.diagnostics.ranges import End, Sensitivity

__all__ = ["evidence"]

MOST = 12
"""Parameters printed for people; JSON has all."""
CLOSE = 0.1
"""A change of ln B that is known this well is printed as one number."""


@click.command()
@click.argument("first", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("second", metavar="RUN", type=click.Path(path_type=Path))
@json_option
def evidence(first: Path, second: Path, as_json: bool) -> int:
    """Compare two runs, run folders or result files, of two models of the same data by their evidence.

    Prints ln B = ln Z_1 - ln Z_2 with its error, and what becomes of it if the priors of parameters that the two do not
    share were wider.
    """
    from nuppl.cli.infer import NOT_TRUSTED
    from nuppl.diagnostics.evidence import Run, compare

    with reading(first) as (_, one), reading(second) as (_, other):
        found = compare(Run.from_groups(str(first), one), Run.from_groups(str(second), other))
        click.echo(json.dumps(machine(found)) if as_json else table(found))
        return 0 if found.trusted else NOT_TRUSTED


def machine(found: Comparison) -> dict[str, Any]:
    """The comparison as JSON-ready numbers."""
    from nuppl.diagnostics.evidence import SCALE, strength

    return {
        "log_bayes_factor": found.log_bayes_factor,
        "error": found.error,
        "strength": strength(found.log_bayes_factor),
        "scale": SCALE,
        "posterior_odds": math.exp(found.log_bayes_factor) if abs(found.log_bayes_factor) < 700.0 else None,
        "probability_of_first": found.probability,
        "runs": [
            {
                "run": run.name,
                "model": run.said["model"],
                "engine": run.said["engine"],
                "log_evidence": run.log_evidence,
                "error": run.error,
                "verdict": run.verdict.to_json(),
            }
            for run in (found.first, found.second)
        ],
        "sensitivities": [{**vars(each), "ends": [vars(end) for end in each.ends]} for each in found.sensitivities],
        "notes": list(found.notes),
    }


def table(found: Comparison) -> str:
    """The comparison for people."""
    from nuppl.diagnostics.evidence import SCALE

    lines = []
    for number, run in enumerate((found.first, found.second)):
        what = f"{run.said['model']} by {run.said['engine']}"
        lines.append(f"{number + 1}: {run.name}, {what}: ln Z = {run.log_evidence:.3f} ± {run.error:.3f}")
    odds = f"{_odds(found.log_bayes_factor)} for equal prior odds"
    lines.append(f"ln B = ln Z_1 - ln Z_2 = {found.log_bayes_factor:.3f} ± {found.error:.3f}   posterior odds {odds}")
    lines.append(f"{found.sentence()} ({SCALE})")
    for run in (found.first, found.second):
        if not run.verdict.trusted:
            lines.append(f"{run.name}: {run.verdict.sentence()}")
    lines.extend(f"note: {note}" for note in found.notes)
    lines.append("")
    if found.sensitivities:
        lines.append("Priors on which ln B depends, and its change if their range were twice as wide:")
        for each in found.sensitivities[:MOST]:
            lines.extend(_sensitivity(each))
        if len(found.sensitivities) > MOST:
            lines.append(f"and {len(found.sensitivities) - MOST} more; --json has all")
    else:
        lines.append("Both models have the same parameters with the same priors (pulls, which are measured, left out).")
    return "\n".join(lines)


def _odds(log_bayes_factor: float) -> str:
    size = math.exp(min(abs(log_bayes_factor), 700.0))
    return f"{size:.3g} : 1" if log_bayes_factor >= 0.0 else f"1 : {size:.3g}"


def _sensitivity(found: Sensitivity) -> Iterator[str]:
    yield (
        f"  {found.name} of model {found.run}, {found.reason}: prior {found.prior}; the posterior's central 95 % fill "
        f"{100 * found.fill:.3g} % of it"
    )
    for end in found.ends:
        yield f"    {_place(end)}{_change(end, found.run)}"
    if found.ends[0].change is None:
        yield f"    {_other(found)}"


def _place(end: End) -> str:
    where = f"{end.name} end" + (f", {end.bound:g}" if end.bound is not None else "")
    verb = "vanishes" if end.vanishes else "does not vanish"
    return f"{where}: the posterior {verb} there ({100 * end.share:.2g} % of it in the prior's outermost 1 %)"


def _change(end: End, run: int) -> str:
    if end.change is None:
        return ""
    low, high = end.change
    if end.vanishes and high - low < CLOSE:
        return f": {low if run == 1 else high:+.2f}"
    if end.vanishes:
        return f": {low:+.2f} to {high:+.2f}, since few draws tell"
    beyond = "more" if run == 1 else "less"
    return f": {low:+.2f} to {high:+.2f}, by the likelihood beyond it; {beyond} if that is higher there than at the end"


def _other(found: Sensitivity) -> str:
    if found.widened:
        return "twice the width: {:+.2f} ± {:.2f}".format(*found.widened)
    if found.prior.startswith("Normal("):
        limit = "at least -0.69" if found.run == 1 else "at most +0.69"
        return f"twice the width: {limit}; the draws cannot tell more, repeat the run with that prior"
    return "no rule for a range of twice this kind: repeat the run with another prior"
