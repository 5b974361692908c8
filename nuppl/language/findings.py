"""What `nuppl check` reports: a table of sites, and findings that name the site and say what to do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from nuppl.language.handlers import declared
from nuppl.language.table import Site

__all__ = ["CheckReport", "Finding", "Row", "format_report", "format_table", "row", "row_of_message"]

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        rule: the rule's name, such as "batch" or "float32".
        site: the site it concerns, where there is one.
        severity: an error breaks the contract; a warning is probably not what was meant; a note is good to know.
        message: what was expected, what came and what to do.
    """

    rule: str
    site: str | None
    severity: Severity
    message: str


@dataclass(frozen=True)
class Row:
    """One site as printed."""

    name: str
    kind: str
    distribution: str
    shape: tuple[int, ...]
    plates: tuple[str, ...]
    unit: str
    support: str


@dataclass(frozen=True)
class CheckReport:
    """The result of `check`.

    Attributes:
        model: the model's name.
        sites: the table of sites in the order of sampling, up to where the program stopped.
        findings: in the order found.
    """

    model: str
    sites: tuple[Row, ...]
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether no finding is an error."""
        return all(finding.severity != "error" for finding in self.findings)


def row(site: Site) -> Row:
    """A site of the table as printed."""
    plates = tuple(axis.name for axis in site.axes)
    kind = f"{site.kind}, fixed" if site.fixed else site.kind
    return Row(site.name, kind, site.distribution, site.shape, plates, site.unit, _support(site))


def row_of_message(msg: Any) -> Row:
    """A site of a program that stopped before its table was complete."""
    said, fn = declared(msg), msg["fn"]
    shape = tuple(getattr(fn, "batch_shape", ())) + tuple(getattr(fn, "event_shape", ()))
    plates = tuple(frame.name for frame in reversed(msg["cond_indep_stack"]))
    return Row(msg["name"], said.kind, type(fn).__name__, shape, plates, said.unit, "")


def _support(site: Site) -> str:
    if site.kind == "data":
        return "observed" if site.data is not None else "no data"
    if site.u_event != site.event:
        return "constrained"
    lower, upper = float(site.lower.min()), float(site.upper.max())
    return "real" if lower == -float("inf") and upper == float("inf") else f"{lower:g} to {upper:g}"


def format_table(rows: Iterable[Row]) -> str:
    """The table of sites as plain text."""
    cells = [("site", "kind", "distribution", "shape", "axes", "unit", "support")]
    for each in rows:
        shape, plates = "x".join(map(str, each.shape)), ", ".join(each.plates)
        cells.append((each.name, each.kind, each.distribution, shape or "scalar", plates, each.unit, each.support))
    return _align(cells)


def format_report(report: CheckReport) -> str:
    """Verdict, table and findings as plain text."""
    errors = sum(finding.severity == "error" for finding in report.findings)
    verdict = "keeps the contract" if report.passed else f"breaks the contract in {errors} point{'s' * (errors > 1)}"
    lines = [f"model {report.model}: {verdict}", "", format_table(report.sites)]
    lines += [f"\n{f.severity} [{f.rule}]{f' {f.site}' if f.site else ''}: {f.message}" for f in report.findings]
    return "\n".join(lines)


def _align(cells: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells
    )
