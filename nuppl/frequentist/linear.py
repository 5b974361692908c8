"""Many pseudo-experiments against many points of a scan, by matrix products.

Near a reference, nuisances a with constraint P act linearly, m(theta, a) = m(theta) + J (a - a_0), and the chi2 that is
left when they are fitted is a distance,

    chi2(x, theta) = |R (y - m(theta))|^2,   R^T R = W - W J (J^T W J + P)^-1 J^T W,   y = x - J (c - a_0),

W the inverse variance at the reference and c the outcomes of the auxiliary measurements. So all toys against all points
of a grid cost one product. It finds where to start fits, and is itself good where counts are large.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nuppl.optimize.lanes import Likelihoods
from nuppl.optimize.objective import natural_objective, natural_stiffness
from nuppl.typing import Values

__all__ = ["Linear"]

_CHUNK = 1024


@dataclass(frozen=True, eq=False)
class Linear:
    """A program with linear nuisances.

    Attributes:
        likelihoods: of the program.
        reference: a_0 and the rest, with shape (D,).
        nuisance: columns of the nuisances with shape (N,).
        jacobian: J with shape (M, N).
        root: R with shape (M, M).
        gain: (J^T W J + P)^-1 J^T W with shape (N, M).
    """

    likelihoods: Likelihoods
    reference: Tensor
    nuisance: Tensor
    jacobian: Tensor
    root: Tensor
    gain: Tensor

    @classmethod
    def at(cls, likelihoods: Likelihoods, reference: Tensor, scanned: Tensor) -> Linear:
        """Around a reference with shape (D,), for scanned columns with shape (K,)."""
        objective = natural_objective(likelihoods.natural)
        keep = torch.ones(likelihoods.dim, dtype=torch.bool)
        keep[scanned] = False
        nuisance = keep.nonzero()[:, 0]
        _, variance, jacobian = objective.jacobian(reference)
        jacobian, scale = jacobian[:, nuisance], variance.clamp(min=1e-12).rsqrt()
        scaled = scale[:, None] * jacobian
        stiffness = objective.stiffness[nuisance]
        precision = scaled.T @ scaled + (stiffness + 1e-9 * (1 + stiffness)).diag()
        gain = torch.linalg.solve(precision, scaled.T)
        values, vectors = torch.linalg.eigh(torch.eye(len(scale)) - scaled @ gain)
        root = values.clamp(min=0.0).sqrt()[:, None] * vectors.T * scale
        return cls(likelihoods, reference, nuisance, jacobian, root, gain * scale)

    def means(self, points: Tensor) -> Tensor:
        """m(theta) with shape (n, M), at coordinates with shape (n, D) whose nuisances are the reference's."""
        return self.likelihoods.moments(points)[0]

    def expected(self, points: Tensor) -> Tensor:
        """m(theta) with shape (n, M), at coordinates with shape (n, D): what they expect, nuisances moved back to a_0.

        Of points with fitted nuisances that are far from a_0 this is better than `means` without them.
        """
        moved = points[:, self.nuisance] - self.reference[self.nuisance]
        return self.means(points) - moved @ self.jacobian.T

    def effective(self, data: Values, centers: Values, n: int) -> Tensor:
        """y with shape (n, M)."""
        program = self.likelihoods.natural.program
        parts = [data[name].reshape(-1, site.size).expand(n, -1) for name, site in program.data_sites.items()]
        return torch.cat(parts, 1) - self._moved(centers, n) @ self.jacobian.T

    def outcomes(self, centers: Values, n: int) -> Tensor:
        """c with shape (n, D), of all coordinates; 0 where nothing measured them."""
        layout, natural = self.likelihoods.natural.layout, self.likelihoods.natural
        found = torch.zeros(n, self.likelihoods.dim)
        for name, value in centers.items():
            block = layout.blocks[name]
            middle, width = (part[block.start : block.stop] for part in (natural.loc, natural.scale))
            found[:, block.start : block.stop] = (value.reshape(-1, block.stop - block.start) - middle) / width
        return found

    def chi2(self, effective: Tensor, means: Tensor) -> Tensor:
        """With shape (n, G), for y with shape (n, M) and m with shape (G, M)."""
        x, m = effective @ self.root.T, means @ self.root.T
        return (x.square().sum(1)[:, None] - 2.0 * x @ m.T + m.square().sum(1)).clamp(min=0.0)

    def start(self, points: Tensor, effective: Tensor, means: Tensor, centers: Values) -> Tensor:
        """Coordinates with shape (n, D) with the nuisances that fit best, within their bounds.

        Arguments:
            points: with shape (n, D), of which only the scanned coordinates count.
            effective, means: y and m(theta) of each, with shape (n, M).
        """
        found = points.clone()
        moved = self.reference[self.nuisance] + self._moved(centers, len(points))
        found[:, self.nuisance] = moved + (effective - means) @ self.gain.T
        return found.clamp(self.likelihoods.natural.lower, self.likelihoods.natural.upper)

    def _moved(self, centers: Values, n: int) -> Tensor:
        """c - a_0 of nuisances with shape (n, N); zero where nothing measured them."""
        pulls = natural_stiffness(self.likelihoods.natural) > 0
        moved = self.outcomes(centers, n) - torch.where(pulls, self.reference, 0.0)
        return moved[:, self.nuisance]
