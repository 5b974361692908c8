"""The numbers of interest as figures show them: draws, label, power of ten, and prior."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nuppl.report.labels import axis_label, coordinates, literal, tex_label
from nuppl.report.priors import Prior, find_prior
from nuppl.results.arrays import entries, thin

__all__ = ["MOST", "Number", "numbers"]

Array = NDArray[np.float64]
MOST = 8
"""More numbers than this cannot be read on one page."""
SHOWN = 100_000
"""Draws in a picture: more could not be told apart."""
DECADES = 30.0
"""Draws whose bulk spreads over more than this factor have a logarithmic axis."""


@dataclass(frozen=True)
class Number:
    """One scalar of interest, or one entry of a vector."""

    site: str
    entry: tuple[str, ...]
    """Coordinates of the entry, () for scalars."""
    draws: Array
    """With shape (chain, draw), thinned to what a picture can show."""
    attrs: Mapping[str, Any]
    bounds: tuple[float, float]
    prior: Prior

    @property
    def name(self) -> str:
        """`site`, or `site[AD11]`."""
        return self.site + (f"[{', '.join(self.entry)}]" if self.entry else "")

    @property
    def values(self) -> Array:
        """All draws in a row, with shape (chain * draw,)."""
        return self.draws.ravel()

    @property
    def is_log(self) -> bool:
        """Whether axes show its logarithm: where the prior is flat in that, and the draws spread over decades."""
        low, high = np.quantile(self.draws, (0.01, 0.99))
        return self.prior.is_log and low > 0.0 and high > DECADES * low

    @property
    def power(self) -> int:
        """The power of ten that axes leave out."""
        if self.is_log:
            return 0
        size = float(np.abs(self.draws).max())
        power = math.floor(math.log10(size)) if size > 0.0 and math.isfinite(size) else 0
        return 0 if -2 <= power < 4 else power

    @property
    def tex(self) -> str:
        """The label without its unit."""
        return tex_label(self.site, self.attrs) + (f" ({', '.join(map(literal, self.entry))})" if self.entry else "")

    @property
    def axis(self) -> str:
        """The label of the axis of `shown`."""
        label = axis_label(self.site, self.attrs, f"$10^{{{self.power}}}$" if self.power else "")
        entry = f"\n{', '.join(map(literal, self.entry))}" if self.entry else ""
        return ("$\\log_{10}$ " if self.is_log else "") + label + entry

    def shown(self, x: Array) -> Array:
        """Values as its axis shows them: without the power of ten, or their decimal logarithm."""
        if self.is_log:
            with np.errstate(divide="ignore"):
                return np.asarray(np.log10(x))
        return x / 10.0**self.power

    def prior_density(self, shown: Array) -> Array | None:
        """The prior's density per unit of the axis, at places on it; None where it is not known."""
        x = 10.0**shown if self.is_log else shown * 10.0**self.power
        density = self.prior.density(x)
        if density is None:
            return None
        return density * (x * math.log(10.0) if self.is_log else 10.0**self.power)


def numbers(groups: Mapping[str, xr.Dataset], interest: Sequence[str]) -> list[Number]:
    """The first eight numbers of interest."""
    found = (number for site in interest if site in groups["posterior"] for number in _numbers(groups, site))
    return list(islice(found, MOST))


def _numbers(groups: Mapping[str, xr.Dataset], site: str) -> Iterator[Number]:
    posterior = groups["posterior"][site].transpose("chain", "draw", ...)
    for place, values in entries(thin(posterior, SHOWN)):
        prior = find_prior(groups, site, place)
        yield Number(site, coordinates(posterior, place), values, dict(posterior.attrs), prior.bounds, prior)
