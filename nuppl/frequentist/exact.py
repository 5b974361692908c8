"""Critical values without toys, of a program whose data are one number: outcomes are summed, or integrated over.

    P(t <= c | theta) = sum over x of P(x | theta) [t(x, theta) <= c]

Counts are summed until nothing is left; a Gaussian measurement is integrated by nodes out to nine deviations, between
which its probability is taken as it is at the middle. Feldman and Cousins made their tables so (Phys. Rev. D 57 (1998)
3873).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nuppl.errors import InputError
from nuppl.frequentist.critical import check_levels
from nuppl.frequentist.experiments import Experiments
from nuppl.frequentist.profile import Profile
from nuppl.frequentist.statistics import LIKELIHOOD_RATIO, Statistic
from nuppl.frequentist.toys import Thrower
from nuppl.language.precision import double_precision
from nuppl.language.simulation import Toys

__all__ = ["Exact", "exact"]

_FAR = 9.0


@dataclass(frozen=True, eq=False)
class Exact:
    """All outcomes of an experiment, at the G points of a scan.

    Attributes:
        levels: L of confidence.
        outcomes: of the measurement with shape (n,).
        probability: with shape (G, n), each row adding up to one.
        statistic: of each outcome tested at each point, with shape (G, n).
        critical: with shape (L, G).
    """

    levels: tuple[float, ...]
    outcomes: Tensor
    probability: Tensor
    statistic: Tensor
    critical: Tensor

    @property
    def accepted(self) -> Tensor:
        """Which points an outcome accepts, boolean with shape (L, G, n)."""
        return self.statistic <= self.critical[:, :, None]

    @property
    def coverage(self) -> Tensor:
        """The probability that the true point is accepted, with shape (L, G)."""
        return (self.accepted * self.probability).sum(2)


@double_precision()
def exact(
    profile: Profile, levels: Sequence[float], statistic: Statistic = LIKELIHOOD_RATIO, *, nodes: int = 2001
) -> Exact:
    """Critical values of a scan.

    Arguments:
        levels: of confidence.
        statistic: which.
        nodes: of the integral over a Gaussian measurement.

    Raises:
        InputError: the data are more than one number, or neither a count nor Gaussian, or there are pulls.
    """
    levels = check_levels(levels)
    name, outcomes = _outcomes(profile, nodes)
    grid, likelihoods = profile.grid, profile.likelihoods
    shape = likelihoods.natural.program.sites[name].shape
    drawn = Toys({name: outcomes.reshape(-1, *[1] * len(shape))}, {})
    seen = Thrower.of(profile, 0).experiments(drawn, grid.points[:1].expand(len(outcomes), -1))
    probability = _probability(profile, seen, drawn)
    found = torch.stack([statistic(seen.at(point)) for point in grid.points])
    smooth = likelihoods.natural.program.sites[name].distribution == "Normal"
    critical = torch.stack([_quantile(found, probability, level, smooth) for level in levels])
    return Exact(levels, outcomes, probability, found, critical)


def _outcomes(profile: Profile, nodes: int) -> tuple[str, Tensor]:
    program = profile.likelihoods.natural.program
    pulls = [name for name, site in program.latents.items() if site.kind == "pull"]
    sites = program.data_sites
    if len(sites) != 1 or next(iter(sites.values())).size != 1 or pulls:
        sizes = ", ".join(f"{name} with {site.size}" for name, site in sites.items())
        raise InputError(
            f"exact critical values: expected data that are one number and no pulls, got {sizes} and "
            f"{len(pulls)} pulls; throw toys"
        )
    name, site = next(iter(sites.items()))
    mean, variance = profile.likelihoods.moments(profile.minima.point)
    low, high = float((mean - _FAR * variance.sqrt()).min()), float((mean + _FAR * variance.sqrt()).max())
    if site.distribution == "Normal":
        return name, torch.linspace(low, high, nodes)
    if site.distribution == "Poisson":
        return name, torch.arange(0.0, high + 20.0)
    raise InputError(f"exact critical values: expected Normal or Poisson data, got {site.distribution}; throw toys")


def _probability(profile: Profile, seen: Experiments, drawn: Toys) -> Tensor:
    """With shape (G, n), at the nuisances that the data prefer at each point."""
    natural, n = profile.likelihoods.natural, len(seen)
    rows = [natural.log_likelihood(point.expand(n, -1), drawn.data) for point in profile.minima.point]
    return torch.stack(rows).softmax(1)


def _quantile(statistic: Tensor, probability: Tensor, level: float, smooth: bool) -> Tensor:
    """The least value that is not exceeded with probability `level`, with shape (G,)."""
    ordered, order = statistic.sort(dim=1)
    total = probability.gather(1, order).cumsum(1)
    index = (total < level - 1e-12).sum(1, keepdim=True).clamp(max=statistic.shape[1] - 1)
    upper = ordered.gather(1, index)[:, 0]
    if not smooth:
        return upper
    before = (index - 1).clamp(min=0)
    low, first, last = ordered.gather(1, before)[:, 0], total.gather(1, before)[:, 0], total.gather(1, index)[:, 0]
    share = ((level - first) / (last - first).clamp(min=1e-300)).clamp(0.0, 1.0)
    return low + share * (upper - low)
