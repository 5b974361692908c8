"""Where training takes its simulations from: a fixed set, in memory or read lazily, or made while training.

Both give the same batches for the same seed and epoch, whatever came before: training can be interrupted anywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor

from nuppl.errors import InputError
from nuppl.neural.seeds import derived, generator

__all__ = ["Fixed", "Fresh", "Pairs", "Simulations", "Sized"]

Pairs = tuple[Tensor, Tensor]
"""Parameters with shape (n, D) and data with shape (n, X)."""

_HELD_OUT, _ORDER, _DRAWN = 101, 102, 103
"""Streams of the seed."""

_MOST = 10_000
"""Held-out simulations are enough at this many."""


class Sized(Protocol):
    """Rows that can be read by number: a tensor, an array, or a store on disk."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> Any: ...


class Simulations(Protocol):
    """What training asks for."""

    def held_out(self, share: float, seed: int) -> Pairs:
        """Simulations that are never trained on."""
        ...

    def first(self, share: float, seed: int, most: int) -> Pairs:
        """Simulations that are trained on, to learn scales from."""
        ...

    def batches(self, share: float, seed: int, epoch: int, size: int) -> Iterator[Pairs]:
        """The batches of one epoch."""
        ...

    def steps(self, share: float, size: int) -> int:
        """Batches in an epoch."""
        ...

    def used(self, epochs: int) -> int:
        """Simulations after so many epochs, held-out ones included."""
        ...


class Fixed:
    """A set of simulations.

    Arguments:
        theta: parameters with shape (n, D).
        x: data with shape (n, X). Both are indexed with a sorted array of row numbers, never read as a whole.

    Raises:
        InputError: different lengths, or not two axes.

    >>> Fixed(torch.zeros(100, 2), torch.zeros(100, 3)).used(5)
    100
    """

    def __init__(self, theta: Sized, x: Sized) -> None:
        if len(theta) != len(x):
            raise InputError(f"simulations: expected as many parameters as data, got {len(theta)} and {len(x)}")
        for name, values in (("parameters", theta), ("data", x)):
            shape = tuple(getattr(values, "shape", (0, 0)))
            if len(shape) != 2:
                raise InputError(f"simulations: expected {name} with shape (n, columns), got {shape}")
        self.theta, self.x = theta, x

    def held_out(self, share: float, seed: int) -> Pairs:
        """A share of all, chosen by the seed; at most ten thousand."""
        return self._rows(self._order(seed)[: self._kept(share)])

    def first(self, share: float, seed: int, most: int) -> Pairs:
        """Up to `most` of those that are trained on."""
        return self._rows(self._order(seed)[self._kept(share) :][:most])

    def batches(self, share: float, seed: int, epoch: int, size: int) -> Iterator[Pairs]:
        """All that are trained on, shuffled; an incomplete last batch is left to another epoch."""
        rows = self._order(seed)[self._kept(share) :]
        shuffled = rows[torch.randperm(len(rows), generator=generator(seed, _ORDER, epoch))]
        for batch in shuffled.split(size):
            if len(batch) == size:
                yield self._rows(batch)

    def steps(self, share: float, size: int) -> int:
        """Whole batches of those that are trained on.

        Raises:
            InputError: there is not even one.
        """
        left = len(self.theta) - self._kept(share)
        if left < size:
            raise InputError(
                f"simulations: {len(self.theta)} with {self._kept(share)} held out leave {left}, fewer than a batch of "
                f"{size}: simulate more, or choose a smaller batch"
            )
        return left // size

    def used(self, epochs: int) -> int:
        """All of them."""
        return len(self.theta)

    def _kept(self, share: float) -> int:
        return min(max(math.ceil(share * len(self.theta)), 1), _MOST)

    def _order(self, seed: int) -> Tensor:
        return torch.randperm(len(self.theta), generator=generator(seed, _HELD_OUT))

    def _rows(self, rows: Tensor) -> Pairs:
        if isinstance(self.theta, Tensor) and isinstance(self.x, Tensor):
            return self.theta[rows], self.x[rows]
        # Stores on disk are read in order.
        order = rows.sort().values.numpy()
        back = torch.argsort(torch.argsort(rows))
        return torch.as_tensor(self.theta[order])[back], torch.as_tensor(self.x[order])[back]


class Fresh:
    """Simulations made on the fly, never used twice.

    Arguments:
        draw: n and a seed to n parameters with shape (n, D) and data with shape (n, X); the same for the same seed.
        epoch: simulations between two looks at the held-out ones.
        held: held-out simulations, made once.
    """

    def __init__(self, draw: Callable[[int, int], Pairs], epoch: int = 10_000, held: int = 2_000) -> None:
        self.draw, self.epoch, self.held = draw, epoch, held

    def held_out(self, share: float, seed: int) -> Pairs:
        """Made with a seed of their own; the share does not matter."""
        return self.draw(self.held, derived(seed, _HELD_OUT))

    def first(self, share: float, seed: int, most: int) -> Pairs:
        """Those of the first epoch."""
        return self.draw(min(most, self.epoch), derived(seed, _DRAWN, 0))

    def batches(self, share: float, seed: int, epoch: int, size: int) -> Iterator[Pairs]:
        """One epoch's simulations, made at once and cut into batches."""
        theta, x = self.draw(self.epoch, derived(seed, _DRAWN, epoch))
        for rows in torch.arange(len(theta)).split(size):
            if len(rows) == size:
                yield theta[rows], x[rows]

    def steps(self, share: float, size: int) -> int:
        """Whole batches.

        Raises:
            InputError: there is not even one.
        """
        if self.epoch < size:
            raise InputError(f"simulations: {self.epoch} for an epoch are fewer than a batch of {size}")
        return self.epoch // size

    def used(self, epochs: int) -> int:
        """Held-out ones, and as many as an epoch for each."""
        return self.held + epochs * self.epoch
