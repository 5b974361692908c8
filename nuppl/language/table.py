"""The table of sites: what is known of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nuppl.errors import InputError
from nuppl.language.plates import PLATE_DIMS

__all__ = ["Axis", "Site"]


@dataclass(frozen=True)
class Axis:
    """One plate of a site, or one axis of its event (`dim` counts from the right of the batch; None for events)."""

    name: str
    size: int
    dim: int | None
    coords: tuple[Any, ...] | None
    unit: str = ""


@dataclass(frozen=True)
class Site:
    """What is known of one sample site.

    Attributes:
        kind: "parameter", "pull", "random_effect" or "data".
        axes: its plates from left to right, then the axes of its event.
        batch: the seven plate axes, size 1 where no plate lies, with shape (7,).
        event: the event shape.
        u_event: the event shape of its whitened coordinate (latents).
        nominal: its value at the nominal point with shape (*batch, *event).
        data: what was observed with shape (*batch, *event), or None.
        spread: the standard deviation of its distribution at the nominal point (latents), 1 where it has none.
        lower, upper: bounds of the support where it is an interval, else -inf and inf; scalars or the site's shape.
        prior: what its distribution was made from, {argument: value}; empty for data, and where that cannot be told or
            depends on another latent.
        conditional: whether its distribution depends on another latent.
        has_density: False for simulators.
        has_moments: whether mean and variance of its distribution are known.
    """

    name: str
    kind: str
    distribution: str
    axes: tuple[Axis, ...]
    batch: tuple[int, ...]
    event: tuple[int, ...]
    u_event: tuple[int, ...]
    unit: str
    label: str
    nominal: Tensor
    data: Tensor | None
    spread: Tensor
    lower: Tensor
    upper: Tensor
    prior: Mapping[str, Tensor]
    conditional: bool
    has_density: bool
    has_moments: bool
    auxiliary: bool
    fixed: bool
    dtype: torch.dtype

    @property
    def full_shape(self) -> tuple[int, ...]:
        """All seven plate axes, then the event."""
        return (*self.batch, *self.event)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape in results: plates, then event, without the empty axes."""
        return tuple(axis.size for axis in self.axes)

    @property
    def plain_shape(self) -> tuple[int, ...]:
        """The shape in a program without lanes: no empty axes on the left."""
        first = next((i for i, size in enumerate(self.batch) if size > 1), PLATE_DIMS)
        return (*self.batch[first:], *self.event)

    @property
    def size(self) -> int:
        """Number of entries."""
        return int(torch.Size(self.full_shape).numel())

    def lanes(self, value: Any) -> Tensor:
        """A value of this site as the program meets it: shape (n, *full_shape), n = 1 for a single value.

        Accepts a scalar, the site's shape, or that shape with a leading axis of lanes.
        """
        tensor = torch.as_tensor(value, dtype=torch.float64)
        if tensor.dim() == 0:
            return tensor.expand(1, *self.full_shape)
        if tuple(tensor.shape) == self.shape:
            return tensor.reshape(1, *self.full_shape)
        if tuple(tensor.shape[1:]) == self.shape:
            return tensor.reshape(-1, *self.full_shape)
        names = ", ".join(f"{axis.name}: {axis.size}" for axis in self.axes)
        raise InputError(
            f"site {self.name!r}: expected a value with shape {self.shape} ({names or 'a scalar'}), "
            f"with or without a leading axis of lanes, got {tuple(tensor.shape)}"
        )

    def entry(self, index: tuple[int, ...]) -> str:
        """The name of one entry: "counts[near, 3.5]".

        Arguments:
            index: in the seven plate axes, and in the axes of the event as far as they are given.
        """
        plates = [(axis, index[:PLATE_DIMS][axis.dim]) for axis in self.axes if axis.dim is not None]
        events = zip((axis for axis in self.axes if axis.dim is None), index[PLATE_DIMS:], strict=False)
        named = [str(axis.coords[i] if axis.coords else i) for axis, i in (*plates, *events)]
        return f"{self.name}[{', '.join(named)}]" if named else self.name

    def draws(self, value: Tensor) -> Tensor:
        """The inverse of `lanes`: shape (n, *full_shape) to (n, *shape)."""
        return value.reshape(value.shape[0], *self.shape)
