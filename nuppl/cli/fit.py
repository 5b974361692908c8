"""`nuppl fit`: maximise the likelihood."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import click

from nuppl.cli.impacts import impacts_of
from nuppl.cli.options import json_option, model_options, program_from, seed_option
from nuppl.cli.progress import reporting

if TYPE_CHECKING:
    from nuppl.optimize.estimates import Fit

__all__ = ["fit"]


@click.command()
@model_options
@seed_option
@json_option
@click.option("--starts", default=4, show_default=True, type=click.IntRange(min=0), help="Screened starts.")
@click.option("--minos/--no-minos", default=True, show_default=True, help="Asymmetric errors of the interest.")
@click.option("--minimizer", default="newton", show_default=True, help="newton, or the reference, iminuit.")
@click.option("--impacts", "with_impacts", is_flag=True, help="Which pulls move the interest; fits without each group.")
@click.option("--all", "everything", is_flag=True, help="Print every latent, not the interest only.")
def fit(
    model: str,
    fixed: tuple[str, ...],
    options: tuple[str, ...],
    seed: int,
    as_json: bool,
    starts: int,
    minos: bool,
    minimizer: str,
    with_impacts: bool,
    everything: bool,
) -> int:
    """Maximise the likelihood of FILE[:MODEL]: best fit, Hessian and MINOS errors, goodness of fit."""
    program, _ = program_from(model, fixed, options)
    from nuppl.errors import unknown
    from nuppl.optimize.fit import MINIMIZERS
    from nuppl.optimize.fit import fit as maximise

    if minimizer not in MINIMIZERS:
        raise unknown("minimizer", minimizer, MINIMIZERS)
    with reporting("fit") as progress:
        result = maximise(program, starts=starts, minos=minos, minimizer=minimizer, seed=seed, progress=progress)
        found = impacts_of(program, result, progress) if with_impacts else None
    shown = list(result.parameters)
    if not everything:
        shown = [name for name in shown if name.split("[")[0] in program.interest]
    if as_json:
        click.echo(json.dumps(_machine(result) | ({"impacts": found.machine()} if found else {})))
    else:
        click.echo("\n".join([_table(result, shown), *(found.table() if found else ())]))
    for warning in (*result.warnings, *(found.warnings if found else ())):
        click.echo(f"warning: {warning}", err=True)
    return 0 if result.trusted else 4


def _machine(result: Fit) -> dict[str, Any]:
    return {
        "parameters": {
            name: {
                "value": estimate.value,
                "error": _number(estimate.error),
                "lower": _number(estimate.lower),
                "upper": _number(estimate.upper),
                "unit": estimate.unit,
            }
            for name, estimate in result.parameters.items()
        },
        "statistic": result.statistic,
        "statistic_is_deviance": result.is_deviance,
        "degrees_of_freedom": result.freedom,
        "p_value": _number(result.p_value),
        "other_minima": list(result.minima),
        "verdict": {"trusted": result.trusted, "warnings": list(result.warnings)},
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _table(result: Fit, names: list[str]) -> str:
    from nuppl.results.numbers import format_measurement

    rows = []
    for name in names:
        estimate = result.parameters[name]
        text = format_measurement(estimate.value, estimate.error) + (f" {estimate.unit}" if estimate.unit else "")
        if math.isfinite(estimate.lower) and math.isfinite(estimate.upper):
            text += f"   MINOS +{estimate.upper - estimate.value:.3g} -{estimate.value - estimate.lower:.3g}"
        rows.append(f"{name} = {text}" + ("   (at its bound)" if estimate.at_bound else ""))
    kind = "-2 log L/L_saturated, pulls included" if result.is_deviance else "-2 log L"
    quality = f", {result.freedom} degrees of freedom, p = {result.p_value:.3f}" if result.p_value >= 0 else ""
    rows.append(f"{kind} = {round(result.statistic, 2) + 0.0:.2f}{quality}")
    if result.minima:
        rows.append("other minima, above the best by " + ", ".join(f"{height:.2f}" for height in result.minima))
    return "\n".join(rows)
