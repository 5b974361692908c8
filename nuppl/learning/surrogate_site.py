"""A learned density as the distribution of data sites.

It is joint over all entries of its sites. Its log density belongs to the last of them, in equal shares to the entries,
so that sums are right and nothing else is claimed; the others have zero. It has no mean or variance.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.distributions import constraints

from nuppl.errors import InputError
from nuppl.language.plates import PLATE_DIMS
from nuppl.learning.learned import Learned
from nuppl.neural.fields import Field

__all__ = ["Joint", "LearnedDensity"]

_SUPPORTS = {
    "count": constraints.nonnegative_integer,
    "positive": constraints.positive,
    "category": constraints.nonnegative_integer,
}
"""By kind of the data; the others are real."""


class Joint:
    """One run of a program with a learned density.

    Arguments:
        learned: the density.
        u: what it conditions on, with shape (n or 1, d).
        memory: what was read from data last; kept from run to run, since data seldom change.
    """

    def __init__(self, learned: Learned, u: Tensor, memory: dict[str, Tensor]) -> None:
        self.learned, self.u, self.memory = learned, u, memory
        self.seen: list[Tensor] = []
        self.drawn: list[Tensor] = []

    def log_density(self, number: int, x: Tensor) -> Tensor:
        """The share of site `number`, with shape (n or 1,), at its data with shape (n or 1, size)."""
        self.seen = [*self.seen[:number], x]
        if number < len(self.learned.sites) - 1:
            return torch.zeros(len(x), dtype=torch.float64)
        lanes = max(len(part) for part in self.seen)
        data = torch.cat([part.expand(lanes, -1) for part in self.seen], 1)
        return self.learned.log_density(self._read(data), self.u)

    def sample(self, number: int, n: int, sizes: list[int]) -> Tensor:
        """Data of site `number` with shape (n, size); those of all sites are drawn with the first."""
        if number == 0:
            generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
            self.drawn = list(self.learned.sample(self.u.expand(n, -1), generator).split(sizes, 1))
        return self.drawn[number]

    def _read(self, data: Tensor) -> Tensor:
        last = self.memory.get("data")
        if last is None or not torch.equal(last, data):
            self.memory.update(data=data, seen=self.learned.seen(data))
        return self.memory["seen"]


class LearnedDensity(TorchDistribution):  # type: ignore[misc]
    """One data site of a learned density.

    Arguments:
        joint: of all its sites.
        fields: of all its sites.
        number: which of them this is.
        shape: its plates, then its event.
        event: how many axes of `shape` are its event's.
    """

    arg_constraints: dict[str, Any] = {}
    has_rsample = False

    def __init__(
        self,
        joint: Joint,
        fields: tuple[Field, ...],
        number: int,
        shape: tuple[int, ...],
        event: int,
        batch: Any = None,
    ) -> None:
        self.joint, self.fields, self.number = joint, fields, number
        self.shape_of_one, self.event_axes = shape, event
        plates = shape[: len(shape) - event]
        super().__init__(
            torch.Size(plates if batch is None else batch), torch.Size(shape[len(plates) :]), validate_args=False
        )

    @constraints.dependent_property(is_discrete=False)
    def support(self) -> Any:
        """That of its kind of data."""
        base = _SUPPORTS.get(self.fields[self.number].kind, constraints.real)
        return constraints.independent(base, self.event_axes) if self.event_axes else base

    def expand(self, batch_shape: Any, _instance: Any = None) -> LearnedDensity:
        """Over more lanes."""
        return LearnedDensity(self.joint, self.fields, self.number, self.shape_of_one, self.event_axes, batch_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Shares of the log density with shape (n, *plates)."""
        plates = self._plates
        x = value.reshape(-1, self.fields[self.number].size)
        share = self.joint.log_density(self.number, x) / math.prod(plates)
        return share.reshape(-1, *(1,) * PLATE_DIMS).expand(-1, *plates)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws with the shape of the distribution.

        Raises:
            InputError: what was learned cannot be drawn from.
        """
        lanes = self.batch_shape[0] if len(self.batch_shape) > PLATE_DIMS else 1
        if tuple(sample_shape):
            raise InputError("a learned density is drawn once for each lane: expected no sample_shape")
        drawn = self.joint.sample(self.number, lanes, [field.size for field in self.fields])
        return drawn.reshape(*self.batch_shape, *self.event_shape)

    @property
    def _plates(self) -> tuple[int, ...]:
        """All seven plate axes."""
        own = tuple(self.batch_shape[-PLATE_DIMS:])
        return (*(1,) * (PLATE_DIMS - len(own)), *own)
