"""Values brought to zero mean and unit variance by kind: z = (g(x) - loc) / scale, fitted on simulations.

The scale of a column that never changes is one, so that it becomes zero and harms nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nuppl.errors import InputError
from nuppl.neural.fields import KINDS, Field, width

__all__ = ["Standardize"]

_CONSTANT = 1e-9
"""A column whose spread is less than this share of its centre does not change."""


class Standardize(nn.Module):
    """A fitted affine map for each column; its numbers are float64 and part of the state dict.

    Arguments:
        fields: what the columns are, in order.

    >>> space = Standardize((Field("n", (2,), "count"),))
    >>> space.fit(torch.tensor([[10.0, 7.0], [20.0, 7.0], [30.0, 7.0]], dtype=torch.float64))
    >>> z = space(torch.tensor([[20.0, 7.0]], dtype=torch.float64))
    >>> z.dtype, bool(abs(z[0, 0]) < 0.2), bool(abs(z[0, 1]) < 1e-9)
    (torch.float32, True, True)
    """

    loc: Tensor
    scale: Tensor

    def __init__(self, fields: Sequence[Field]) -> None:
        super().__init__()
        self.fields = tuple(fields)
        self.width = width(self.fields)
        self.sizes = [field.size for field in self.fields]
        self.register_buffer("loc", torch.zeros(self.width, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(self.width, dtype=torch.float64))
        self.precision = torch.float32
        self._only_real = all(field.kind == "real" for field in self.fields)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Moves between devices as any module, but stays float64; what it gives has the precision that is asked for."""
        kept = self.loc, self.scale
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.precision = fn(torch.zeros((), dtype=self.precision)).dtype
        self.loc, self.scale = (value.to(self.loc.device) for value in kept)
        return self

    def fit(self, x: Tensor) -> None:
        """Learn centre and scale from values with shape (n, X).

        Raises:
            InputError: another width, fewer than two values, or values that their kind cannot take.
        """
        self.check(x, "simulations")
        if len(x) < 2:
            raise InputError(f"standardisation needs at least 2 simulations, got {len(x)}")
        parts = [_moments(part, field) for part, field in zip(self._parts(self._scaled(x)), self.fields, strict=True)]
        loc, scale = (torch.cat(columns) for columns in zip(*parts, strict=True))
        constant = (scale <= _CONSTANT * loc.abs()) | (scale == 0)
        self.loc.copy_(loc)
        self.scale.copy_(torch.where(constant, 1.0, scale))

    def forward(self, x: Tensor) -> Tensor:
        """Values with shape (*, X), any precision, to numbers of that shape: float32, or float64 once made double."""
        return ((self._scaled(x.double()) - self.loc) / self.scale).to(self.precision)

    def inverse(self, z: Tensor) -> Tensor:
        """Back to float64 values with shape (*, X)."""
        y = z.double() * self.scale + self.loc
        return y if self._only_real else self._by_kind(y, lambda kind: KINDS[kind].inverse)

    def log_slope(self, x: Tensor) -> Tensor:
        """The log of |dz/dx| per column, with shape (*, X) and float64."""
        slope = -self.scale.log().expand(x.shape)
        return slope if self._only_real else slope + self._by_kind(x.double(), lambda kind: KINDS[kind].log_slope)

    def split(self, z: Tensor) -> list[Tensor]:
        """Values with shape (n, X) as one tensor with shape (n, *shape) per field."""
        return [part.reshape(len(z), *field.shape) for part, field in zip(self._parts(z), self.fields, strict=True)]

    def check(self, x: Tensor, what: str) -> None:
        """Whether values can enter.

        Raises:
            InputError: naming the field, what was expected and what came.
        """
        if x.ndim == 0 or x.shape[-1] != self.width:
            expected = ", ".join(f"{field.name}{list(field.shape)}" for field in self.fields)
            raise InputError(
                f"{what}: expected {self.width} numbers ({expected}) in the last axis, as trained on, got shape "
                f"{tuple(x.shape)}"
            )
        for part, field in zip(self._parts(x), self.fields, strict=True):
            _check_values(part, field, what)

    def _parts(self, x: Tensor) -> tuple[Tensor, ...]:
        parts: tuple[Tensor, ...] = x.split(self.sizes, -1)
        return parts

    def _scaled(self, x: Tensor) -> Tensor:
        return x if self._only_real else self._by_kind(x, lambda kind: KINDS[kind].forward)

    def _by_kind(self, x: Tensor, function: Callable[[str], Callable[[Tensor], Tensor]]) -> Tensor:
        parts = zip(self._parts(x), self.fields, strict=True)
        return torch.cat([function(field.kind)(part) for part, field in parts], -1)


def _moments(y: Tensor, field: Field) -> tuple[Tensor, Tensor]:
    """Centre and spread per column, each with shape (size,); missing rows of a set do not count."""
    grouped = y.double().reshape(len(y), *field.shape).flatten(0, field.shared)
    members = ~grouped.isnan()
    count = members.sum(0).clamp(min=1)
    loc = torch.where(members, grouped, 0.0).sum(0) / count
    scale = (torch.where(members, grouped - loc, 0.0).square().sum(0) / count).sqrt()
    return loc.expand(field.shape).flatten(), scale.expand(field.shape).flatten()


def _check_values(part: Tensor, field: Field, what: str) -> None:
    good = KINDS[field.kind].valid(part)
    expects = KINDS[field.kind].expects
    if field.kind == "category":
        good &= part < field.labels
        expects = f"labels 0 to {field.labels - 1}"
    if field.ragged:
        rows = part.unflatten(-1, field.shape)
        good |= rows.isnan().all(-1, keepdim=True).expand(rows.shape).flatten(-2)
    if not good.all():
        bad = part[~good].flatten()
        padding = " (a member of a set is missing where all its features are NaN)" if field.ragged else ""
        raise InputError(
            f"{what}: field {field.name!r} is of kind {field.kind!r}: expected {expects}, got "
            f"{len(bad)} others, the first {float(bad[0])}{padding}; drop failed simulations, or name another kind"
        )
