"""The rows of the report's tables, formatted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from nuppl.report.labels import html_label, html_unit
from nuppl.results.numbers import format_interval, format_measurement, format_number
from nuppl.results.summary import Summary

__all__ = ["data_rows", "nuisance_rows", "parameter_row", "pretty"]

LISTED = 60
"""A vector with more entries is one line."""


def pretty(text: str) -> str:
    """A formatted number for a page: a real minus, and powers of ten raised."""
    mantissa, found, exponent = text.partition("e") if not text.startswith(("inf", "nan")) else (text, "", "")
    if not found:
        return text.replace("-", "−")
    return f"{mantissa} × 10<sup>{int(exponent)}</sup>".replace("-", "−")


def parameter_row(row: Summary, attrs: Mapping[str, Any]) -> dict[str, str]:
    """One number: label, mean and sd, median and interval, unit, convergence."""
    entry = f" [{', '.join(map(str, row.entry))}]" if row.entry else ""
    return {
        "label": html_label(row.site, attrs) + entry,
        "name": row.name,
        "kind": str(attrs.get("kind", "")).replace("_", " "),
        "measurement": pretty(format_measurement(row.mean, row.sd)),
        "interval": pretty(format_interval(row.median, row.lower, row.upper)),
        "unit": html_unit(str(attrs.get("unit", ""))),
        "r_hat": _fixed(row.r_hat, 3),
        "ess_bulk": _fixed(row.ess_bulk, 0),
        "ess_tail": _fixed(row.ess_tail, 0),
    }


def nuisance_rows(rows: Sequence[Summary], posterior: xr.Dataset) -> list[dict[str, str]]:
    """Rows of all other parameters, long vectors in one line each."""
    by_site: dict[str, list[Summary]] = {}
    for row in rows:
        by_site.setdefault(row.site, []).append(row)
    found = []
    for site, entries in by_site.items():
        attrs = posterior[site].attrs
        found += [parameter_row(row, attrs) for row in entries] if len(entries) <= LISTED else [_long(entries, attrs)]
    return found


def _long(rows: Sequence[Summary], attrs: Mapping[str, Any]) -> dict[str, str]:
    means, widths = [row.mean for row in rows], [row.sd for row in rows]
    return {
        "label": html_label(rows[0].site, attrs),
        "name": f"{rows[0].site} ({len(rows)} entries)",
        "kind": str(attrs.get("kind", "")).replace("_", " "),
        "measurement": f"means {pretty(format_number(min(means), 3))} to {pretty(format_number(max(means), 3))}",
        "interval": f"sd {pretty(format_number(min(widths), 3))} to {pretty(format_number(max(widths), 3))}",
        "unit": html_unit(str(attrs.get("unit", ""))),
        "r_hat": _fixed(max(row.r_hat for row in rows), 3),
        "ess_bulk": _fixed(min(row.ess_bulk for row in rows), 0),
        "ess_tail": _fixed(min(row.ess_tail for row in rows), 0),
    }


def data_rows(groups: Mapping[str, xr.Dataset]) -> list[dict[str, str]]:
    """One row per data site: size, total observed, total predicted, p-value."""
    replicas, stats = (groups.get(name, xr.Dataset()) for name in ("posterior_predictive", "sample_stats"))
    found = []
    for key, observed in groups.get("observed_data", xr.Dataset()).data_vars.items():
        name = str(key)
        row = {"label": html_label(name, observed.attrs), "name": name, "entries": str(observed.size)}
        row["distribution"] = str(observed.attrs.get("distribution", ""))
        row["observed"] = pretty(format_number(float(observed.sum()), 8))
        if name in replicas:
            totals = replicas[name].sum([dim for dim in replicas[name].dims if dim not in ("chain", "draw")])
            row["predicted"] = pretty(format_measurement(float(totals.mean()), float(totals.std())))
        if f"{name}_chi2_observed" in stats:
            here, there = stats[f"{name}_chi2_observed"], stats[f"{name}_chi2_replicated"]
            row["chi2"] = f"{float(here.mean()):.1f}"
            row["p_value"] = f"{float(np.mean(there.values >= here.values)):.3f}"
        found.append(row)
    return found


def _fixed(value: float, decimals: int) -> str:
    return f"{value:.{decimals}f}" if math.isfinite(value) else "—"
