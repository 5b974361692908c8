"""The page on which Bayesian and frequentist answers lie side by side, drawn from the result files alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xarray as xr

from nuppl.diagnostics.evidence import SCALE
from nuppl.report.canvas import Picture, style
from nuppl.report.compared import Compared, gathered
from nuppl.report.compared_null import BayesFactor, Tested, bayes_factors, tested
from nuppl.report.compared_reasons import Overlap, Reason, overlaps, reasons
from nuppl.report.compared_regions import Interval, interval_rows, plane, regions
from nuppl.report.expected import QUANTILES, Expected, expected_rows
from nuppl.report.figures_compare import contours, curves, interval_picture
from nuppl.report.figures_expected import expected_picture
from nuppl.report.labels import html_label, html_unit
from nuppl.report.page import filled, resource
from nuppl.report.tables import pretty
from nuppl.results.files import whole
from nuppl.results.numbers import format_number

__all__ = ["Comparison", "compare", "comparison_json", "comparison_lines", "write_comparison"]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Everything that is said of results side by side.

    Attributes:
        compared: the results.
        intervals: of each parameter.
        overlaps: of regions, of one or two parameters.
        reasons: why they differ.
        tested: null hypotheses of scans.
        factors: Bayes factors for the null hypothesis.
        expected: sensitivity by scan.
        pictures: by section.
    """

    compared: Compared
    intervals: list[Interval]
    overlaps: list[Overlap]
    reasons: list[Reason]
    tested: list[Tested]
    factors: list[BayesFactor]
    expected: dict[str, list[Expected]]
    pictures: dict[str, list[Picture]]

    @property
    def untrusted(self) -> list[str]:
        """Runs that are not to be trusted, and why."""
        return [f"{run.name}: {run.verdict.sentence()}" for run in self.compared.posteriors if not run.verdict.trusted]


def compare(
    results: Sequence[tuple[str, Mapping[str, xr.Dataset]]],
    against: tuple[str, Mapping[str, xr.Dataset]] | None = None,
) -> Comparison:
    """Lay results side by side.

    Arguments:
        results: runs and scans by the name that the user gave.
        against: a run of the null hypothesis on the same data, for the Bayes factor.

    Raises:
        InputError: results that cannot be compared.
    """
    compared = gathered(results)
    common = plane(compared)
    found = list(regions(compared, common)) if common else []
    rows = list(interval_rows(compared))
    expected = {scan.name: list(expected_rows(scan.scan)) for scan in compared.scans}
    with style():
        drawn = {"regions": list[Picture](), "expected": list[Picture]()}
        if common is not None:
            one = len(compared.parameters) == 1
            drawn["regions"] = [curves(compared, common) if one else contours(compared, common, found)]
        drawn["intervals"] = interval_picture(compared, rows)
        for scan in compared.scans:
            picture = expected_picture(scan.scan, f"Sensitivity of {scan.name}", bool(compared.blind))
            drawn["expected"] += [picture] if picture else []
    return Comparison(
        compared,
        rows,
        list(overlaps(compared, common, found)) if common else [],
        reasons(compared, found),
        list(tested(compared)),
        list(bayes_factors(compared, against)),
        {name: each for name, each in expected.items() if each},
        drawn,
    )


def write_comparison(found: Comparison, path: Path, command: str = "") -> Path:
    """Write the page."""
    compared = found.compared
    text = filled(
        "compare.html.j2",
        css=resource("report.css"),
        said=compared.said,
        command=command,
        blind=compared.blind,
        untrusted=found.untrusted,
        sources=_sources(compared),
        tables=[_table(found, name) for name in compared.parameters],
        levels=[_percent(level) for level in compared.levels],
        overlaps=[_overlap(each) for each in found.overlaps],
        reasons=found.reasons,
        tested=[_tested(each) for each in found.tested],
        factors=found.factors,
        number=lambda value, digits=3: pretty(format_number(value, digits)),
        scale=SCALE,
        expected={name: expected_table(rows, bool(compared.blind)) for name, rows in found.expected.items()},
        pictures=found.pictures,
    )
    with whole(path) as partial:
        partial.write_text(text, encoding="utf-8")
    return path


def comparison_json(found: Comparison) -> dict[str, Any]:
    """All of it but the pictures, ready for JSON."""
    compared = found.compared
    tests = [{**vars(each), "values": dict(each.values), "deviations": each.deviations} for each in found.tested]
    return {
        "model": compared.said["model"],
        "parameters": list(compared.parameters),
        "levels": list(compared.levels),
        "blind": compared.blind or None,
        "runs": [
            {
                "run": run.name,
                "engine": run.said["engine"],
                "log_evidence": _evidence(run),
                "trusted": run.verdict.trusted,
            }
            for run in compared.posteriors
        ],
        "scans": [{"scan": scan.name, "best": scan.best, "kinds": list(scan.kinds())} for scan in compared.scans],
        "intervals": [vars(each) for each in found.intervals],
        "overlaps": [vars(each) for each in found.overlaps],
        "reasons": [vars(each) for each in found.reasons],
        "null": {"p_values": tests, "bayes_factors": [_factor(each) for each in found.factors], "scale": SCALE},
        "sensitivity": {name: [vars(row) for row in rows] for name, rows in found.expected.items()},
        "quantiles": list(QUANTILES),
        "verdict": {"trusted": not found.untrusted, "why": found.untrusted},
    }


def comparison_lines(found: Comparison) -> list[str]:
    """The comparison for people."""
    compared = found.compared
    lines = [f"{compared.said['model']}: {', '.join(compared.parameters)}"]
    if compared.blind:
        lines.append(f"blind: in place of the real data stand {compared.blind}")
    for row in found.intervals:
        lines.append(f"{row.parameter} at {_percent(row.level)}, {row.source}, {row.method}: {_said(row.found)}")
    for each in found.overlaps:
        lines.append(f"overlap at {_percent(each.level)}: {each.first} and {each.second}: {100 * each.overlap:.0f} %")
    lines += [f"{each.about}: {each.text}" for each in found.reasons]
    for name, expected in found.expected.items():
        lines += [
            f"expected of {name}: {each.parameter} at {_percent(each.level)}: {_said([each.asimov])} on Asimov data; "
            f"median and bands of the lower end {_band(each.lower)}, of the upper end {_band(each.upper)}"
            for each in expected
        ]
    for test in found.tested:
        by = "Wilks" if test.p_value is None else f"{test.toys} toys"
        p = test.wilks if test.p_value is None else test.p_value
        lines.append(f"{_values(test)}: p = {format_number(p, 3)} by {by}, {test.deviations:.2f} standard deviations")
    lines += [f"ln B for it = {f.log:.2f} ± {f.error:.2f} ({f.run}, {f.how}): {f.sentence}" for f in found.factors]
    return lines


def _evidence(run: Any) -> list[float] | None:
    return None if run.log_evidence is None else list(run.log_evidence)


def _factor(found: BayesFactor) -> dict[str, Any]:
    error = found.error if math.isfinite(found.error) else None
    return {**vars(found), "error": error, "sentence": found.sentence}


def _sources(compared: Compared) -> list[dict[str, str]]:
    rows = []
    for run in compared.posteriors:
        evidence = "—" if run.log_evidence is None else "{:.2f} ± {:.2f}".format(*run.log_evidence)
        draws = run.groups["posterior"].sizes
        what = f"{draws['chain']} chains × {draws['draw']} draws by {run.said['engine']}"
        rows.append({"name": run.name, "what": what, "evidence": evidence, "best": "—"})
    for scan in compared.scans:
        toys = int(scan.scan["toys"].sum()) if "toys" in scan.scan else 0
        what = f"scan of {' × '.join(str(len(axis)) for axis in scan.axes)} points, {toys or 'no'} toys"
        best = ", ".join(f"{name} = {format_number(value)}" for name, value in scan.best.items())
        rows.append({"name": scan.name, "what": what, "evidence": "—", "best": best})
    return rows


def _table(found: Comparison, name: str) -> dict[str, Any]:
    attrs = found.compared.attrs(name)
    mine = [row for row in found.intervals if row.parameter == name]
    ways = list(dict.fromkeys((row.source, row.method) for row in mine))
    by_way = {(row.source, row.method, row.level): row for row in mine}
    rows = [
        {
            "source": source,
            "method": method,
            "found": [pretty_intervals(by_way[source, method, level].found) for level in found.compared.levels],
        }
        for source, method in ways
    ]
    return {"label": html_label(name, attrs), "name": name, "unit": html_unit(str(attrs.get("unit", ""))), "rows": rows}


def pretty_intervals(found: Sequence[tuple[float, float]]) -> str:
    """For a page."""
    parts = (f"{pretty(format_number(low, 4))} to {pretty(format_number(high, 4))}" for low, high in found)
    return "<br>".join(parts) or "nothing"


def _said(found: Sequence[tuple[float, float]]) -> str:
    return " and ".join(f"{format_number(low, 4)} to {format_number(high, 4)}" for low, high in found) or "nothing"


def _percent(level: float) -> str:
    return f"{100 * level:.4g} %"


def _overlap(found: Overlap) -> dict[str, str]:
    shares = {name: f"{100 * getattr(found, name):.0f} %" for name in ("overlap", "only_first", "only_second")}
    inside = "—" if found.probability is None else f"{100 * found.probability:.1f} %"
    return {"level": _percent(found.level), "first": found.first, "second": found.second, **shares, "inside": inside}


def _values(found: Tested) -> str:
    return ", ".join(f"{name} = {format_number(value)}" for name, value in found.values.items())


def _tested(found: Tested) -> dict[str, str]:
    toys = "—"
    if found.p_value is not None and found.error is not None:
        toys = f"{format_number(found.p_value, 3)} ± {format_number(found.error, 1)}"
    wilks = f"{format_number(found.wilks, 3)} (k = {found.parameters})"
    return {
        "scan": found.scan,
        "null": _values(found),
        "statistic": f"{found.statistic:.3g}",
        "wilks": wilks,
        "toys": toys,
        "deviations": f"{found.deviations:.2f}",
    }


def expected_table(rows: Sequence[Expected], blind: bool) -> list[dict[str, str]]:
    """The sensitivity for a page."""
    return [
        {
            "parameter": row.parameter,
            "level": _percent(row.level),
            "observed": "" if blind else _said([row.observed]),
            "asimov": _said([row.asimov]),
            "lower": _band(row.lower),
            "upper": _band(row.upper),
        }
        for row in rows
    ]


def _band(quantiles: Sequence[float]) -> str:
    if not quantiles:
        return "—"
    least, less, middle, more, most = (format_number(value, 3) for value in quantiles)
    return f"{middle} ({less} to {more}; {least} to {most})"
