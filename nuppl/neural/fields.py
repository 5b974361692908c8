"""What stands in a flat vector of parameters or data: named fields, each with a shape and a kind.

A kind says how values become numbers that a network likes, y = g(x), before they are centred and scaled:

    real      y = x
    positive  y = log x
    count     y = 2 sqrt(x + 3/8), of unit variance for Poisson counts (Anscombe, Biometrika 35, 246, 1948)
    category  y = x, labels 0, 1, 2, ...
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nuppl.errors import InputError, unknown

__all__ = ["KINDS", "Field", "Kind", "plain", "width"]


class Kind(NamedTuple):
    """A pointwise map to a convenient scale.

    Attributes:
        forward, inverse: the map and its inverse.
        log_slope: log |dy/dx|.
        valid: which values it can take.
        expects: those values in words.
    """

    forward: Callable[[Tensor], Tensor]
    inverse: Callable[[Tensor], Tensor]
    log_slope: Callable[[Tensor], Tensor]
    valid: Callable[[Tensor], Tensor]
    expects: str


def _same(x: Tensor) -> Tensor:
    return x


KINDS: dict[str, Kind] = {
    "real": Kind(_same, _same, torch.zeros_like, torch.isfinite, "finite numbers"),
    "positive": Kind(
        torch.log, torch.exp, lambda x: -torch.log(x), lambda x: torch.isfinite(x) & (x > 0), "numbers above zero"
    ),
    "count": Kind(
        lambda x: 2 * torch.sqrt(x + 0.375),
        lambda y: (y / 2).square() - 0.375,
        lambda x: -0.5 * torch.log(x + 0.375),
        lambda x: torch.isfinite(x) & (x >= 0),
        "counts of zero or more",
    ),
    "category": Kind(
        _same,
        _same,
        torch.zeros_like,
        lambda x: torch.isfinite(x) & (x >= 0) & (x == x.round()),
        "labels 0, 1, 2, ...",
    ),
}
"""Kinds by name."""


@dataclass(frozen=True)
class Field:
    """One part of a flat vector.

    Attributes:
        name: of the site.
        shape: of one value of the site; the last axis is the feature axis of a set.
        kind: one of `KINDS`.
        shared: leading axes of `shape` over which one centre and one scale are shared (an image: all of them).
        ragged: a set of up to shape[0] members; the rows that are missing hold NaN.
        labels: how many labels a category has.

    >>> Field("events", (50, 3), ragged=True).size
    150
    >>> Field("counts", (8, 26), "cuont")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    nuppl.errors.InputError: unknown kind 'cuont' (did you mean 'count'?): expected one of ...
    """

    name: str
    shape: tuple[int, ...] = ()
    kind: str = "real"
    shared: int = 0
    ragged: bool = False
    labels: int = 2

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown("kind", self.kind, KINDS)
        if self.ragged and len(self.shape) != 2:
            raise InputError(
                f"field {self.name!r}: a set of variable size needs shape (members, features), got {self.shape}"
            )
        if self.ragged and self.shared != 1:
            object.__setattr__(self, "shared", 1)
        if not 0 <= self.shared <= len(self.shape):
            raise InputError(f"field {self.name!r}: shared axes must be 0 to {len(self.shape)}, got {self.shared}")

    @property
    def size(self) -> int:
        """Numbers in the field."""
        return math.prod(self.shape)

    def as_json(self) -> dict[str, Any]:
        """For a configuration on disk."""
        return {
            "name": self.name,
            "shape": list(self.shape),
            "kind": self.kind,
            "shared": self.shared,
            "ragged": self.ragged,
            "labels": self.labels,
        }

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> Field:
        """The field that `as_json` wrote."""
        return cls(**{**entry, "shape": tuple(entry["shape"])})


def plain(name: str, size: int, kind: str = "real") -> tuple[Field, ...]:
    """One field that is a vector.

    >>> plain("x", 3)[0].shape
    (3,)
    """
    return (Field(name, (size,), kind),)


def width(fields: Iterable[Field]) -> int:
    """Numbers in all fields together."""
    return sum(field.size for field in fields)
