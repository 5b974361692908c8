"""The prior of each number of a posterior, from nothing but the result."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.special import ndtr

from nuppl.errors import InputError
from nuppl.results.summary import Summary

__all__ = ["Array", "Entry", "Prior", "parameters"]

Array = NDArray[np.float64]

ENOUGH = 100
"""Draws that tell a prior's cumulative probability to 0.05."""


@dataclass(frozen=True)
class Prior:
    """The prior of one entry: its family with arguments where the result says them, and draws."""

    family: str
    arguments: Mapping[str, float]
    bounds: tuple[float | None, float | None]
    draws: Array

    def words(self) -> str:
        """ "Uniform(low=0, high=1)"."""
        return f"{self.family}({', '.join(f'{name}={value:g}' for name, value in self.arguments.items())})"

    @property
    def is_flat(self) -> bool:
        """Whether it is flat between two ends, in its own or the logarithmic scale."""
        low, high = (self.arguments.get(end, 0.0) for end in ("low", "high"))
        return low < high and (self.family == "Uniform" or (self.family == "LogUniform" and low > 0.0))

    @property
    def is_normal(self) -> bool:
        """Whether it is a Normal of known width."""
        return self.family == "Normal" and "loc" in self.arguments and self.arguments.get("scale", 0.0) > 0.0

    @property
    def is_known(self) -> bool:
        """Whether its quantiles are."""
        return self.is_flat or self.is_normal or len(self.draws) >= ENOUGH

    @property
    def ends(self) -> tuple[float | None, float | None]:
        """Where it ends; None where it does not, or where the result does not say."""
        return (self.arguments["low"], self.arguments["high"]) if self.is_flat else self.bounds

    def natural(self, x: Array) -> Array:
        """The scale in which it is flat, if it is: the logarithm for a LogUniform."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(np.log(x) if self.family == "LogUniform" else x)

    def cdf(self, x: Array) -> Array:
        """The probability below x; by the draws where the family is not one of the three."""
        if self.is_flat:
            low, high = (self.natural(np.asarray(self.arguments[end])) for end in ("low", "high"))
            return np.asarray((self.natural(x) - low) / (high - low))
        if self.is_normal:
            return np.asarray(ndtr((x - self.arguments["loc"]) / self.arguments["scale"]))
        return np.searchsorted(np.sort(self.draws), x) / len(self.draws)


class Entry(NamedTuple):
    """One number of a posterior, with its prior; `number` counts the entries of its site."""

    row: Summary
    prior: Prior
    posterior: xr.DataArray
    number: int

    def draws(self) -> Array:
        """All its draws in a row."""
        return _draws(self.posterior, self.number)


def parameters(groups: Mapping[str, xr.Dataset], rows: Sequence[Summary]) -> dict[str, Entry]:
    """The numbers of a summary that are parameters, by name.

    Arguments:
        rows: all of each site that it names, in order.

    Raises:
        InputError: a prior that the result does not describe as nuppl does.
    """
    posterior, prior = groups["posterior"], groups.get("prior", xr.Dataset())
    found: dict[str, Entry] = {}
    seen: Counter[str] = Counter()
    for row in rows:
        attrs, index = posterior[row.site].attrs, seen[row.site]
        seen[row.site] += 1
        if attrs.get("kind") == "parameter":
            known = row.site in prior and _entries(prior[row.site]).shape[2:] == _entries(posterior[row.site]).shape[2:]
            before = _draws(prior[row.site], index) if known else np.zeros(0)
            found[row.name] = Entry(row, _prior(row.site, attrs, index, before), posterior[row.site], index)
    return found


def _prior(site: str, attrs: Mapping[str, Any], index: int, draws: Array) -> Prior:
    try:
        said = json.loads(str(attrs.get("prior", "{}")))
        arguments = {name: float(value[index] if isinstance(value, list) else value) for name, value in said.items()}
        lower, upper = (float(attrs[end]) if end in attrs else None for end in ("lower", "upper"))
    except (ValueError, TypeError, AttributeError, IndexError) as error:
        raise InputError(
            f"result: expected the prior of {site!r} as nuppl describes it, got {attrs.get('prior')!r}; repeat the run"
        ) from error
    return Prior(str(attrs.get("distribution", "")), arguments, (lower, upper), draws)


def _entries(values: xr.DataArray) -> xr.DataArray:
    return values.transpose("chain", "draw", ...)


def _draws(values: xr.DataArray, index: int) -> Array:
    """All draws of one entry in a row."""
    entries = _entries(values)
    place = np.unravel_index(index, entries.shape[2:])
    return np.asarray(entries[(slice(None), slice(None), *place)].values, dtype=np.float64).reshape(-1)
