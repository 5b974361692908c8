"""A hypothesis that holds some parameters, such as no oscillation, against the best fit.

    t_0 = 2 [min over the rest of (-log L)(held) - min (-log L)],   p = P(t >= t_0),

p from toys that are thrown where the data prefer everything that the hypothesis does not hold. Of many parameters that
mean nothing under the hypothesis (a splitting without mixing) no theorem tells the distribution of t.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from nuppl.errors import InputError, unknown
from nuppl.frequentist.profile import Profile
from nuppl.frequentist.toys import TILE, Thrower
from nuppl.language.density import Natural
from nuppl.language.precision import double_precision
from nuppl.language.simulation import tile_seed, toys
from nuppl.optimize.batch import fit_lanes
from nuppl.optimize.lanes import Likelihoods

__all__ = ["Hypothesis", "check_point", "hypothesis"]

_STREAM, _STARTS = 42 << 24, 8
"""The stream of random numbers; points of the grid from which the fit under the hypothesis starts."""


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """A hypothesis and the data.

    Attributes:
        values: what it holds.
        point: the fit under it, with shape (D,).
        held: its coordinates, boolean with shape (D,).
        statistic: t_0.
        converged: whether the fit under it has.
    """

    values: Mapping[str, float]
    point: Tensor
    held: Tensor
    statistic: float
    converged: bool

    @double_precision()
    def tile(self, thrower: Thrower, number: int) -> tuple[Tensor, Tensor]:
        """t of one tile of toys under the hypothesis, and which fits failed, each with shape (TILE,)."""
        profile = thrower.profile
        natural, linear = profile.likelihoods.natural, profile.linear
        truth = {name: value[0] for name, value in natural.values(self.point[None]).items()}
        seed = tile_seed(thrower.seed, _STREAM, number)
        drawn = toys(natural.program, TILE, seed=seed, at=truth, tile=TILE)
        likelihoods = Likelihoods(natural, drawn.data, drawn.centers)
        effective = linear.effective(drawn.data, drawn.centers, TILE)
        reference = self.point.clone()
        reference[linear.nuisance] = linear.reference[linear.nuisance]
        means = linear.means(reference[None]).expand(TILE, -1)
        start = linear.start(self.point.repeat(TILE, 1), effective, means, drawn.centers)
        start = torch.where(self.held, self.point, start)
        fixed = fit_lanes(likelihoods, start, held=self.held, response=profile.response)
        free = thrower.free(likelihoods, effective, drawn, fixed)
        # What the hypothesis leaves open may have its minimum elsewhere: there, too, where the free fit found it.
        moved = torch.where(self.held, self.point, free.point)
        fixed = fixed.better(fit_lanes(likelihoods, moved, held=self.held, response=profile.response))
        return 2.0 * (fixed.value - free.value).clamp(min=0.0), ~(fixed.converged & free.converged)


@double_precision()
def hypothesis(profile: Profile, values: Mapping[str, float]) -> Hypothesis:
    """A hypothesis that holds parameters at values.

    Raises:
        InputError: no parameter of the program, not a single number, or a value outside its bounds.
    """
    natural = profile.likelihoods.natural
    check_point(natural, values, "null")
    columns = natural.layout.columns(values)
    where = natural.coordinates({**natural.program.nominal(), **{n: torch.tensor(v) for n, v in values.items()}})
    held = torch.zeros(natural.dim, dtype=torch.bool)
    held[columns] = True
    start = torch.cat([profile.best.point, profile.minima.point])
    start[:, columns] = where[0, columns]
    lowest = profile.likelihoods.values(start).topk(min(_STARTS, len(start)), largest=False).indices
    found = fit_lanes(profile.likelihoods, start[lowest], held=held, response=profile.response)
    fitted = found.rows(found.value.argmin()[None])
    statistic = 2.0 * (float(fitted.value) - float(profile.best.value))
    return Hypothesis(dict(values), fitted.point[0], held, max(statistic, 0.0), bool(fitted.converged))


def check_point(natural: Natural, values: Mapping[str, float], what: str) -> None:
    """That values are some of a program's free numbers, within their bounds.

    Raises:
        InputError: they are not; `what` says of which option.
    """
    sites = natural.program.latents
    if not values:
        raise InputError(f"{what}: expected NAME=VALUE, got nothing")
    for name, value in values.items():
        if name not in sites:
            raise unknown(f"parameter of the {what}", name, sites)
        site = sites[name]
        if site.size != 1:
            raise InputError(f"{what} {name!r}: expected a single number, got a site with {site.size} of them")
        low, high = (float(site.lower), float(site.upper)) if site.kind == "parameter" else (-torch.inf, torch.inf)
        if not low <= value <= high:
            raise InputError(f"{what} {name!r}: expected a value within its bounds {low:g} to {high:g}, got {value:g}")
