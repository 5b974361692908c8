"""What the distribution of the likelihood ratio would be, were data Gaussian and nuisances linear: no toys, no fits.

With R of `linear`, y = R m(theta) + z and z ~ N(0, 1), the statistic at theta is

    t = max over tau of  |z|^2 - |R m(theta) - R m(tau) + z|^2,   or 0,

tau on template grids over the ranges of the scan and of the parameters, from the best of these one Gauss-Newton step
within its cell and the bounds, and on a fine grid within a few standard deviations of theta. It knows bounds and many
minima, and is a map u = F_0(t | theta) in which little is left to learn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nuppl.frequentist.grid import Grid
from nuppl.frequentist.profile import Profile
from nuppl.frequentist.refined import refined
from nuppl.language.precision import double_precision
from nuppl.language.simulation import tile_seed
from nuppl.optimize.objective import natural_objective
from nuppl.typing import Progress, silent

__all__ = ["Approximate"]

_DRAWS, _WORK, _CHUNK, _KNOTS, _STREAM = (1024, 8192), 1_000_000, 1024, 512, 46 << 24
"""z at least and at most, and at all points together; z at a time; values of t that are kept at each point; the stream
of random numbers."""

_DIFFERENCE = 1e-3
"""Of half a cell, for slopes."""

_TEMPLATES, _NEAR, _STEP, _REACH = 1000, 225, 0.5, 3.5
"""About how many tau over the whole ranges, and near theta; there their step and reach in standard deviations."""


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
        mean, far = linear.means(here) @ linear.root.T, _Templates.of(profile)
        draws = min(max(_WORK // len(mean), _DRAWS[0]), _DRAWS[1])
        engine = torch.quasirandom.SobolEngine(mean.shape[1], scramble=True, seed=tile_seed(seed, _STREAM) >> 32)
        uniform = engine.draw(draws, dtype=torch.float64).clamp(1e-12, 1.0 - 1e-12)
        z = torch.special.ndtri(uniform)
        shares = _shares()
        ranks = (shares * draws).ceil().long().clamp(1, draws) - 1
        steps, found = _steps(len(profile.columns)), []
        products = [part @ far.means.T for part in z.split(_CHUNK)]
        for number, center in enumerate(mean):
            near = linear.means(_near(profile, here[number], steps)) @ linear.root.T
            half = [0.5 * (center - tau).square().sum(1) for tau in (far.means, near)]
            parts = []
            for part, product in zip(z.split(_CHUNK), products, strict=True):
                drop, best = (product - half[0]).max(1)
                own = part @ center
                moved = 2.0 * (drop - own) + far.gain(part + center, best)
                parts.append(torch.maximum(moved, 2.0 * ((part @ near.T - half[1]).amax(1) - own)))
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


@dataclass(frozen=True, eq=False)
class _Templates:
    """Expected data R m at T points, and their slopes.

    Attributes:
        means: with shape (T, M).
        slopes: with shape (T, M, K), in the units of half a cell.
        low, high: how far a step may go, in these units, with shape (T, K).
    """

    means: Tensor
    slopes: Tensor
    low: Tensor
    high: Tensor

    @classmethod
    def of(cls, profile: Profile) -> _Templates:
        """Over the ranges of the parameters, and finer over those of the scan."""
        whole, scanned = _whole(profile), refined(profile).grid
        found = [cls._on(profile, grid) for grid in (whole, scanned)]
        return cls(*(torch.cat([getattr(each, name) for each in found]) for name in ("means", "slopes", "low", "high")))

    @classmethod
    def _on(cls, profile: Profile, grid: Grid) -> _Templates:
        linear, lower, upper = profile.linear, profile.likelihoods.natural.lower, profile.likelihoods.natural.upper
        points, slopes, rooms = _at(profile, grid.points), [], []
        means = linear.means(points)
        for number, column in enumerate(profile.columns):
            at = points[:, column]
            half = 0.5 * float(at.max() - at.min()) / (grid.shape[number] - 1)
            step = _DIFFERENCE * half * torch.where(at + _DIFFERENCE * half > upper[column], -1.0, 1.0)
            moved = points.clone()
            moved[:, column] = torch.maximum(at + step, lower[column])
            rooms.append(((lower[column] - at).clamp(min=-half) / half, (upper[column] - at).clamp(max=half) / half))
            slopes.append((linear.means(moved) - means) @ linear.root.T / (step / half)[:, None])
        low, high = (torch.stack(part, 1) for part in zip(*rooms, strict=True))
        return cls(means @ linear.root.T, torch.stack(slopes, 2), low, high)

    def gain(self, seen: Tensor, best: Tensor) -> Tensor:
        """By how much chi2 still falls in the cell of the best templates, numbers with shape (n,), with shape (n,)."""
        slope = self.slopes[best]
        gradient = torch.einsum("nm,nmk->nk", seen - self.means[best], slope)
        curvature = slope.mT @ slope
        ridge = 1e-6 * curvature.diagonal(dim1=1, dim2=2).sum(1)[:, None, None] + 1e-12
        step = torch.linalg.solve(curvature + ridge * torch.eye(slope.shape[2]), gradient[:, :, None])[:, :, 0]
        step = torch.minimum(torch.maximum(step, self.low[best]), self.high[best])
        fallen: Tensor = 2.0 * (gradient * step).sum(1) - torch.einsum("nk,nkl,nl->n", step, curvature, step)
        return fallen.clamp(min=0.0)


def _whole(profile: Profile) -> Grid:
    """A coarse grid over the whole ranges of the parameters."""
    grid, program, asked = profile.grid, profile.likelihoods.natural.program, []
    for axis in grid.axes:
        site = program.latents[axis.name]
        bounded = site.kind == "parameter" and math.isfinite(float(site.lower)) and math.isfinite(float(site.upper))
        asked.append(axis.name if bounded else f"{axis.name}={float(axis.values[0])!r}:{float(axis.values[-1])!r}")
    return Grid.over(program, asked, [max(3, round(_TEMPLATES ** (1.0 / len(grid.axes))))])


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
