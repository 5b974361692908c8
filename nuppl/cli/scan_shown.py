"""A scan on the terminal, and whether it is to be trusted."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["show_scan", "trusted"]

NOT_TRUSTED = 4
MOST_LOST, MOST_MOVED = 0.01, 0.02
"""Share of failed fits, of points or of toys, above which a scan is not to be trusted; and by how much full fits may
move the share of toys above a critical value of linear ones, beyond three errors."""


def show_scan(found: xr.Dataset, as_json: bool) -> int:
    """Print a scan; the exit code."""
    from nuppl.report.scan import scan_lines, scan_rows
    from nuppl.results.scan_cls import cls_numbers
    from nuppl.results.scan_more import null_of

    if as_json:
        best, rows = json.loads(found.attrs["best"]), scan_rows(found)
        more = cls_numbers(found) | ({"null": null_of(found)} if null_of(found) else {})
        click.echo(json.dumps({"best": best, "levels": rows, **more, "verdict": {"trusted": trusted(found)}}))
    else:
        click.echo("\n".join(scan_lines(found)))
    if not trusted(found):
        why = "full fits of toys say other than linear ones" if _moved(found) else "more than 1 % of the fits failed"
        click.echo(f"warning: {why}: do not trust this scan", err=True)
        return NOT_TRUSTED
    return 0


def trusted(found: xr.Dataset) -> bool:
    """Whether few enough fits failed, and full fits bear out linear ones."""
    from nuppl.results.scan_cls import cls_lost
    from nuppl.results.scan_more import null_of

    lost = float((found["status"] == 2).mean())
    toys = float(found["failed_toys"].sum() / found["toys"].sum()) if "toys" in found else 0.0
    null = null_of(found) or {}
    lost = max(lost, toys, null.get("failed", 0) / max(1, null.get("toys", 0)), cls_lost(found))
    return bool(lost <= MOST_LOST) and not _moved(found)


def _moved(found: xr.Dataset) -> bool:
    """Whether full fits of a sample say other than linear ones."""
    from nuppl.results.scan_more import checked_of

    shares = (checked_of(found) or {"above": {}})["above"].values()
    return any(abs(full - linear) > MOST_MOVED + 3.0 * error for linear, full, error in shares)
