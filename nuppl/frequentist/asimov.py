"""Fits of the data and of their Asimov counterpart at any values of the scanned parameters.

The Asimov data set of a hypothesis holds what it expects, auxiliary measurements too, at the nuisances that the data
prefer there (Cowan et al., arXiv:1007.1727, section 3.2).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nuppl.frequentist.profile import Profile
from nuppl.language.precision import double_precision
from nuppl.optimize.batch import fit_lanes
from nuppl.optimize.batch_newton import Minima
from nuppl.optimize.lanes import Likelihoods
from nuppl.typing import Values

__all__ = ["Fixed", "at_values", "prepared"]

_TOLERANCE = 1e-10
"""On the promised decrease of minus log L: square roots of small differences are taken."""


@dataclass(frozen=True, eq=False)
class Fixed:
    """One data set under test, or n of them.

    Attributes:
        profile: of the scan.
        data, centers: outcomes of data sites and of pulls, where they are not the program's.
        lowest: minus log L at its minimum, with shape (1,) or (n,).
    """

    profile: Profile
    data: Values
    centers: Values
    lowest: Tensor

    @classmethod
    def of(cls, profile: Profile) -> Fixed:
        """The data of a scan."""
        best = fit_lanes(profile.likelihoods, profile.best.point, response=profile.response, tolerance=_TOLERANCE)
        return cls(profile, {}, {}, best.better(profile.best).value)

    @classmethod
    def expected(cls, profile: Profile, points: Tensor) -> Fixed:
        """What n hypotheses expect, at coordinates with shape (n, D); the minimum is there."""
        natural = profile.likelihoods.natural
        sites, one = natural.values(points), len(points) == 1
        pulls = {name: sites[name] for name, site in natural.program.latents.items() if site.kind == "pull"}
        data = natural.program.means(sites)
        if one:  # for any number of lanes
            pulls, data = ({name: value[0] for name, value in values.items()} for values in (pulls, data))
        else:
            data = {name: value.expand(len(points), *value.shape[1:]) for name, value in data.items()}
        return cls(profile, data, pulls, Likelihoods(natural, data, pulls).values(points))

    @double_precision()
    def rise(self, values: Tensor) -> Tensor:
        """Twice the rise of minus log L from its minimum, nuisances fitted, with shape (n,), at values (n, K)."""
        likelihoods = Likelihoods(self.profile.likelihoods.natural, self.data, self.centers)
        return 2.0 * (at_values(self.profile, values, likelihoods).value - self.lowest).clamp(min=0.0)


def prepared(profile: Profile, values: Tensor) -> Tensor:
    """Coordinates with shape (n, D) with scanned values of shape (n, K), the nuisances those of the nearest point."""
    natural, columns = profile.likelihoods.natural, profile.columns
    points = profile.minima.point[profile.grid.nearest(values)].clone()
    log = natural.log[columns]
    linear = torch.where(log, torch.where(log, values, 1.0).log(), values)
    points[:, columns] = (linear - natural.loc[columns]) / natural.scale[columns]
    return points


@double_precision()
def at_values(profile: Profile, values: Tensor, likelihoods: Likelihoods) -> Minima:
    """Fits of nuisances at values with shape (n, K), from the nearest point of the grid or from the best fit."""
    start = prepared(profile, values)
    other = profile.best.point.repeat(len(start), 1)
    other[:, profile.columns] = start[:, profile.columns]
    lower = likelihoods.values(other) < likelihoods.values(start)
    start = torch.where(lower[:, None], other, start)
    return fit_lanes(likelihoods, start, held=profile.held, response=profile.response, tolerance=_TOLERANCE)
