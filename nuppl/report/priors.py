"""The prior of one number as a result file keeps it: its family with arguments, a grid, or draws.

Of Uniform, LogUniform and Normal the density is known everywhere; of other families on the grid of the file, which
spans the posterior; of a prior that depends on another latent only draws are known.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

__all__ = ["Prior", "find_prior"]

Array = NDArray[np.float64]
ARGUMENTS = {"Uniform": ("low", "high"), "LogUniform": ("low", "high"), "Normal": ("loc", "scale")}
"""Families whose density is known everywhere, with what they are made from."""
REACH = 4.0
"""How many standard deviations of a Normal are drawn."""


@dataclass(frozen=True)
class Prior:
    """What is known of the prior of one number."""

    family: str
    arguments: Mapping[str, float]
    bounds: tuple[float, float]
    grid: tuple[Array, Array] | None
    """Places and densities with shape (P,)."""
    draws: Array
    """With shape (n,), perhaps empty."""

    @property
    def is_log(self) -> bool:
        """Whether it is flat in the logarithm."""
        return self.family == "LogUniform"

    def words(self) -> str:
        """`Uniform(low=0, high=0.2)`, or the family alone."""
        said = ", ".join(f"{name}={value:g}" for name, value in self.arguments.items())
        return f"{self.family}({said})" if said else self.family

    @property
    def is_known(self) -> bool:
        """Whether its density is known everywhere, rather than where the posterior is."""
        return set(ARGUMENTS.get(self.family, ("?",))) <= set(self.arguments)

    def density(self, x: Array) -> Array | None:
        """The density with the shape of x; None where it is not known."""
        if not self.is_known:
            return None if self.grid is None else np.interp(x, *self.grid)
        first, second = (self.arguments[name] for name in ARGUMENTS[self.family])
        if self.family == "Normal":
            return np.exp(-0.5 * ((x - first) / second) ** 2) / (second * math.sqrt(2.0 * math.pi))
        inside = (x >= first) & (x <= second)
        if self.family == "LogUniform":
            return np.where(inside, 1.0 / (np.maximum(x, first) * math.log(second / first)), 0.0)
        return np.where(inside, 1.0 / (second - first), 0.0)

    def range(self) -> tuple[float, float] | None:
        """Where to draw it: its bounds, the bulk of a Normal, or where its draws lie."""
        if all(map(math.isfinite, self.bounds)):
            return self.bounds
        if self.family == "Normal" and self.is_known:
            loc, width = self.arguments["loc"], REACH * self.arguments["scale"]
            return max(loc - width, self.bounds[0]), min(loc + width, self.bounds[1])
        if len(self.draws) < 2:
            return None
        low, high = np.quantile(self.draws, (0.005, 0.995))
        return float(low), float(high)


def find_prior(groups: Mapping[str, xr.Dataset], site: str, place: tuple[int, ...]) -> Prior:
    """The prior of the entry at `place` of a site of the posterior."""
    attrs: dict[str, Any] = dict(groups["posterior"][site].attrs)
    shape = groups["posterior"][site].shape[2:]
    number = int(np.ravel_multi_index(place, shape)) if shape else 0
    constants, before = (groups.get(name, xr.Dataset()) for name in ("constant_data", "prior"))
    grid = None
    if f"{site}_prior" in constants and not shape:
        density = constants[f"{site}_prior"]
        grid = (np.asarray(density.coords[f"{site}_grid"].values, float), np.asarray(density.values, float))
    draws = np.zeros(0)
    if site in before:
        values = before[site].transpose("chain", "draw", ...)
        draws = np.asarray(values[(slice(None), slice(None), *place)].values, dtype=np.float64).ravel()
    bounds = (float(attrs.get("lower", -math.inf)), float(attrs.get("upper", math.inf)))
    family = str(attrs.get("distribution", ""))
    return Prior(family, _arguments(attrs, family, number, grid is not None, bounds), bounds, grid, draws)


def _arguments(
    attrs: Mapping[str, Any], family: str, number: int, unconditional: bool, bounds: tuple[float, float]
) -> dict[str, float]:
    said = json.loads(str(attrs.get("prior", "{}")))
    if said:
        return {name: float(value[number] if isinstance(value, list) else value) for name, value in said.items()}
    # Files of before that attribute say the same of flat priors by their bounds.
    if unconditional and family in ("Uniform", "LogUniform") and all(map(math.isfinite, bounds)):
        return {"low": bounds[0], "high": bounds[1]}
    return {}
