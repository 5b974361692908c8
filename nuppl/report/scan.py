"""The page of a scan, drawn from its result file alone."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xarray as xr

from nuppl.report.canvas import style
from nuppl.report.figures_cls import cls_picture
from nuppl.report.figures_expected import expected_picture
from nuppl.report.figures_scan import scan_picture
from nuppl.report.page import filled, resource
from nuppl.results.files import whole
from nuppl.results.intervals import intervals
from nuppl.results.metadata import metadata
from nuppl.results.numbers import format_number
from nuppl.results.scan_cls import LIKELIHOOD_RATIO, statistic_of
from nuppl.results.scan_more import null_of

__all__ = ["render_scan", "scan_lines", "scan_rows"]


def scan_rows(scan: xr.Dataset) -> list[dict[str, str]]:
    """One row per level: the critical value and, of one parameter, what is accepted, by Wilks, by toys, by CLs."""
    names = json.loads(scan.attrs["parameters"])
    said = scan.attrs.get("critical", "toys")
    found = []
    for number, level in enumerate(scan["level"].values):
        row = {"level": f"{100 * level:.4g} %"}
        if "wilks" not in scan:
            found.append(row | _of_statistic(scan, names, number))
            continue
        row["wilks"] = format_number(float(scan["wilks"][number]), 3)
        row[said] = _spread(scan["critical"][number].values) if "toys" in scan else "-"
        if len(names) == 1:
            x, t = scan[names[0]].values, scan["statistic"].values
            row["accepted by Wilks"] = _said(intervals(x, t, 0.0 * t + float(scan["wilks"][number])))
            if "toys" in scan:
                row[f"accepted by {said}"] = _said(intervals(x, t, scan["critical"][number].values))
        found.append(row)
    return found


def _of_statistic(scan: xr.Dataset, names: list[str], number: int) -> dict[str, str]:
    """Of a statistic for which Wilks' theorem does not speak."""
    row = {"critical values": _spread(scan["critical"][number].values)}
    if len(names) == 1:
        found = intervals(scan[names[0]].values, scan["statistic"].values, scan["critical"][number].values)
        row["accepted"] = _said(found)
    if "limit" in scan:
        row["limit by CLs"] = _or_none(scan["limit"][number])
        least, less, middle, more, most = map(_or_none, scan["limit_expected"][number])
        row["expected"] = f"{middle} (68 %: {less} to {more}, 95 %: {least} to {most})"
    return row


def _or_none(value: Any) -> str:
    return "beyond the grid" if math.isnan(float(value)) else format_number(float(value), 4)


def scan_lines(scan: xr.Dataset) -> list[str]:
    """The result for people."""
    best = ", ".join(f"{name} = {format_number(value)}" for name, value in json.loads(scan.attrs["best"]).items())
    statistic = f"; statistic: {statistic_of(scan)}" if statistic_of(scan) != LIKELIHOOD_RATIO else ""
    lines = [f"best fit: {best}{statistic}"]
    lines += [", ".join(f"{name}: {value}" for name, value in row.items()) for row in scan_rows(scan)]
    lines += _null(scan)
    lost = int((scan["status"] == 2).sum())
    lines.append(f"{scan['status'].size} points, {lost} failed" + _toys(scan))
    return lines


def render_scan(groups: Mapping[str, xr.Dataset], path: Path, command: str = "") -> Path:
    """Write the page."""
    said, scan = metadata(groups), groups["scan"]
    with style():
        pictures = [scan_picture(scan), cls_picture(scan), expected_picture(scan, blind=bool(said["blind"]))]
        values: dict[str, Any] = {
            "css": resource("report.css"),
            "said": said,
            "pictures": [each for each in pictures if each],
            "lines": scan_lines(scan),
            "rows": scan_rows(scan),
            "command": command,
        }
        text = filled("scan.html.j2", **values)
    with whole(path) as partial:
        partial.write_text(text, encoding="utf-8")
    return path


def _null(scan: xr.Dataset) -> list[str]:
    said = null_of(scan)
    if said is None:
        return []
    held = ", ".join(f"{name} = {format_number(value)}" for name, value in said["values"].items())
    wilks = f"p = {format_number(said['wilks_p_value'], 3)} by Wilks with k = {said['parameters']}"
    toys = f", {format_number(said['p_value'], 3)} ± {format_number(said['p_value_error'], 1)} by {said['toys']} toys"
    return [f"{held}: t = {format_number(said['statistic'], 4)}, {wilks}{toys if 'p_value' in said else ''}"]


def _toys(scan: xr.Dataset) -> str:
    if "toys" not in scan:
        return ""
    thrown, failed = int(scan["toys"].sum()), int(scan["failed_toys"].sum())
    return f"; {thrown} toys, of which {failed} with a failed fit"


def _spread(values: Any) -> str:
    low, high = (format_number(float(value), 3) for value in (values.min(), values.max()))
    return low if low == high else f"{low} to {high}"


def _said(found: list[tuple[float, float]]) -> str:
    return " and ".join(f"{format_number(low, 4)} to {format_number(high, 4)}" for low, high in found) or "nothing"
