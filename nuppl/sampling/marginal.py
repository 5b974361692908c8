r"""Pulls that act nearly linearly, integrated in closed form.

The latents are split into few outer ones x and many inner ones y, whitened: y ~ N(0, 1) before data. At each point
x the expected data respond to y with a Jacobian J; with weights W = 1 / variance and H = 1 + J^T W J,

    p(x, data) = int p(x, y, data) dy  ~=  p(x, y^, data) (2 pi)^(d/2) det(H)^(-1/2),
    y^ <- y^ + H^-1 (J^T W (data - mean(x, y^)) - y^).

For Gaussian data and linear pulls this is exact: the covariance of the data has gained J J^T. Otherwise it is Laplace's
method, for Poisson data too, with J as `linear` follows it from a reference; y drawn back from N(y^, H^-1), loose
directions first and the mode of the tight ones sought anew given these, carries the weight that makes posterior and
evidence exact. The spread of the weights is the error of the linearisation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nuppl.language.density import Whitened
from nuppl.optimize.objective import Objective
from nuppl.sampling.guides import GaussianGuide, standard_normals
from nuppl.sampling.linear import Linear, factors, linearize
from nuppl.sampling.target import Direct, Recast, gradient

__all__ = ["Marginal", "around", "linearisation", "parameters"]

_STEPS = 2
"""Steps to the conditional mode. Each divides the distance by ten where J changes by ten per cent."""

_MEASURED = 512
"""Draws that measure the error of the linearisation."""

_LEAST_SHARE = 0.3
"""Variances below this share of the reference's count as that share: steps stay bounded where the mean vanishes."""


@dataclass(frozen=True, eq=False)
class Marginal:
    """The density of the outer latents, a `Target`.

    Attributes:
        whitened: the posterior of all latents.
        outer, inner: their columns, with shapes (d,) and (D - d,).
        loc: the reference point with shape (D,).
        data: with shape (M,).
        linear: the response of the data to the inner latents.
        missed: other modes that were seen; the response is taken at the highest.
        nuisance: where the columns lie that move the response, with everything else at the reference.
        error: of the linearisation: the standard deviation of the log weights at one point; NaN before `measured`.
    """

    whitened: Whitened
    outer: Tensor
    inner: Tensor
    loc: Tensor
    data: Tensor
    linear: Linear
    nuisance: GaussianGuide | None = None
    error: float = math.nan
    missed: int = 0

    @property
    def dim(self) -> int:
        """d."""
        return len(self.outer)

    def forces(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Log density with shape (n,), and its gradient at fixed y^ with shape (n, d): y^ is a mode, so that is all."""
        parts = [self._forces(part) for part in x.split(self.whitened.chunk)]
        return torch.cat([value for value, _ in parts]), torch.cat([force for _, force in parts])

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density with shape (n,)."""
        parts = []
        with torch.no_grad():
            for part in x.split(self.whitened.chunk):
                u, factor = self.modes(part)
                parts.append(self.whitened.log_prob(u) + self._log_volume(factor))
        return torch.cat(parts)

    def draw(self, x: Tensor, seed: int, stream: int) -> tuple[Tensor, Tensor]:
        """All latents u with shape (n, D), the inner ones drawn, and the log density of these draws, shape (n,)."""
        noise = standard_normals(len(x), len(self.inner), seed, stream)
        with torch.no_grad():
            parts = [
                self.drawn(some, z)
                for some, z in zip(x.split(self.whitened.chunk), noise.split(self.whitened.chunk), strict=True)
            ]
        return torch.cat([u for u, _ in parts]), torch.cat([log_q for _, log_q in parts])

    def complete(self, x: Tensor, log_p: Tensor, seed: int, stream: int) -> tuple[Tensor, Tensor]:
        """All latents u with shape (n, D), the inner ones drawn, and their log weights with shape (n,)."""
        u, log_q = self.draw(x, seed, stream)
        log_w = Direct(self.whitened).log_prob(u) - log_q - log_p
        return u, torch.where(log_w.isnan(), -torch.inf, log_w)

    def measured(self, x: Tensor, seed: int, stream: int) -> Marginal:
        """The same with its error, measured at a point x with shape (1, d)."""
        x = x.expand(_MEASURED, -1)
        _, log_w = self.complete(x, self.log_prob(x[:1]).expand(len(x)), seed, stream)
        return replace(self, error=float(log_w.std()))

    def modes(self, x: Tensor, response: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The points u with shape (n, D) at which the inner latents have their mode, and factors of H, (n, r, r)."""
        response = self._response(x) if response is None else response
        factor = factors(response)
        along = (self.loc[self.inner] @ self.linear.right).expand(len(x), -1)
        return self._descended(self._points(x, along), response, factor, _STEPS), factor

    def _points(self, x: Tensor, along: Tensor) -> Tensor:
        """u with shape (n, D) from outer latents, and where the inner ones stand along V, shape (n, r)."""
        u = self.loc.repeat(len(x), 1)
        u[:, self.outer] = x
        u[:, self.inner] = along @ self.linear.right.T
        return u

    def _descended(self, u: Tensor, response: Tensor, factor: Tensor, steps: int) -> Tensor:
        """u moved to the mode along the first directions of V, as many as the factor has rows."""
        right = self.linear.right[:, : factor.shape[1]]
        for _ in range(steps):
            score = (response.mT @ self._pulled(u)[..., None])[..., 0] - u[:, self.inner] @ right
            # Not in place: a gradient may be asked for.
            u = u.index_add(1, self.inner, torch.cholesky_solve(score[..., None], factor)[..., 0] @ right.T)
        return u

    def _response(self, x: Tensor, along: int | None = None) -> Tensor:
        return self.linear.response(x[:, self._places], along)

    @property
    def _places(self) -> Tensor:
        """Where in x the columns lie that move the response."""
        return torch.searchsorted(self.outer, self.linear.moving)

    def _forces(self, x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            response = self._response(x)
            u, factor = self.modes(x, response)
            volume = self._log_volume(factor)
            slope = torch.zeros_like(x)
            slope[:, self._places] = self.linear.volume_slope(x[:, self._places], response, factor)
        value, force = gradient(self.whitened, u)
        return value + volume, force[:, self.outer] + slope

    def _log_volume(self, factor: Tensor) -> Tensor:
        """log of (2 pi)^((D - d) / 2) det(H)^(-1/2)."""
        return 0.5 * len(self.inner) * math.log(2.0 * math.pi) - factor.diagonal(dim1=1, dim2=2).log().sum(1)

    def _pulled(self, u: Tensor) -> Tensor:
        """Residuals with shape (n, M) in units of the reference's deviation, zero for lanes without finite mean."""
        mean, variance = self.whitened.moments(u)
        weight = self.linear.variance.sqrt() / torch.maximum(variance, _LEAST_SHARE * self.linear.variance)
        return ((self.data - mean) * weight).nan_to_num(0.0, 0.0, 0.0)

    def drawn(self, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """All latents u with shape (n, D), and the log density with which the inner ones were drawn, shape (n,).

        Arguments:
            x: the outer latents with shape (n, d).
            z: standard normals with shape (n, D - d).
        """
        response = self._response(x)
        u, factor = self.modes(x, response)
        return self._scattered(u, z, factor, response)

    def drawn_near(self, x: Tensor, z: Tensor, along: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
        """The same, from modes along the directions that the data see, shape (n, r), and factors, shape (n, r, r)."""
        return self._scattered(self._points(x, along), z, factor, self._response(x, self.linear.tight))

    def _scattered(self, u: Tensor, z: Tensor, factor: Tensor, response: Tensor) -> tuple[Tensor, Tensor]:
        """Draws around modes u. Loose directions first; the mode of the tight ones is sought anew given these."""
        right, tight = self.linear.right, self.linear.tight
        along = z @ right
        first = torch.cat([torch.zeros(len(z), tight), along[:, tight:]], 1)
        u = u.index_add(1, self.inner, z + (upper_solve(factor, first) - along) @ right.T)
        narrow = factor[:, :tight, :tight]
        u = self._descended(u, response[:, :, :tight], narrow, 1)
        u = u.index_add(1, self.inner, upper_solve(narrow, along[:, :tight]) @ right[:, :tight].T)
        return u, -0.5 * z.square().sum(1) - self._log_volume(factor)


def upper_solve(factor: Tensor, right: Tensor) -> Tensor:
    """L^-T y with shape (n, r), for lower factors with shape (n, r, r)."""
    solved: Tensor = torch.linalg.solve_triangular(factor.mT, right[..., None], upper=True)[..., 0]
    return solved


def around(whitened: Whitened, objective: Objective, loc: Tensor, outer: Sequence[int], width: Tensor) -> Marginal:
    """The marginal over some columns, linearised at a point.

    Arguments:
        outer: the columns that stay.
        width: over which the response is followed, per column with shape (D,).
    """
    keep = torch.ones(whitened.dim, dtype=torch.bool)
    keep[list(outer)] = False
    inner = keep.nonzero()[:, 0]
    kept = set(parameters(whitened))
    moving = [column for column in outer if column not in kept]
    return Marginal(
        whitened=whitened,
        outer=torch.tensor(list(outer), dtype=torch.long),
        inner=inner,
        loc=loc,
        data=torch.cat([value.reshape(-1) for value in whitened.program.data.values()]),
        linear=linearize(objective, loc, inner, moving, width),
    )


def parameters(whitened: Whitened) -> list[int]:
    """The columns of the interest and of every scalar parameter: what may have several modes."""
    latents = whitened.program.latents
    scalars = [name for name, site in latents.items() if site.kind == "parameter" and site.size == 1]
    return sorted(whitened.layout.columns({*whitened.program.interest, *scalars}))


def linearisation(target: object) -> dict[str, float | int | str]:
    """What a result says of its marginal: how many latents were integrated, and the error of doing it linearly."""
    if isinstance(target, Recast):
        return linearisation(target.target)
    if not isinstance(target, Marginal):
        return {}
    return {"marginalized": len(target.inner), "linearisation_error": target.error}
