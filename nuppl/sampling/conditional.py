"""Inner latents given outer ones, learned from the closed form at a few points: draws at a fraction of its price.

    y | x ~ N(m(x), (F F^T)^(-1)),   m and F polynomials of second degree in x

x of a posterior lie close together, where the conditional mode and the factor of its precision hardly bend. What the
polynomials miss costs efficiency and never truth, since a draw carries the density with which it was drawn. As in
`marginal` the mode of the tight directions is sought anew once the loose ones are drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nuppl.sampling.guides import Guide, standard_normals
from nuppl.sampling.marginal import Marginal
from nuppl.sampling.metric import DenseMetric, from_particles

__all__ = ["Conditional", "conditional"]

_WITHIN = 4.0
"""Standard coordinates within which the polynomials are followed."""

_PER_TERM, _MOST = 4, 1_024
"""Points for each coefficient, and at most: with more coefficients than these can tell the closed form stays."""

_MISSED = 0.25
"""And so it does where the polynomials miss more: squared deviations of mode and factor, in units of the widths."""

_STREAM = 33 << 24


@dataclass(frozen=True, eq=False)
class Conditional:
    """A learned conditional normal.

    Attributes:
        marginal: what it was learned from.
        loc: of the outer latents with shape (d,).
        metric: their standard coordinates.
        mode: coefficients of the mode along the r directions that the data see, with shape (terms, r).
        factor: of the lower triangle of F, its diagonal as a logarithm, with shape (terms, r (r + 1) / 2).
    """

    marginal: Marginal
    loc: Tensor
    metric: DenseMetric
    mode: Tensor
    factor: Tensor

    @classmethod
    def learned(cls, marginal: Marginal, x: Tensor, modes: Tensor, factors: Tensor) -> Conditional:
        """From points with shape (n, d), modes with shape (n, r) and factors with shape (n, r, r)."""
        loc, metric = x.mean(0), from_particles(x)
        answers = torch.cat([modes, _flat(factors)], 1)
        solution = torch.linalg.lstsq(_basis(metric.standard(x - loc)), answers).solution
        r = modes.shape[1]
        return cls(marginal, loc, metric, solution[:, :r], solution[:, r:])

    def draw(self, x: Tensor, seed: int, stream: int) -> tuple[Tensor, Tensor]:
        """All latents u with shape (n, D), the inner ones drawn, and the log density of these draws, shape (n,)."""
        noise = standard_normals(len(x), len(self.marginal.inner), seed, stream)
        chunk = self.marginal.whitened.chunk
        with torch.no_grad():
            parts = [
                self.marginal.drawn_near(some, z, *self.predicted(some))
                for some, z in zip(x.split(chunk), noise.split(chunk), strict=True)
            ]
        return torch.cat([u for u, _ in parts]), torch.cat([log_q for _, log_q in parts])

    def predicted(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Modes with shape (n, r) and factors with shape (n, r, r)."""
        basis = _basis(self.metric.standard(x - self.loc))
        return basis @ self.mode, _square(basis @ self.factor, self.mode.shape[1])


def conditional(marginal: Marginal, outer: Guide, seed: int) -> Conditional | Marginal:
    """What draws the inner latents given draws of a guide for the outer ones: learned if that can be, in closed form
    otherwise."""
    d = marginal.dim
    n = _PER_TERM * (1 + d * (d + 3) // 2)
    if n > _MOST:
        return marginal
    x, _ = outer.sample(n, seed, _STREAM)
    with torch.no_grad():
        found = [marginal.modes(part) for part in x.split(marginal.whitened.chunk)]
    modes = torch.cat([u[:, marginal.inner] for u, _ in found]) @ marginal.linear.right
    factors = torch.cat([factor for _, factor in found])
    good = modes.isfinite().all(1) & factors.isfinite().flatten(1).all(1)
    if not bool(good.all()):
        return marginal
    learned = Conditional.learned(marginal, x, modes, factors)
    return learned if _missed(learned, x, modes, factors) < _MISSED else marginal


def _missed(learned: Conditional, x: Tensor, modes: Tensor, factors: Tensor) -> float:
    """The mean of |F^T (m - m^)|^2 + |F^-1 F^ - 1|^2."""
    mode, factor = learned.predicted(x)
    off = (factors.mT @ (mode - modes)[..., None]).square().sum((1, 2))
    turned = torch.linalg.solve_triangular(factors, factor, upper=False) - torch.eye(modes.shape[1])
    return float((off + turned.square().sum((1, 2))).mean())


def _basis(t: Tensor) -> Tensor:
    """Constant, coordinates and their products with shape (n, terms)."""
    t = t.clamp(-_WITHIN, _WITHIN)
    rows, columns = torch.triu_indices(t.shape[1], t.shape[1])
    return torch.cat([torch.ones(len(t), 1), t, t[:, rows] * t[:, columns]], 1)


def _flat(factor: Tensor) -> Tensor:
    """The lower triangle with shape (n, r (r + 1) / 2), its diagonal as a logarithm."""
    rows, columns = torch.tril_indices(factor.shape[1], factor.shape[1])
    flat = factor[:, rows, columns]
    return torch.where(rows == columns, flat.clamp(min=1e-300).log(), flat)


def _square(flat: Tensor, r: int) -> Tensor:
    """The inverse of `_flat`."""
    rows, columns = torch.tril_indices(r, r)
    factor = torch.zeros(len(flat), r, r)
    factor[:, rows, columns] = torch.where(rows == columns, flat.exp(), flat)
    return factor
