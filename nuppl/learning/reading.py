r"""Data read before a network sees them: an estimate of the latents, and what is left for the network to learn.

Where the mean h(u) of the data is known, in units in which every entry has unit variance, the estimate takes a few
steps of Gauss and Newton with the Jacobian J at one reference,

    u <- K (y - h(u) + J u),   K = J^T (J J^T + 1)^(-1),

and nuisances are profiled on the way; elsewhere it is a linear regression on the data. Any function of the data would
do, so its errors cost efficiency and never truth. The network is asked for z in u = m(y) + s(y) z with m and s
polynomials of the estimate: their posterior is as wide everywhere, and near the standard normal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nuppl.errors import InputError
from nuppl.language.density import Whitened
from nuppl.learning.simulated import Simulated, data_fields
from nuppl.neural.fields import KINDS, Field
from nuppl.sampling.marginal import Marginal

__all__ = ["Anchor", "Estimate", "Reading", "Regression", "fitted_reading"]

_STEPS, _WITHIN = 4, 4.0
"""Steps, and whitened coordinates within which an estimate stays."""

_MOST = 2_000
"""A regression on more numbers than this would cost more than it gives."""

_RIDGES = (1e-6, 1e-4, 1e-2, 1.0)
"""Ridges to choose from, as shares of the number of simulations."""

_PRODUCTS, _PER_TERM = 16, 20
"""Products of estimates are used up to so many columns, and with so many simulations for each coefficient."""

_SHOWN = 10_000
"""Simulations enough to say within which bounds scales lie."""

_LOG_ABS_NORMAL = -0.5 * (math.log(2.0) + 0.5772156649015329)
"""The mean of log |z| for a standard normal z."""


@dataclass(frozen=True, eq=False)
class Estimate:
    """Latents from data by the program's own mean.

    Attributes:
        whitened: the posterior; of the program only its mean matters, not its data.
        fields: of the data.
        columns: those of interest here, with shape (d,).
        jacobian: J with shape (M, D).
        deviation: of the entries on their convenient scale at the reference, with shape (M,).
    """

    whitened: Whitened
    fields: tuple[Field, ...]
    columns: Tensor
    jacobian: Tensor
    deviation: Tensor

    @classmethod
    def at(cls, whitened: Whitened, loc: Tensor, columns: Tensor) -> Estimate:
        """With the Jacobian at a point with shape (D,).

        Raises:
            InputError: data whose mean and variance are not known.
        """
        fields = data_fields(whitened.program)
        with torch.no_grad():
            mean, variance = whitened.moments(loc[None])
        deviation = variance[0].sqrt() * _by_kind(mean[0], fields, "log_slope").exp()
        rows = loc.repeat(mean.shape[1], 1).requires_grad_()
        # The zero keeps data in the graph that no latent moves.
        found = whitened.moments(rows)[0].expand(len(rows), -1) + 0.0 * rows.sum()
        (jacobian,) = torch.autograd.grad(_by_kind(found, fields, "forward").diagonal().sum(), rows)
        usable = deviation.isfinite() & (deviation > 0) & jacobian.isfinite().all(1)
        jacobian = torch.where(usable[:, None], jacobian / deviation[:, None], 0.0)
        return cls(whitened, fields, columns, jacobian, torch.where(usable, deviation, 1.0))

    def __call__(self, data: Tensor) -> Tensor:
        """The estimates after half of the steps and after all, of data with shape (n, M): shape (n, 2 d)."""
        return torch.cat([self._read(part) for part in data.split(self.whitened.chunk)])

    def _read(self, data: Tensor) -> Tensor:
        y = self._scaled(data)
        gain = self._gain()
        u, kept = torch.zeros(len(data), self.jacobian.shape[1]), []
        with torch.no_grad():
            for step in range(_STEPS):
                left = y - self._scaled(self.whitened.moments(u)[0])
                moved = (left.nan_to_num(0.0, 0.0, 0.0) + u @ self.jacobian.T) @ gain.T
                u = moved.clamp(-_WITHIN, _WITHIN)
                if 2 * (step + 1) % _STEPS == 0:
                    kept.append(u[:, self.columns])
        return torch.cat(kept, 1)

    def _scaled(self, values: Tensor) -> Tensor:
        return _by_kind(values, self.fields, "forward") / self.deviation

    def _gain(self) -> Tensor:
        jacobian = self.jacobian
        if len(jacobian) <= jacobian.shape[1]:
            gain: Tensor = torch.linalg.solve(jacobian @ jacobian.T + torch.eye(len(jacobian)), jacobian).T
            return gain
        gain = torch.linalg.solve(jacobian.T @ jacobian + torch.eye(jacobian.shape[1]), jacobian.T)
        return gain


@dataclass(frozen=True, eq=False)
class Regression:
    """Latents from data by a linear regression on simulations, with the ridge that predicts best.

    Attributes:
        fields: of the data.
        loc, scale: of the data on their convenient scale, with shape (M,).
        slope: with shape (M, d).
    """

    fields: tuple[Field, ...]
    loc: Tensor
    scale: Tensor
    slope: Tensor

    @classmethod
    def fit(cls, fields: Sequence[Field], data: Tensor, u: Tensor) -> Regression:
        """From data with shape (n, M) and latents with shape (n, d).

        Raises:
            InputError: more numbers in the data than a regression can use.
        """
        if data.shape[1] > _MOST:
            raise InputError(f"regression: expected at most {_MOST} numbers in the data, got {data.shape[1]}")
        y = _by_kind(data, tuple(fields), "forward")
        loc, scale = y.mean(0), y.std(0)
        scale = torch.where(scale > 1e-9 * loc.abs(), scale, 1.0)
        y = (y - loc) / scale
        last = max(1, len(y) // 5)
        trials = [_ridge(y[last:], u[last:], share) for share in _RIDGES]
        errors = [float((u[:last] - y[:last] @ slope).square().sum()) for slope in trials]
        return cls(tuple(fields), loc, scale, _ridge(y, u, _RIDGES[errors.index(min(errors))]))

    def __call__(self, data: Tensor) -> Tensor:
        """Estimates with shape (n, d), of data with shape (n, M)."""
        estimate = (_by_kind(data, self.fields, "forward") - self.loc) / self.scale @ self.slope
        return estimate.clamp(-_WITHIN, _WITHIN)


@dataclass(frozen=True, eq=False)
class Anchor:
    """m and s of u = m + s z, from estimates.

    Attributes:
        loc, scale: of the estimates, with shape (k,).
        products: whether the last d estimates enter with their products and cubes.
        mean, log_scale: coefficients with shape (terms, d).
        lowest, highest: of log s, with shape (d,).
    """

    loc: Tensor
    scale: Tensor
    products: bool
    mean: Tensor
    log_scale: Tensor
    lowest: Tensor
    highest: Tensor

    @classmethod
    def fit(cls, estimate: Tensor, u: Tensor) -> Anchor:
        """From estimates with shape (n, k) and latents with shape (n, d)."""
        loc, scale = estimate.mean(0), estimate.std(0).clamp(min=1e-6)
        d = u.shape[1]
        terms = 1 + estimate.shape[1] + d * (d + 1) // 2 + d
        products = estimate.shape[1] >= d and d <= _PRODUCTS and len(u) >= _PER_TERM * terms
        basis = _basis((estimate - loc) / scale, d, products)
        mean = _ridge(basis, u, _RIDGES[0])
        size = (u - basis @ mean).abs().clamp(min=1e-9).log() - _LOG_ABS_NORMAL
        log_scale = _ridge(basis, size, _RIDGES[1])
        shown = (basis @ log_scale)[:_SHOWN]
        lowest, highest = shown.quantile(0.01, 0), shown.quantile(0.99, 0)
        return cls(loc, scale, products, mean, log_scale, lowest, highest)

    def __call__(self, estimate: Tensor) -> tuple[Tensor, Tensor]:
        """m and log s, each with shape (n, d), of estimates with shape (n, k)."""
        basis = _basis((estimate - self.loc) / self.scale, self.mean.shape[1], self.products)
        log_scale = torch.minimum(torch.maximum(basis @ self.log_scale, self.lowest), self.highest)
        return basis @ self.mean, log_scale


def _basis(t: Tensor, d: int, products: bool) -> Tensor:
    """Constant, estimates, and products and cubes of the last d of them: shape (n, terms)."""
    t = t.clamp(-_WITHIN, _WITHIN)
    parts = [torch.ones(len(t), 1, dtype=t.dtype), t]
    if products:
        last = t[:, -d:]
        rows, columns = torch.triu_indices(d, d)
        parts += [last[:, rows] * last[:, columns], last**3]
    return torch.cat(parts, 1)


def _ridge(y: Tensor, u: Tensor, share: float) -> Tensor:
    gram = y.T @ y + share * len(y) * torch.eye(y.shape[1], dtype=y.dtype)
    slope: Tensor = torch.linalg.solve(gram, y.T @ u)
    return slope


def _by_kind(values: Tensor, fields: tuple[Field, ...], what: str) -> Tensor:
    """Values with shape (n, M) on their convenient scale, or the log of its slope; outside, those at the edge."""
    parts = values.split([field.size for field in fields], -1)
    floors = {"count": 0.0, "positive": 1e-300}
    moved = [
        getattr(KINDS[field.kind], what)(part.clamp(min=floors[field.kind]) if field.kind in floors else part)
        for part, field in zip(parts, fields, strict=True)
    ]
    return torch.cat(moved, -1)


Reading = Estimate | Regression


def fitted_reading(
    whitened: Whitened | None, marginal: Marginal | None, columns: Tensor, fields: Sequence[Field], sims: Simulated
) -> Reading | None:
    """What there is to read of whitened latents with shape (d,): their estimate, else a regression, else None."""
    try:
        if whitened is not None:
            loc = torch.zeros(whitened.dim) if marginal is None else marginal.loc
            found = Estimate.at(whitened, loc, columns)
            if bool(found.jacobian.any()):
                return found
    except InputError:
        pass  # a density without mean and variance: then simulations say how data follow latents
    try:
        return Regression.fit(fields, sims.data, sims.u)
    except InputError:
        return None
