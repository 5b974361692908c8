r"""How expected data respond to near-linear latents, while a few others change that response.

    d mean / d y ~= W^(-1/2) A(x) V^T,   A(x) = sum over k <= l of t_k t_l A_kl,   t = (1, (x - loc) / width)

for latents x that are nuisances themselves, the width of a resolution say; V holds the directions in y that the data
see, at the reference or near it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nuppl.optimize.objective import Objective

__all__ = ["Linear", "linearize"]

_SEEN = 0.15
"""The data see a direction if they shrink its width by more than a per cent."""

_TIGHT = 3.0
"""The data shrink the width of a tight direction to less than a third."""

_STEP, _WIDEST = 1.5, 4.0
"""Where the response is taken, and how far the polynomial is followed, in widths."""

_CROSSED = 12
"""With more moving latents than this their products are left out: they would cost a Jacobian for each pair."""


@dataclass(frozen=True, eq=False)
class Linear:
    """The response along r directions.

    Attributes:
        right: V with shape (inner, r), the directions that the data know best first.
        tight: how many of these have a width below a third of the prior's.
        slopes: A_kl with shape (features, M * r).
        moving: columns of x that change the response, with shape (K,).
        loc, width: of these, with shape (K,).
        variance: W^-1, of the data at the reference, with shape (M,).
    """

    right: Tensor
    tight: int
    slopes: Tensor
    moving: Tensor
    loc: Tensor
    width: Tensor
    variance: Tensor

    def response(self, x: Tensor, along: int | None = None) -> Tensor:
        """A with shape (n, M, r), or its first columns, for the columns `moving` of x with shape (n, K)."""
        t = ((x - self.loc) / self.width).clamp(-_WIDEST, _WIDEST)
        slopes = self.slopes.unflatten(1, (len(self.variance), -1))[:, :, :along].flatten(1)
        flat: Tensor = features(t) @ slopes
        return flat.reshape(len(x), len(self.variance), -1)

    def volume_slope(self, x: Tensor, response: Tensor, factor: Tensor) -> Tensor:
        """The derivative of -log det(1 + A^T A) / 2 with x, shape (n, K): tr(H^-1 A^T dA) for each column."""
        pulled = torch.cholesky_solve(response.mT, factor).mT.flatten(1) @ self.slopes.T
        leaf = x.detach().requires_grad_()
        with torch.enable_grad():
            t = ((leaf - self.loc) / self.width).clamp(-_WIDEST, _WIDEST)
            (slope,) = torch.autograd.grad((features(t) * pulled).sum(), leaf)
        return -slope


def factors(response: Tensor) -> Tensor:
    """Cholesky factors of 1 + A^T A with shape (n, r, r)."""
    information = response.mT @ response
    information.diagonal(dim1=1, dim2=2).add_(1.0)
    factor: Tensor = torch.linalg.cholesky_ex(information)[0]
    return factor


def features(t: Tensor) -> Tensor:
    """1, t_k, t_k^2 and, for few enough, t_k t_l with shape (n, features)."""
    parts = [torch.ones(len(t), 1), t, t.square()]
    if t.shape[1] <= _CROSSED:
        first, second = torch.triu_indices(t.shape[1], t.shape[1], 1)
        parts.append(t[:, first] * t[:, second])
    return torch.cat(parts, dim=1)


def design(k: int) -> Tensor:
    """Points t at which Jacobians determine the polynomial, the reference first."""
    axes = _STEP * torch.eye(k)
    points = [torch.zeros(1, k), axes, -axes]
    if k <= _CROSSED:
        first, second = torch.triu_indices(k, k, 1)
        points.append(axes[first] + axes[second])
    return torch.cat(points)


def linearize(objective: Objective, loc: Tensor, inner: Tensor, moving: Sequence[int], width: Tensor) -> Linear:
    """The response at a point and how it changes with some columns.

    Arguments:
        loc: the reference point with shape (D,).
        inner: the columns of y.
        moving: the columns of x that may change the response.
        width: of each column with shape (D,).
    """
    columns = torch.tensor(list(moving), dtype=torch.long)
    t = design(len(columns))
    points = loc.repeat(len(t), 1)
    points[:, columns] += t * width[columns]
    variance = objective.moments(loc[None])[1].detach()[0].clamp(min=1e-12)
    found = torch.stack([objective.jacobian(point)[2][:, inner] for point in points]) / variance.sqrt()[:, None]
    right, tight = _seen(found)
    flat = (found @ right).flatten(1)
    slopes = torch.linalg.solve(features(t), flat)
    return Linear(right, tight, slopes, columns, loc[columns], width[columns], variance)


def _seen(jacobians: Tensor) -> tuple[Tensor, int]:
    """Orthonormal directions with shape (inner, r) that matter to any Jacobian, and how many are tight."""
    changes = torch.cat([jacobians[:1], jacobians[1:] - jacobians[0]])
    gram = torch.einsum("kmi,kmj->ij", changes, changes)
    values, vectors = torch.linalg.eigh(gram)
    return vectors[:, values > _SEEN**2].flip(1).contiguous(), int((values > _TIGHT**2).sum())
