"""What the distribution of the likelihood ratio would be, were data Gaussian and nuisances linear: no toys, no fits.

With R of `linear`, y = R m(theta) + z and z ~ N(0, 1), the statistic at theta is

    t = max over tau of  |z|^2 - |R m(theta) - R m(tau) + z|^2,   or 0,

tau on template grids over the ranges of the scan and of the parameters, and on a fine one within a few standard
deviations of theta. It knows bounds and many minima, and is a map u = F_0(t | theta) in which little is left to learn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nuppl.frequentist.grid import Grid
from nuppl.frequentist.profile import Profile
from nuppl.language.precision import double_precision
from nuppl.language.simulation import tile_seed
from nuppl.optimize.objective import natural_objective
from nuppl.typing import Progress, silent

__all__ = ["Approximate"]

_DRAWS, _WORK, _CHUNK, _KNOTS, _STREAM = (2048, 8192), 1_000_000, 1024, 512, 46 << 24
"""z at least and at most, and at all points together; z at a time; values of t that are kept at each point; the stream
of random numbers."""

_TEMPLATES, _NEAR, _STEP, _REACH = 1000, 225, 0.5, 3.5
"""About how many tau in each range, and near theta at most; their step and reach there in standard deviations."""


@dataclass(frozen=True, eq=False)
class Approximate:
    """F_0 at the points of a grid, by linear interpolation.

    Attributes:
        shares: u at the knots, with shape (N,).
        knots: t there, ascending, with shape (G, N).
    """

    shares: Tensor
    knots: Tensor

    @classmethod
    @double_precision()
    def of(cls, profile: Profile, seed: int, progress: Progress = silent) -> Approximate:
        """For a scan.

        Raises:
            InputError: data without a mean, as those whose density a network learned.
        """
        linear, points = profile.linear, profile.grid.points
        here = _at(profile, points)
        mean, other = (linear.means(at) @ linear.root.T for at in (here, _templates(profile)))
        draws = min(max(_WORK // len(mean), _DRAWS[0]), _DRAWS[1])
        engine = torch.quasirandom.SobolEngine(mean.shape[1], scramble=True, seed=tile_seed(seed, _STREAM) >> 32)
        uniform = engine.draw(draws, dtype=torch.float64).clamp(1e-12, 1.0 - 1e-12)
        z = torch.special.ndtri(uniform)
        shares = _shares()
        ranks = (shares * draws).ceil().long().clamp(1, draws) - 1
        steps, found = _steps(len(profile.columns)), []
        products = [part @ other.T for part in z.split(_CHUNK)]
        for number, center in enumerate(mean):
            near = linear.means(_near(profile, here[number], steps)) @ linear.root.T
            half = [0.5 * (center - tau).square().sum(1) for tau in (other, near)]
            parts = []
            for part, far in zip(z.split(_CHUNK), products, strict=True):
                best = torch.maximum((far - half[0]).amax(1), (part @ near.T - half[1]).amax(1))
                parts.append(2.0 * (best - part @ center))
            t = torch.cat(parts).clamp(min=0.0)
            found.append(t.sort().values[ranks])
            progress(number + 1, len(mean), "points approximated")
        return cls(shares, torch.stack(found))

    def forward(self, t: Tensor, cells: Tensor) -> Tensor:
        """u with shape (n,), of statistics with shape (n,) at points of the grid, numbers with shape (n,)."""
        found = torch.empty_like(t)
        for cell in cells.unique():
            here = cells == cell
            found[here] = _interpolated(t[here], *self._curve(self.knots[cell]))
        return found

    def inverse(self, u: Tensor, cells: Tensor) -> Tensor:
        """The smallest t with F_0(t) >= u."""
        found = torch.empty_like(u)
        for cell in cells.unique():
            here, (t, shares) = cells == cell, self._curve(self.knots[cell])
            found[here] = _interpolated(u[here], shares, t)
        return found

    def _curve(self, knots: Tensor) -> tuple[Tensor, Tensor]:
        """t and u, both rising, with a tail that falls as exp(-t / 2); u at zero is the share of zeros."""
        tail = torch.tensor([0.5, 1.0, 2.0, 4.0, 8.0, 16.0], dtype=torch.float64)
        t = torch.cat([knots, knots[-1] + 2.0 * tail])
        u = torch.cat([self.shares, 1.0 - (1.0 - self.shares[-1]) * (-tail).exp()])
        last = torch.cat([t[1:] > t[:-1], torch.tensor([True])])
        return t[last], u[last]


def _interpolated(x: Tensor, at: Tensor, values: Tensor) -> Tensor:
    if len(at) < 2:
        return values[:1].expand_as(x).clone()
    k = torch.searchsorted(at, x).clamp(1, len(at) - 1)
    part = ((x - at[k - 1]) / (at[k] - at[k - 1])).clamp(0.0, 1.0)
    return values[k - 1] + part * (values[k] - values[k - 1])


def _shares() -> Tensor:
    """Denser towards one."""
    return 1.0 - (1.0 - torch.arange(1, _KNOTS, dtype=torch.float64) / _KNOTS) ** 1.25


def _templates(profile: Profile) -> Tensor:
    """Coordinates with shape (T, D)."""
    grid, program, found = profile.grid, profile.likelihoods.natural.program, []
    count = max(3, round(_TEMPLATES ** (1.0 / len(grid.axes))))
    for whole in (True, False):
        asked = []
        for axis in grid.axes:
            site = program.latents[axis.name]
            ends = [float(site.lower), float(site.upper)] if whole and site.kind == "parameter" else [math.inf]
            scanned = f"{axis.name}={float(axis.values[0])!r}:{float(axis.values[-1])!r}"
            asked.append(axis.name if all(map(math.isfinite, ends)) else scanned)
        found.append(_at(profile, Grid.over(program, asked, [count]).points))
    return torch.cat(found)


def _steps(dim: int) -> Tensor:
    """A lattice in standard deviations with shape (S, K), coarser in many dimensions."""
    count = min(round(2.0 * _REACH / _STEP) + 1, max(3, int(_NEAR ** (1.0 / dim)) // 2 * 2 + 1))
    axis = torch.linspace(-_REACH, _REACH, count, dtype=torch.float64)
    return torch.cartesian_prod(*[axis] * dim).reshape(-1, dim)


def _near(profile: Profile, point: Tensor, steps: Tensor) -> Tensor:
    """The lattice around one point, within bounds, with shape (S, D): whitened by the Fisher information there."""
    linear, natural, columns = profile.linear, profile.likelihoods.natural, profile.columns
    jacobian = natural_objective(natural).jacobian(point)[2][:, columns]
    values, vectors = torch.linalg.eigh((linear.root @ jacobian).T @ (linear.root @ jacobian))
    found = point.repeat(len(steps), 1)
    # Where nothing tells a direction, steps end at the bounds.
    width = (natural.upper[columns] - natural.lower[columns]).clamp(max=1e3).square().sum().sqrt()
    scale = values.clamp(min=1e-12).rsqrt().clamp(max=float(width))
    found[:, columns] += (steps * scale) @ vectors.T
    return torch.minimum(torch.maximum(found, natural.lower), natural.upper)


def _at(profile: Profile, values: Tensor) -> Tensor:
    """Coordinates with shape (n, D) of values with shape (n, K), nuisances as the reference's."""
    natural, columns = profile.likelihoods.natural, profile.columns
    loc, scale, log = natural.loc[columns], natural.scale[columns], natural.log[columns]
    found = profile.linear.reference.repeat(len(values), 1)
    found[:, columns] = (torch.where(log, values.clamp(min=1e-300).log(), values) - loc) / scale
    return found
