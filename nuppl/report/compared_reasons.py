"""Where credible and confidence regions differ, and what in the data and the priors tells why.

Each reason is a number first: how much posterior lies beyond the scan, how far another prior moves the answer, how far
the critical values of toys are from Wilks', in how many parts a region falls.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nuppl.report.compared import Compared, Confidence, Posterior
from nuppl.report.compared_regions import Plane, Region
from nuppl.report.interest import Number
from nuppl.report.sensitivity import sensitivity
from nuppl.results.numbers import format_number
from nuppl.results.summary import summarize_result

__all__ = ["Overlap", "Reason", "overlaps", "reasons"]

SAID = {"toys": "the toys", "learned": "values learned from toys"}
EDGE = 0.01
"""Share of its range in which a number counts as lying at an end."""


@dataclass(frozen=True)
class Overlap:
    """Two regions at one level.

    Attributes:
        level: of both.
        first, second: which.
        overlap: area of what both hold over that of what either holds, in the coordinates of the axes.
        only_first, only_second: shares of each region that the other leaves out.
        probability: of the first, where it is a posterior, that the second holds; None where it is none.
    """

    level: float
    first: str
    second: str
    overlap: float
    only_first: float
    only_second: float
    probability: float | None


@dataclass(frozen=True)
class Reason:
    """One cause.

    Attributes:
        about: "prior", "range", "boundary", "critical values", "modes", "marginal" or "fits".
        text: a sentence with its numbers.
        numbers: those, for machines.
    """

    about: str
    text: str
    numbers: dict[str, Any]


def overlaps(compared: Compared, common: Plane, found: Sequence[Region]) -> Iterator[Overlap]:
    """Credible against confidence regions, regions of different results, and of each scan those of Wilks and toys."""
    for one, other in _pairs(found):
        both, either = (one.inside & other.inside).sum(), (one.inside | other.inside).sum()
        run = next((run for run in compared.posteriors if run.name == one.source and one.kind == "credible"), None)
        yield Overlap(
            one.level,
            one.words,
            other.words,
            _share(both, either),
            _share((one.inside & ~other.inside).sum(), one.inside.sum()),
            _share((other.inside & ~one.inside).sum(), other.inside.sum()),
            None if run is None else _probability(run, compared, common, other),
        )


def _pairs(found: Sequence[Region]) -> Iterator[tuple[Region, Region]]:
    for i, one in enumerate(found):
        for other in found[i + 1 :]:
            kinds = {one.kind, other.kind}
            alike = len(kinds) == 1 or "credible" in kinds
            if one.level == other.level and (alike if one.source != other.source else "Wilks" in kinds):
                yield one, other


def _share(part: Any, whole: Any) -> float:
    return float(part / whole) if whole else 0.0


def _probability(run: Posterior, compared: Compared, common: Plane, other: Region) -> float:
    """The share of the draws whose nearest point of the common grid a region holds."""
    places, within = [], np.ones(run.numbers[compared.parameters[0]].values.shape, dtype=bool)
    for axis, name in enumerate(compared.parameters):
        grid = common.flat(axis, common.axes[axis])
        with np.errstate(divide="ignore", invalid="ignore"):
            draws = common.flat(axis, run.numbers[name].values)
        step = grid[1] - grid[0]
        within &= (draws >= grid[0] - 0.5 * step) & (draws <= grid[-1] + 0.5 * step)
        places.append(np.clip(np.rint((draws - grid[0]) / step), 0, len(grid) - 1).astype(int))
    return float((other.inside[tuple(places)] & within).mean())


def reasons(compared: Compared, found: Sequence[Region]) -> list[Reason]:
    """What makes the regions differ, in an order in which it can be read."""
    said: list[Reason] = []
    for run in compared.posteriors:
        said += _priors(run, compared)
        said += _ranges(run, compared)
    for scan in compared.scans:
        said += _boundary(scan)
        said += _critical(scan, compared)
        said += _failures(scan)
    said += _modes(found)
    said += _peaks(compared)
    return said


def _priors(run: Posterior, compared: Compared) -> Iterator[Reason]:
    """How flat the prior is on the axis, and how far the answer moves with another."""
    said = {name: list[Any]() for name in compared.parameters}
    for number, rows in sensitivity(run.groups, compared.parameters, summarize_result(run.groups)):
        said[number.site] = rows[1:]
    for name in compared.parameters:
        prior = run.numbers[name].prior
        moved = [row for row in said[name] if row.moved is not None]
        text = f"{run.name}: the prior of {name} is {prior.words()}, " + _shape(prior.family)
        if moved:
            most = max(moved, key=lambda row: abs(row.moved))
            text += f"; {most.name} its mean moves by {most.moved:+.2f} of its standard deviation"
        lost = [row.name for row in said[name] if row.moved is None]
        if lost:
            text += f"; the draws cannot say what a prior {' or '.join(lost)} would give"
        figures = {"run": run.name, "parameter": name, "prior": prior.words()}
        yield Reason("prior", text, {**figures, "moved": {row.name: row.moved for row in said[name]}})


def _shape(family: str) -> str:
    flat = {"Uniform": "flat in the parameter", "LogUniform": "flat in its logarithm"}
    return flat.get(family, "which is not flat")


def _ranges(run: Posterior, compared: Compared) -> Iterator[Reason]:
    for name in compared.parameters:
        number = run.numbers[name]
        for scan in compared.scans:
            axis = scan.axes[compared.parameters.index(name)]
            beyond = float(((number.values < axis[0]) | (number.values > axis[-1])).mean())
            if beyond > 1e-3:
                span = f"{format_number(axis[0])} to {format_number(axis[-1])}"
                text = f"{100 * beyond:.2g} % of {run.name} lie outside the grid of {scan.name} in {name}, {span}"
                yield Reason("range", text, {"run": run.name, "scan": scan.name, "parameter": name, "share": beyond})
        piled = _at_ends(number)
        for end, share in piled.items():
            if share > 2 * EDGE:
                text = (
                    f"{run.name}: the posterior of {name} has not fallen off at the {end} end of its prior: "
                    f"{100 * share:.2g} % of it lie in the outermost {100 * EDGE:g} % of the range, and the end of the "
                    "prior cuts the credible interval"
                )
                yield Reason("range", text, {"run": run.name, "parameter": name, "end": end, "share": share})


def _at_ends(number: Number) -> dict[str, float]:
    """The share of a posterior near each end of its prior, whose width is that in which the prior is flat."""
    span, values = number.prior.range(), number.values
    if span is None:
        return {}
    low, high = span
    if number.prior.is_log:
        low, high, values = float(np.log(low)), float(np.log(high)), np.log(values)
    width = EDGE * (high - low)
    return {"lower": float((values < low + width).mean()), "upper": float((values > high - width).mean())}


def _boundary(scan: Confidence) -> Iterator[Reason]:
    for name, value in scan.best.items():
        axis = scan.axes[scan.parameters.index(name)]
        for end, step in ((axis[0], axis[1] - axis[0]), (axis[-1], axis[-1] - axis[-2])):
            if abs(value - end) < 0.05 * step:
                text = (
                    f"{scan.name}: the best fit lies at the end of {name}, {format_number(float(end))}; Wilks' theorem "
                    "does not hold there"
                )
                yield Reason("boundary", text, {"scan": scan.name, "parameter": name, "value": value})


def _critical(scan: Confidence, compared: Compared) -> Iterator[Reason]:
    if "Wilks" not in scan.kinds():
        text = f"{scan.name}: its statistic is {scan.statistic_name}, of which Wilks' theorem does not speak"
        yield Reason("critical values", text, {"scan": scan.name, "statistic": scan.statistic_name})
        return
    for kind in scan.kinds()[1:]:
        for level in compared.levels:
            value, wilks = scan.critical(kind, level), float(scan.critical("Wilks", level).flat[0])
            low, high = float(np.nanmin(value)), float(np.nanmax(value))
            above = float((value > wilks).mean())
            sizes = [int((scan.statistic <= scan.critical(each, level)).sum()) for each in ("Wilks", kind)]
            text = (
                f"{scan.name}: at {100 * level:.4g} % {SAID[kind]} ask for {low:.3g} to {high:.3g} where "
                f"Wilks' theorem says {wilks:.3g}, for more at {100 * above:.0f} % of the points; "
                f"the region has {sizes[1]} points instead of {sizes[0]}"
            )
            figures = {"scan": scan.name, "level": level, "wilks": wilks, "lowest": low, "highest": high}
            yield Reason("critical values", text, {**figures, "points": {"Wilks": sizes[0], kind: sizes[1]}})


def _failures(scan: Confidence) -> Iterator[Reason]:
    lost = int((scan.scan["status"] == 2).sum())
    if lost:
        text = f"{scan.name}: {lost} of {scan.scan['status'].size} fits failed; what lies there is not known"
        yield Reason("fits", text, {"scan": scan.name, "failed": lost})


def _modes(found: Sequence[Region]) -> Iterator[Reason]:
    for region in found:
        if region.islands > 1:
            text = f"{region.words}: the region with {100 * region.level:.4g} % falls into {region.islands} parts"
            yield Reason("modes", text, {"region": region.words, "level": region.level, "parts": region.islands})


def _peaks(compared: Compared) -> Iterator[Reason]:
    """A posterior weighs what a profile does not: how much room there is."""
    for run in compared.posteriors:
        for scan in compared.scans:
            for name in compared.parameters:
                draws, best = run.numbers[name].values, scan.best[name]
                below, sd = float((draws < best).mean()), float(draws.std())
                pull = (float(np.median(draws)) - best) / sd if sd > 0.0 else 0.0
                if abs(pull) > 0.5:
                    text = (
                        f"{name}: the median of {run.name} lies {abs(pull):.2g} standard deviations "
                        f"{'above' if pull > 0 else 'below'} the best fit of {scan.name}; {100 * below:.0f} % of the "
                        "posterior lie below that: it weighs how much room there is, a profile does not"
                    )
                    yield Reason(
                        "marginal", text, {"run": run.name, "scan": scan.name, "parameter": name, "pull": pull}
                    )
