"""`nuppl check`: prove the contract on a user's file."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from nuppl.cli.options import assignments, json_option, model_options, numbers

__all__ = ["check"]


@click.command()
@model_options
@json_option
def check(model: str, fixed: tuple[str, ...], options: tuple[str, ...], as_json: bool) -> int:
    """Prove that FILE keeps the contract of a model: shapes, batching, gradients, data. Checks every model of FILE."""
    from nuppl.cli.loading import models_of
    from nuppl.language.check import check as prove
    from nuppl.language.check import format_report
    from nuppl.language.loading import load_model

    models = [load_model(model, models_of)[0]] if ":" in model else list(models_of(model).values())
    passed = True
    for each in models:
        report = prove(each, assignments(options, "--option"), numbers(fixed))
        passed = passed and report.passed
        click.echo(json.dumps(asdict(report), default=str) if as_json else format_report(report))
    return 0 if passed else 2
