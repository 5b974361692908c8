"""Many fits at once: likelihoods of one program that differ in data, in centres of pulls, or in what is held.

Every fit is a lane of one batch. The Jacobian of the expected data comes from forward differentiation, a coordinate per
lane; with it the Fisher information J^T V^-1 J + P of each lane. Lanes that have converged leave the batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.autograd.forward_ad as forward
from torch import Tensor

from nuppl.errors import InputError
from nuppl.language.density import Natural
from nuppl.optimize.objective import data_moments, natural_stiffness
from nuppl.typing import Values

__all__ = ["Likelihoods"]

_NUMBERS, _MOST = 1 << 20, 1 << 14
"""Derivatives, or latents and data, that are held at a time, and the most lanes: then arrays stay near the cache."""

_STEP = 1e-4
"""Of differences, in units of the coordinates' scales."""


@dataclass(frozen=True)
class Likelihoods:
    """Frequentist likelihoods of a program in natural coordinates, one per lane.

    Attributes:
        natural: the coordinates, D of them.
        data: replaces the program's, {site: (n, *site)}; sites that all lanes share may have shape (*site).
        centers: of pulls, {pull: (n, *site)}, likewise.
    """

    natural: Natural
    data: Values
    centers: Values

    @property
    def dim(self) -> int:
        """D."""
        return self.natural.dim

    def rows(self, lanes: Tensor) -> Likelihoods:
        """Some of the lanes, by index or by mask."""
        sites = self.natural.program.sites
        data, centers = (
            {name: value if value.dim() == len(sites[name].shape) else value[lanes] for name, value in values.items()}
            for values in (self.data, self.centers)
        )
        return Likelihoods(self.natural, data, centers)

    def values(self, z: Tensor) -> Tensor:
        """Minus log likelihood with shape (n,) at points with shape (n, D)."""
        with torch.no_grad():
            return torch.cat([part._value(point) for part, point in self._parts(z, self._size)])

    def moments(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of all data, side by side, each with shape (n, M)."""
        with torch.no_grad():
            parts = [data_moments(self.natural.program, self.natural.values(point)) for point in z.split(self._size)]
        mean, variance = zip(*parts, strict=True)
        return torch.cat(mean), torch.cat(variance)

    def gradient(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Minus log likelihood with shape (n,) and its gradient with shape (n, D); a lane that fails has inf and 0."""
        values, gradients = zip(*(part._gradient(point) for part, point in self._parts(z, self._size)), strict=True)
        value, gradient = torch.cat(values), torch.cat(gradients)
        good = value.isfinite() & gradient.isfinite().all(1)
        return torch.where(good, value, torch.inf), torch.where(good[:, None], gradient, 0.0)

    def slopes(self, z: Tensor, columns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean and variance of all data with shape (n, M), and the mean's derivatives with shape (n, M, k).

        By differences, away from upper bounds, since programs hold functions that have no forward derivative; by
        reverse differentiation where there are more columns than data.
        """
        mean, variance = self.moments(z)
        if not len(columns):
            return mean, variance, mean.new_zeros(*mean.shape, 0)
        if len(columns) > mean.shape[1]:
            parts = [self._rows(point)[:, :, columns] for point in z.split(max(1, self._size // mean.shape[1]))]
            return mean, variance, torch.cat(parts)
        step = torch.where(z[:, columns] + _STEP < self.natural.upper[columns], _STEP, -_STEP)
        moved = z.repeat(len(columns), 1, 1)
        moved[torch.arange(len(columns)), :, columns] += step.T
        there = self.moments(moved.flatten(0, 1))[0].reshape(-1, *mean.shape)
        return mean, variance, ((there - mean) / step.T[:, :, None]).permute(1, 2, 0)

    def curvature(self, z: Tensor, columns: Tensor) -> Tensor:
        """The Fisher information of some coordinates with shape (n, d, d), for columns with shape (d,).

        Where data have no known mean, as those whose density a network learned, it is `hessian`.
        """
        stiffness = natural_stiffness(self.natural)[columns].diag()
        lanes = self._size // max(1, len(columns))
        try:
            parts = [_information(self.natural, point, columns) for point in z.split(max(1, lanes))]
        except InputError:
            return self.hessian(z, columns)
        return torch.cat(parts) + stiffness

    def hessian(self, z: Tensor, columns: Tensor) -> Tensor:
        """The exact Hessian of some coordinates, with eigenvalues made positive, with shape (n, d, d)."""
        parts = self._parts(z, max(1, self._size // max(1, len(columns))))
        full = torch.cat([part._hessian(point, columns) for part, point in parts])
        values, vectors = torch.linalg.eigh(torch.where(full.isfinite(), full, 0.0))
        positive: Tensor = (vectors * values.abs()[:, None]) @ vectors.mT
        return positive

    @property
    def _size(self) -> int:
        numbers = self.dim + sum(site.size for site in self.natural.program.data_sites.values())
        return max(1, min(_MOST, _NUMBERS // numbers))

    def _parts(self, z: Tensor, size: int) -> list[tuple[Likelihoods, Tensor]]:
        if len(z) <= size:
            return [(self, z)]
        return [(self.rows(lanes), z[lanes]) for lanes in torch.arange(len(z)).split(size)]

    def _rows(self, z: Tensor) -> Tensor:
        """All derivatives of the mean with shape (n, M, D); each of the data is a lane of its own."""
        data = sum(site.size for site in self.natural.program.data_sites.values())
        leaf = z.repeat_interleave(data, 0).requires_grad_()
        mean, _ = data_moments(self.natural.program, self.natural.values(leaf))
        picked = mean.reshape(len(z), data, data).diagonal(dim1=1, dim2=2).sum()
        if not picked.requires_grad:
            return torch.zeros(len(z), data, self.dim)
        (rows,) = torch.autograd.grad(picked, leaf)
        return rows.reshape(len(z), data, -1)

    def _value(self, z: Tensor) -> Tensor:
        return -self.natural.log_likelihood(z, self.data, self.centers)

    def _gradient(self, z: Tensor) -> tuple[Tensor, Tensor]:
        leaf = z.detach().requires_grad_()
        value = self._value(leaf)
        (gradient,) = torch.autograd.grad(value.sum(), leaf)
        return value.detach(), gradient

    def _hessian(self, z: Tensor, columns: Tensor) -> Tensor:
        n, d = len(z), len(columns)
        leaf = z.repeat(d, 1).requires_grad_()
        value = self.rows(torch.arange(n).repeat(d))._value(leaf)
        (gradient,) = torch.autograd.grad(value.sum(), leaf, create_graph=True)
        picked = gradient.gather(1, columns.repeat_interleave(n)[:, None]).sum()
        (rows,) = torch.autograd.grad(picked, leaf)
        full = rows[:, columns].reshape(d, n, d).transpose(0, 1)
        return 0.5 * (full + full.mT)


def _information(natural: Natural, z: Tensor, columns: Tensor) -> Tensor:
    """J^T V^-1 J with shape (n, d, d), at points with shape (n, D)."""
    n, d = len(z), len(columns)
    tangents = torch.eye(natural.dim)[columns].repeat_interleave(n, 0)
    with torch.no_grad(), forward.dual_level():
        mean, variance = data_moments(natural.program, natural.values(forward.make_dual(z.repeat(d, 1), tangents)))
        slopes = forward.unpack_dual(mean).tangent
        variance = forward.unpack_dual(variance).primal
    if slopes is None:  # data whose mean does not move
        return torch.zeros(n, d, d)
    scaled = (slopes / variance.clamp(min=1e-12).sqrt()).reshape(d, n, -1)
    return torch.einsum("inm,jnm->nij", scaled, scaled)
