"""Where data have no mean that is known, as those whose density a network learned: starts by the likelihood itself.

It stands in for `Linear`: "expected data" are coordinates, and chi2 = -2 log L of each experiment there, nuisances as
they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nuppl.errors import InputError
from nuppl.frequentist.linear import Linear
from nuppl.optimize.lanes import Likelihoods
from nuppl.optimize.objective import natural_objective
from nuppl.optimize.response import Response
from nuppl.typing import Values

__all__ = ["Direct", "linear_at", "response_around"]

_ROWS = 1 << 15
"""Likelihoods at a time."""


@dataclass(frozen=True, eq=False)
class Direct(Linear):
    """A program of which nothing is known but its likelihood."""

    def means(self, points: Tensor) -> Tensor:
        """The points themselves, with shape (n, D)."""
        return points

    def expected(self, points: Tensor) -> Tensor:
        """The points themselves, with shape (n, D)."""
        return points

    def effective(self, data: Values, centers: Values, n: int) -> Tensor:
        """Data, and centres where there are any, side by side with shape (n, M)."""
        program = self.likelihoods.natural.program
        parts = [data[name].reshape(-1, site.size).expand(n, -1) for name, site in program.data_sites.items()]
        parts += [centers[name].reshape(-1, program.sites[name].size).expand(n, -1) for name in self._pulls(centers)]
        return torch.cat(parts, 1)

    def chi2(self, effective: Tensor, means: Tensor) -> Tensor:
        """-2 log L with shape (n, G), for experiments with shape (n, M) and points with shape (G, D)."""
        found = []
        for some in effective.split(max(1, _ROWS // len(means))):
            lanes = self._lanes(some.repeat_interleave(len(means), 0))
            found.append(2.0 * lanes.values(means.repeat(len(some), 1)).reshape(len(some), -1))
        return torch.cat(found)

    def start(self, points: Tensor, effective: Tensor, means: Tensor, centers: Values) -> Tensor:
        """The points, within bounds."""
        return points.clamp(self.likelihoods.natural.lower, self.likelihoods.natural.upper)

    def _pulls(self, centers: Values) -> list[str]:
        return [name for name in self.likelihoods.natural.program.latents if name in centers]

    def _lanes(self, effective: Tensor) -> Likelihoods:
        natural = self.likelihoods.natural
        sites = list(natural.program.data_sites.values())
        width = sum(site.size for site in sites)
        if effective.shape[1] > width:
            sites += [site for site in natural.program.latents.values() if site.kind == "pull"]
        parts = effective.split([site.size for site in sites], 1)
        found = {s.name: part.reshape(-1, *s.shape) for s, part in zip(sites, parts, strict=True)}
        data = {name: found[name] for name in natural.program.data_sites}
        return Likelihoods(natural, data, {name: value for name, value in found.items() if name not in data})


def linear_at(likelihoods: Likelihoods, reference: Tensor, scanned: Tensor) -> Linear:
    """Around a reference with shape (D,), for scanned columns with shape (K,): linear where means are known."""
    try:
        return Linear.at(likelihoods, reference, scanned)
    except InputError:
        none = torch.zeros(0)
        keep = torch.ones(likelihoods.dim, dtype=torch.bool)
        keep[scanned] = False
        return Direct(likelihoods, reference, keep.nonzero()[:, 0], none, none, none)


def response_around(likelihoods: Likelihoods, points: Tensor) -> Response | None:
    """The response of expected data around points with shape (q, D); None where their means are not known."""
    try:
        return Response.around(natural_objective(likelihoods.natural), points)
    except InputError:
        return None
