"""Which nuisances go with the answer: correlations of the interest and of what is most correlated with it.

rho_ij = cov(x_i, x_j) / (sd(x_i) sd(x_j)),    over all draws.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nuppl.report.canvas import INK, Picture, figure, picture
from nuppl.report.interest import numbers
from nuppl.report.labels import coordinates, literal, tex_label
from nuppl.results.arrays import entries, thin

__all__ = ["correlations"]

Array = NDArray[np.float64]
STRONGEST = 12
"""Nuisances shown."""
DRAWS = 20_000
"""Draws looked at: the noise of a correlation is then below 0.01."""
WRITTEN = 0.005
"""Smaller correlations are left blank."""


@dataclass(frozen=True)
class Scaled:
    """One number, its draws (n,) with mean 0 and mean square 1; all 0 where it never moved."""

    label: str
    draws: Array


def correlations(groups: Mapping[str, xr.Dataset], interest: Sequence[str]) -> list[Picture]:
    """The matrix of the interest and the twelve nuisances most correlated with it; empty for a single number."""
    few = xr.Dataset({name: thin(draws, DRAWS) for name, draws in groups["posterior"].data_vars.items()})
    wanted = [Scaled(n.tex, _scaled(n.draws)) for n in numbers({**groups, "posterior": few}, interest)]
    if not wanted:
        return []
    others = (other for site in few.data_vars if site not in interest for other in _entries(few[site]))
    shown = [*wanted, *_strongest(others, np.stack([number.draws for number in wanted]))]
    if len(shown) < 2:
        return []
    rows = np.stack([number.draws for number in shown])
    return [_draw(rows @ rows.T / rows.shape[1], [number.label for number in shown], len(wanted))]


def _entries(draws: xr.DataArray) -> Iterator[Scaled]:
    label = tex_label(str(draws.name), draws.attrs)
    for place, values in entries(draws):
        entry = ", ".join(coordinates(draws, place))
        yield Scaled(f"{label}  {literal(entry)}" if entry else label, _scaled(values))


def _scaled(values: Array) -> Array:
    around = values.ravel() - values.mean()
    width = np.sqrt(np.mean(around**2))
    return around / width if width > 0.0 else np.zeros_like(around)


def _strongest(others: Iterator[Scaled], wanted: Array) -> list[Scaled]:
    def strength(other: Scaled) -> float:
        return float(np.abs(wanted @ other.draws).max()) / len(other.draws)

    return heapq.nlargest(STRONGEST, others, key=strength)


def _draw(matrix: Array, labels: list[str], wanted: int) -> Picture:
    n = len(labels)
    drawn = figure(2.9 + 0.5 * n, 1.9 + 0.5 * n)
    axes = drawn.subplots()
    image = axes.imshow(matrix, cmap="RdBu_r", vmin=-1.0, vmax=1.0, aspect="equal")
    for i, j in np.ndindex(n, n):
        _write(axes, i, j, float(matrix[i, j]))
    if wanted < n:
        for line in (axes.axhline, axes.axvline):
            line(wanted - 0.5, color=INK, lw=1.2)
    axes.set_xticks(range(n), labels, rotation=50, ha="right", rotation_mode="anchor", fontsize=9)
    axes.set_yticks(range(n), labels, fontsize=9)
    axes.tick_params(length=0)
    drawn.colorbar(image, ax=axes, label="correlation", shrink=0.7)
    count = "nuisance" if n == wanted + 1 else f"{n - wanted} nuisances"
    nuisances = f" and the {count} most correlated with it" if wanted < n else ""
    caption = f"Posterior correlations of the interest{nuisances}, in the order of their strength."
    return picture(drawn, "Correlations", caption)


def _write(axes: Any, row: int, column: int, value: float) -> None:
    if row != column and abs(value) >= WRITTEN:
        colour = "white" if abs(value) > 0.6 else INK
        axes.text(column, row, f"{value:.2f}".replace("-", "−"), color=colour, fontsize=8, ha="center", va="center")
