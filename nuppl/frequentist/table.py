"""chi2 of many pseudo-experiments at many points, where some nuisances act differently at each of them.

Most nuisances a act alike everywhere (`linear`); a few, b, such as the width of a resolution beside an oscillation, do
not. With the others fitted,

    chi2(x, theta) = min_b |R (y - m(theta) - A (b - b_theta))|^2 + |S (b - c)|^2 = |w|^2 - |B^T w|^2,
    w = (R y, S c) - (R m(theta), S b_theta),

b_theta what the data prefer at theta, A the response there, S^2 the constraint, c the outcomes of the auxiliary
measurements, B an orthonormal basis of what (R A, S) span. All experiments against all points cost 1 + k products.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nuppl.frequentist.linear import Linear
from nuppl.language.simulation import Toys
from nuppl.optimize.lanes import Likelihoods
from nuppl.optimize.objective import natural_stiffness

__all__ = ["Table"]

_CHUNK, _LEAST = 2048, 1e-9
"""Points whose response is taken at a time; the stiffness of what nothing constrains."""


@dataclass(frozen=True, eq=False)
class Table:
    """Points of a program, F of them.

    Attributes:
        linear: the program with linear nuisances, those in `own` not among them.
        own: columns of nuisances with a response of their own, with shape (k,).
        points: coordinates with shape (F, D).
        origin: what is subtracted from all w, with shape (N,), N = M + k.
        places: (R m(theta), S b_theta) with shape (F, N).
        bases: B with shape (F, N, k).
    """

    linear: Linear
    own: Tensor
    points: Tensor
    origin: Tensor
    places: Tensor
    bases: Tensor

    @classmethod
    def around(cls, likelihoods: Likelihoods, reference: Tensor, scanned: Tensor, own: Tensor, points: Tensor) -> Table:
        """Of points with shape (F, D).

        Arguments:
            likelihoods: of the program.
            reference: around which the shared nuisances are linear, with shape (D,).
            scanned: columns that are scanned, with shape (K,).
            own: columns with a response of their own, with shape (k,).
        """
        linear = Linear.at(likelihoods, reference, torch.cat([scanned, own]))
        nothing = torch.zeros(len(linear.root) + len(own))
        empty = cls(linear, own, points[:0], nothing, nothing[None, :0], nothing[None, :, None])
        origin = empty._places(reference[None])[0]
        return replace(empty, origin=origin).at(points)

    def at(self, points: Tensor) -> Table:
        """Of other points with shape (F, D), around the same reference."""
        bases = [self._bases(some) for some in points.split(_CHUNK)]
        return replace(self, points=points, places=self._places(points) - self.origin, bases=torch.cat(bases))

    @property
    def single(self) -> Table:
        """In single precision: half the memory, and faster products."""
        return replace(self, places=self.places.float(), bases=self.bases.float())

    def seen(self, drawn: Toys, n: int) -> Tensor:
        """(R y, S c) of n experiments with shape (n, N)."""
        y = self.linear.effective(drawn.data, drawn.centers, n)
        c = self.linear.outcomes(drawn.centers, n)[:, self.own]
        return torch.cat([y @ self.linear.root.T, c * self._stiff], 1) - self.origin

    def each(self, seen: Tensor, cells: Tensor) -> Tensor:
        """chi2 with shape (n,) of experiments with shape (n, N), each at its point."""
        w = seen - self.places[cells]
        along = torch.einsum("ni,nik->nk", w, self.bases[cells])
        return w.square().sum(1) - along.square().sum(1)

    def all(self, seen: Tensor, lanes: int) -> Iterator[Tensor]:
        """chi2 - |seen|^2 with shape (n, F) of experiments with shape (n, N), so many at a time."""
        lengths, bases = self.places.square().sum(1), self.bases.permute(2, 1, 0).contiguous()
        offsets = torch.einsum("fi,fik->kf", self.places, self.bases)
        for some in seen.to(self.places.dtype).split(lanes):
            found = torch.addmm(lengths, some, self.places.T, alpha=-2.0)
            for basis, offset in zip(bases, offsets, strict=True):
                along = torch.addmm(offset, some, basis, beta=-1.0)
                found.addcmul_(along, along, value=-1.0)
            yield found

    def starts(self, drawn: Toys, cells: Tensor) -> Tensor:
        """Coordinates with shape (n, D): points with the nuisances that n experiments prefer there, within bounds."""
        points, linear = self.points[cells], self.linear
        effective = linear.effective(drawn.data, drawn.centers, len(cells))
        slopes = self._slopes(points)
        spanned = self._spanned(slopes)
        w = self.seen(drawn, len(cells)) + self.origin - self._places(points)
        moved = torch.linalg.solve(spanned.mT @ spanned, (w[:, None] @ spanned).mT)[:, :, 0]
        expected = linear.expected(points) + (slopes @ moved[:, :, None])[:, :, 0]
        found = linear.start(points, effective, expected, drawn.centers)
        found[:, self.own] = points[:, self.own] + moved
        natural = linear.likelihoods.natural
        return found.clamp(natural.lower, natural.upper)

    @property
    def _stiff(self) -> Tensor:
        return (natural_stiffness(self.linear.likelihoods.natural)[self.own] + _LEAST).sqrt()

    def _places(self, points: Tensor) -> Tensor:
        shared = self.linear.expected(points) @ self.linear.root.T
        return torch.cat([shared, points[:, self.own] * self._stiff], 1)

    def _slopes(self, points: Tensor) -> Tensor:
        """A with shape (n, M, k); zero for what stands at a bound."""
        natural = self.linear.likelihoods.natural
        b = points[:, self.own]
        inside = (b > natural.lower[self.own]) & (b < natural.upper[self.own])
        return self.linear.likelihoods.slopes(points, self.own)[2] * inside[:, None]

    def _spanned(self, slopes: Tensor) -> Tensor:
        """(R A, S) with shape (n, N, k), for A with shape (n, M, k)."""
        return torch.cat([self.linear.root @ slopes, self._stiff.diag().expand(len(slopes), -1, -1)], 1)

    def _bases(self, points: Tensor) -> Tensor:
        spanned = self._spanned(self._slopes(points))
        factor = torch.linalg.cholesky(spanned.mT @ spanned)
        found: Tensor = torch.linalg.solve_triangular(factor, spanned.mT, upper=False).mT
        return found
