"""Where the nuisances of toys lie.

| name        | the true nuisances of a toy at theta                                  | source           |
|-------------|-----------------------------------------------------------------------|------------------|
| profile     | those that the data prefer at theta; centres of pulls fluctuate       | arXiv:2207.14353 |
| prior       | drawn from their priors for each toy; centres stay                    | Cousins, Highland |
| berger-boos | in turn some of their region with 1 - beta confidence, profiled first | Berger, Boos     |

Prior-predictive: Nucl. Instrum. Meth. A 320 (1992) 331. Berger and Boos, J. Am. Stat. Assoc. 89 (1994) 1012:

    p = sup over the region of p(theta, nuisance) + beta,   critical value at level c = sup of those at c + beta;

the region is where the Gaussian approximation of the likelihood at theta falls by half a chi2 quantile, the supremum
that over a few points of it: the profiled one, and others on its surface in random directions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.stats import chi2
from torch import Tensor

from nuppl.errors import InputError, unknown
from nuppl.frequentist.critical import Critical, critical, p_value
from nuppl.frequentist.profile import Profile
from nuppl.language.simulation import tile_seed
from nuppl.typing import Values

__all__ = ["NUISANCES", "Nuisances"]

NUISANCES = ("profile", "prior", "berger-boos")
"""Constructions by name."""

_BETA, _SETS, _STREAM = 1e-3, 5, 48 << 24
"""beta; points of the region; the stream of random numbers."""


@dataclass(frozen=True)
class Nuisances:
    """One construction.

    Attributes:
        name: one of `NUISANCES`.

    Raises:
        InputError: another name.

    >>> Nuisances("berger-boos").sets, Nuisances().sets
    (5, 1)
    """

    name: str = "profile"

    def __post_init__(self) -> None:
        if self.name not in NUISANCES:
            raise unknown("construction of nuisances", self.name, NUISANCES)

    @property
    def sets(self) -> int:
        """How many sets of true nuisances there are at each point; tile after tile takes the next."""
        return _SETS if self.name == "berger-boos" else 1

    @property
    def predictive(self) -> bool:
        """Whether nuisances are drawn from their priors."""
        return self.name == "prior"

    def values(self, profile: Profile, point: int, number: int, seed: int) -> Values:
        """The true values, {latent: (*site)}, of a tile by its number at a point of the grid."""
        natural, truth = profile.likelihoods.natural, profile.minima.point[point]
        if number % self.sets:
            truth = _on_surface(profile, truth, tile_seed(seed, _STREAM, number % self.sets))
        values = {name: value[0] for name, value in natural.values(truth[None]).items()}
        return {name: values[name] for name in profile.grid.names} if self.predictive else values

    def critical(self, statistic: Tensor, levels: tuple[float, ...], tile: int) -> Critical:
        """Critical values with shape (L, G) of toys with shape (G, n) in tiles.

        Raises:
            InputError: a level above 1 - beta.
        """
        if self.sets == 1:
            return critical(statistic, levels)
        if max(levels) + _BETA >= 1.0:
            raise InputError(f"berger-boos: expected levels below {1.0 - _BETA:g}, got {max(levels):g}")
        each = [critical(part, [level + _BETA for level in levels]) for part in self._parts(statistic, tile)]
        values, errors = (torch.stack(part) for part in zip(*each, strict=True))
        top = values.argmax(0, keepdim=True)
        return Critical(values.gather(0, top)[0], errors.gather(0, top)[0])

    def p_value(self, statistic: Tensor, observed: Tensor, tile: int) -> tuple[Tensor, Tensor]:
        """p-values and errors with shape (G,), of toys with shape (G, n) in tiles and what was observed."""
        if self.sets == 1:
            return p_value(statistic, observed)
        each = [p_value(part, observed) for part in self._parts(statistic, tile)]
        values, errors = (torch.stack(part) for part in zip(*each, strict=True))
        top = values.argmax(0, keepdim=True)
        return (values.gather(0, top)[0] + _BETA).clamp(max=1.0), errors.gather(0, top)[0]

    def _parts(self, statistic: Tensor, tile: int) -> list[Tensor]:
        number = torch.arange(statistic.shape[1]) // tile % self.sets
        return [statistic[:, number == part] for part in range(self.sets)]


def _on_surface(profile: Profile, point: Tensor, seed: int) -> Tensor:
    """A point with shape (D,) in a random direction of the nuisances, on the surface of their region."""
    natural, likelihoods = profile.likelihoods.natural, profile.likelihoods
    columns = (~profile.held).nonzero()[:, 0]
    if not len(columns):
        return point
    values, vectors = torch.linalg.eigh(likelihoods.curvature(point[None], columns)[0])
    generator = torch.Generator().manual_seed(seed)
    direction = torch.randn(len(columns), generator=generator, dtype=torch.float64)
    radius = float(chi2.ppf(1.0 - _BETA, len(columns))) ** 0.5
    step = vectors @ (direction / direction.norm() * radius * values.clamp(min=1e-9).rsqrt())
    found = point.clone()
    found[columns] += step
    return torch.minimum(torch.maximum(found, natural.lower), natural.upper)
