"""Statistics of draws, entry by entry: moments, quantiles, convergence."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from nuppl.results.arrays import entries, lazy
from nuppl.results.convergence import convergence
from nuppl.results.draws import Draws
from nuppl.results.metadata import metadata

__all__ = ["Summary", "summarize", "summarize_result"]

ONE_SIGMA = (0.15865525393145707, 0.8413447460685429)
"""Quantiles that leave 68.27 % between them."""


NUMBERS = ("mean", "sd", "median", "lower", "upper", "r_hat", "ess_bulk", "ess_tail")


@dataclass(frozen=True)
class Summary:
    """What is known of one number: a scalar site, or one entry of a vector."""

    name: str
    """`site`, or `site[AD11, 3]` with the coordinates of the entry."""
    site: str
    entry: tuple[Any, ...]
    """Coordinates of the entry, () for scalars."""
    mean: float
    sd: float
    median: float
    lower: float
    """The 15.9 % quantile."""
    upper: float
    """The 84.1 % quantile."""
    r_hat: float
    ess_bulk: float
    ess_tail: float
    unit: str = ""


def summarize(draws: Draws | xr.Dataset, attrs: Mapping[str, Any] | None = None) -> list[Summary]:
    """One row per number, in the order of the sites. One number at a time is held in memory.

    Arguments:
        draws: from an engine, or the `posterior` group of a result (which knows the coordinates).
        attrs: of the run, where `draws` does not bring them: "effective_draws" of resampled draws, which no effective
            number may exceed, and "islands", the number of chains whose draws come in no order.
    """
    if isinstance(draws, Draws):
        attrs, draws = draws.attrs, _dataset(draws)
    given = (attrs or {}).get("effective_draws")
    limit = math.inf if given is None else float(given)
    islands = int((attrs or {}).get("islands", 0)) > 0
    return [row for site in draws.data_vars for row in _rows(str(site), draws[site], limit, islands)]


def summarize_result(groups: Mapping[str, xr.Dataset]) -> list[Summary]:
    """The summary of a result's posterior, empty where it has none."""
    if "posterior" not in groups:
        return []
    return summarize(groups["posterior"], metadata(groups)["attrs"])


def _dataset(draws: Draws) -> xr.Dataset:
    def dims(site: Tensor, name: str) -> tuple[str, ...]:
        return ("chain", "draw", *(f"{name}_dim_{i}" for i in range(site.dim() - 2)))

    return xr.Dataset({name: (dims(site, name), lazy(draws.values, name)) for name, site in draws.values.items()})


def _rows(site: str, draws: xr.DataArray, limit: float, islands: bool) -> Iterator[Summary]:
    for place, values in entries(draws):
        coordinates = tuple(_coordinate(draws, dim, i) for dim, i in zip(draws.dims[2:], place, strict=True))
        label = f"[{', '.join(map(str, coordinates))}]" if coordinates else ""
        numbers = _numbers(values, limit, islands)
        yield Summary(site + label, site, coordinates, **numbers, unit=str(draws.attrs.get("unit", "")))


def _coordinate(draws: xr.DataArray, dim: Any, i: int) -> Any:
    if dim not in draws.coords:
        return i
    value = draws.coords[dim].values[i].item()
    # 9.100000000000001 is 9.1 to every reader.
    return float(f"{value:.10g}") if isinstance(value, float) else value


def _numbers(values: NDArray[np.float64], limit: float, islands: bool) -> dict[str, float]:
    if not np.isfinite(values).all():
        return dict.fromkeys(NUMBERS, math.nan)
    median, lower, upper = np.quantile(values, (0.5, *ONE_SIGMA))
    sd = float(values.std(ddof=1)) if values.size > 1 else 0.0
    moments = (float(values.mean()), sd, float(median), float(lower), float(upper))
    return dict(zip(NUMBERS, (*moments, *convergence(values, limit, islands)), strict=True))
