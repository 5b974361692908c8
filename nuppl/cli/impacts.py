"""What `nuppl fit --impacts` prints: components of the error, conventional impacts and fits without one group."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nuppl.errors import InputError
from nuppl.typing import Progress

if TYPE_CHECKING:
    from nuppl.language.program import Program
    from nuppl.optimize.estimates import Fit
    from nuppl.optimize.impacts import Impacts
    from nuppl.optimize.refits import Refit

__all__ = ["Found", "impacts_of"]


@dataclass(frozen=True)
class Found:
    """Impacts and refits, or the reason why there are none."""

    impacts: Impacts | None
    refits: dict[str, Refit]
    warnings: tuple[str, ...]

    def machine(self) -> dict[str, Any] | None:
        """{parameter: its error and the groups that make it}, ready for JSON."""
        if self.impacts is None:
            return None
        return {name: _machine(self, self.impacts, i) for i, name in enumerate(self.impacts.interest)}

    def table(self) -> Iterator[str]:
        """The lines of one table for each parameter."""
        if self.impacts is not None:
            for i in range(len(self.impacts.interest)):
                yield from _table(self, self.impacts, i)


def impacts_of(program: Program, fit: Fit, progress: Progress) -> Found:
    """Impacts around a best fit, with a fit without each group of pulls."""
    from nuppl.optimize.expansion import expand
    from nuppl.optimize.impacts import impacts
    from nuppl.optimize.refits import refits

    try:
        expansion = expand(program, fit.values)
    except InputError as error:
        return Found(None, {}, (str(error),))
    again = {refit.group: refit for refit in refits(expansion, progress)}
    return Found(impacts(expansion), again, tuple(refit.warning for refit in again.values() if refit.warning))


def _machine(found: Found, impacts: Impacts, i: int) -> dict[str, Any]:
    return {
        "error": _number(impacts.errors[i]),
        "statistical": _number(impacts.statistical[i]),
        "systematic": _number(impacts.systematic[i]),
        "error_with_all_pulls_held": _number(impacts.held[i]),
        "unit": impacts.units[i],
        "groups": {
            group.name: {
                "kind": group.kind,
                "entries": len(group.columns),
                "component": _number(impacts.components[i, g]),
                "conventional": _number(impacts.conventional[i, g]),
                "slope": _number(impacts.slopes[i, g]),
                "pull": _number(impacts.pulls[g]),
                "width": _number(impacts.widths[g]),
                "without": _without(found.refits.get(group.name), i),
            }
            for g, group in enumerate(impacts.groups)
        },
    }


def _without(refit: Refit | None, i: int) -> dict[str, Any] | None:
    if refit is None:
        return None
    numbers = {"value": refit.values[i], "error": refit.errors[i], "shift": refit.shifts[i], "rise": refit.rise}
    return {**{name: _number(value) for name, value in numbers.items()}, "warning": refit.warning}


def _number(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None


HEAD = ("group", "entries", "component", "of variance", "conventional", "shift without", "error without")


def _table(found: Found, impacts: Impacts, i: int) -> Iterator[str]:
    unit = f" {impacts.units[i]}" if impacts.units[i] else ""
    error, data, systematic = (float(part[i]) for part in (impacts.errors, impacts.statistical, impacts.systematic))
    yield ""
    yield (
        f"impacts on {impacts.interest[i]}: error {error:.3g}{unit} = data {data:.3g}, all pulls {systematic:.3g} in "
        f"quadrature; {float(impacts.held[i]):.3g} with all pulls held, free parameters free"
    )
    rows = [HEAD, *_rows(found, impacts, i, error)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        yield "  " + "  ".join(cells).rstrip()


def _rows(found: Found, impacts: Impacts, i: int, error: float) -> Iterator[tuple[str, ...]]:
    component = impacts.components[i].nan_to_num()
    for g in component.argsort(descending=True, stable=True).tolist():
        group, refit = impacts.groups[g], found.refits.get(impacts.groups[g].name)
        if not (component[g] or math.isfinite(impacts.conventional[i, g])):
            continue
        yield (
            group.name + ("" if group.kind == "pull" else f" ({group.kind.replace('_', ' ')})"),
            str(len(group.columns) or ""),
            _text(impacts.components[i, g]),
            f"{100.0 * float(component[g]) ** 2 / error**2:.1f} %",
            _text(impacts.conventional[i, g]),
            _text(refit.shifts[i] if abs(refit.shifts[i]) > 1e-3 * error else 0.0, "+") if refit else "",
            _text(refit.errors[i]) if refit else "",
        )


def _text(value: Any, sign: str = "") -> str:
    return f"{float(value):{sign}.3g}" if math.isfinite(value) else ""
