"""Rows of the tables about other priors and data left out, and the citations of a report."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from nuppl.report.interest import Number
from nuppl.report.labels import html_label, html_unit
from nuppl.report.leave_one_out import LeftOut
from nuppl.report.sensitivity import Reweighted
from nuppl.report.tables import pretty
from nuppl.results.numbers import format_interval, format_measurement, format_number

__all__ = ["citation", "left_out_table", "shift_table"]

WORST = 5
"""Data listed, those that the others predict the worst."""


def shift_table(number: Number, rows: Sequence[Reweighted]) -> dict[str, Any]:
    """One number of interest under every prior."""
    entry = f" [{', '.join(number.entry)}]" if number.entry else ""
    return {
        "label": html_label(number.site, number.attrs) + html.escape(entry),
        "unit": html_unit(str(number.attrs.get("unit", ""))),
        "rows": [_shift(row, first=i == 0) for i, row in enumerate(rows)],
    }


def _shift(row: Reweighted, first: bool) -> dict[str, str]:
    said = {"name": row.name, "reason": row.reason, "effective": f"{row.effective:.0f}"}
    if None in (row.mean, row.sd, row.median, row.lower, row.upper, row.moved):
        return said
    mean, sd, median, lower, upper, moved = (
        float(value or 0.0) for value in (row.mean, row.sd, row.median, row.lower, row.upper, row.moved)
    )
    said["measurement"] = pretty(format_measurement(mean, sd))
    said["interval"] = pretty(format_interval(median, lower, upper))
    said["moved"] = "—" if first else f"{moved:+.2f} sd".replace("-", "−")
    return said


def left_out_table(site: LeftOut) -> dict[str, Any]:
    """What leave-one-out says of one data site, with its worst predicted data."""
    return {
        "label": html_label(site.name, site.observed.attrs),
        "data": str(len(site.k)),
        "elpd": pretty(format_measurement(site.elpd, site.error)),
        "p_loo": pretty(f"{site.p_loo:.1f}"),
        "influential": str(site.influential),
        "worst": [_datum(site, int(i)) for i in np.argsort(-np.abs(site.pulls), kind="stable")[:WORST]],
    }


def _datum(site: LeftOut, i: int) -> dict[str, str]:
    data = site.observed
    place = np.unravel_index(i, data.shape)
    named = [_named(data, dim, int(j)) for dim, j in zip(data.dims, place, strict=True)]
    return {
        "place": ", ".join(named),
        "observed": pretty(format_number(float(data.values[place]), 6)),
        "predicted": pretty(format_number(float(site.predicted[i]), 6)),
        "pull": f"{site.pulls[i]:+.1f}".replace("-", "−"),
        "k": f"{site.k[i]:.2f}".replace("-", "−"),
    }


def _named(data: Any, dim: Any, i: int) -> str:
    if dim not in data.coords:
        return str(i)
    value, unit = data.coords[dim].values[i], data.coords[dim].attrs.get("unit", "")
    return f"{value:g}{f' {unit}' if unit else ''}" if isinstance(value, float) else str(value)


def citation(text: str) -> str:
    """A citation as HTML, its DOI and arXiv number as links.

    >>> citation("A & B, doi:10.1000/x.")
    'A &amp; B, <a href="https://doi.org/10.1000/x">doi:10.1000/x</a>.'
    """
    safe = html.escape(text)
    safe = re.sub(r"\bdoi:(10\.\d+/[\w.()/:-]*\w)", r'<a href="https://doi.org/\1">doi:\1</a>', safe)
    number = r"[a-z-]+/\d{7}|\d{4}\.\d{4,5}"
    return re.sub(rf"\barXiv:({number})", r'<a href="https://arxiv.org/abs/\1">arXiv:\1</a>', safe)
