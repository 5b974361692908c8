"""Statistics of draws, entry by entry: moments, quantiles, convergence.

R-hat and effective draws are the rank-normalised ones of Vehtari et al. (arXiv:1903.08008), from ArviZ.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

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


def summarize(draws: Draws | xr.Dataset, effective_draws: float | None = None) -> list[Summary]:
    """One row per number, in the order of the sites.

    Arguments:
        draws: from an engine, or the `posterior` group of a result (which knows the coordinates).
        effective_draws: the effective size of resampled draws. Resampling repeats draws, which the autocorrelation
            cannot see, so no effective number may exceed it. Taken from `draws.attrs` where that is at hand.
    """
    if isinstance(draws, Draws):
        given = draws.attrs.get("effective_draws")
        effective_draws = float(given) if given is not None else effective_draws
        draws = _dataset(draws)
    limit = math.inf if effective_draws is None else float(effective_draws)
    return [row for site in draws.data_vars for row in _rows(str(site), draws[site], limit)]


def summarize_result(groups: Mapping[str, xr.Dataset]) -> list[Summary]:
    """The summary of a result's posterior, empty where it has none."""
    if "posterior" not in groups:
        return []
    return summarize(groups["posterior"], metadata(groups)["attrs"].get("effective_draws"))


def _dataset(draws: Draws) -> xr.Dataset:
    return xr.Dataset(
        {
            name: (("chain", "draw", *(f"{name}_dim_{i}" for i in range(value.dim() - 2))), value.detach().numpy())
            for name, value in draws.values.items()
        }
    )


def _rows(site: str, draws: xr.DataArray, limit: float) -> Iterator[Summary]:
    values = np.asarray(draws.transpose("chain", "draw", ...).values, dtype=np.float64)
    entries = [entry for entry, _ in np.ndenumerate(values[0, 0])]
    for entry in entries:
        coordinates = tuple(_coordinate(draws, dim, i) for dim, i in zip(draws.dims[2:], entry, strict=True))
        label = f"[{', '.join(map(str, coordinates))}]" if coordinates else ""
        numbers = _numbers(values[(..., *entry)], limit)
        yield Summary(site + label, site, coordinates, **numbers, unit=str(draws.attrs.get("unit", "")))


def _coordinate(draws: xr.DataArray, dim: Any, i: int) -> Any:
    if dim not in draws.coords:
        return i
    value = draws.coords[dim].values[i].item()
    # 9.100000000000001 is 9.1 to every reader.
    return float(f"{value:.10g}") if isinstance(value, float) else value


def _numbers(values: NDArray[np.float64], limit: float) -> dict[str, float]:
    if not np.isfinite(values).all():
        return dict.fromkeys(NUMBERS, math.nan)
    median, lower, upper = np.quantile(values, (0.5, *ONE_SIGMA))
    sd = float(values.std(ddof=1)) if values.size > 1 else 0.0
    moments = (float(values.mean()), sd, float(median), float(lower), float(upper))
    return dict(zip(NUMBERS, (*moments, *_convergence(values, limit)), strict=True))


def _convergence(values: NDArray[np.float64], limit: float) -> tuple[float, float, float]:
    import arviz

    if np.ptp(values) == 0.0:
        # A number that never moved has no R-hat; the verdict must not take it for a converged one.
        return math.nan, 0.0, 0.0
    # ArviZ wants two chains for R-hat; the halves of a single one are a fair test of drift.
    half = values.shape[1] // 2
    chains = values if len(values) > 1 else values[0, : 2 * half].reshape(2, half)
    # Chains that are each stuck at a place of their own divide by zero: R-hat is then infinite, as it should be.
    with np.errstate(divide="ignore", invalid="ignore"):
        bulk, tail = (float(arviz.ess(values, method=method)) for method in ("bulk", "tail"))
        return float(arviz.rhat(chains)), min(bulk, limit), min(tail, limit)
