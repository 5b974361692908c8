"""A density of a program's data, learned from its simulations.

    nle         q(x | u), normalised over the data x
    nre, bnre   q(x | u) / q(x), up to a factor that depends on the data alone

u are whitened latents. Where the program has structure the network knows the outer ones of its marginal, and what it
reads of the data is the estimate of these (`reading`); else all of both. Latents that it does not know were integrated
by the simulations.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor

from nuppl.errors import InputError
from nuppl.learning.members import History
from nuppl.learning.reading import Reading
from nuppl.neural.ensemble import ensemble
from nuppl.neural.estimator import Estimator
from nuppl.neural.registry import ESTIMATORS, Config
from nuppl.sampling.marginal import Marginal

__all__ = ["Learned", "LikelihoodLike", "RatioLike", "summary"]


class LikelihoodLike(Protocol):
    """A trained likelihood of the neural floor, or an ensemble of them."""

    def log_prob(self, x: Tensor, theta: Tensor) -> Tensor:
        """Log density with shape (*) of data with shape (*, X)."""
        ...

    def sample(self, theta: Tensor, generator: torch.Generator) -> Tensor:
        """Data with shape (*, X)."""
        ...


class RatioLike(Protocol):
    """A trained ratio of the neural floor, or an ensemble of them."""

    def log_ratio(self, theta: Tensor, x: Tensor) -> Tensor:
        """Log ratio with shape (*)."""
        ...


@dataclass(frozen=True, eq=False)
class Learned:
    """A trained likelihood or ratio.

    Attributes:
        config: of the networks.
        members: at least one.
        sites: the data sites that it is a density of, in order.
        latents: the free latents of its program, in order.
        fixed: sites that were held while it learned, {site: value}.
        columns: the whitened latents that it knows, with shape (d,).
        reading: what is read from the data first; None where they enter as they are.
        marginal: how the other latents follow; None if there are none.
        history: of the training.
        simulations: that succeeded.
        failed: that did not.
        observed: with shape (M,), the only data that it serves: later rounds of simulations were made near their
            posterior; None where it serves any.
    """

    config: Config
    members: Sequence[Estimator]
    sites: tuple[str, ...]
    latents: tuple[str, ...]
    columns: Tensor
    reading: Reading | None
    marginal: Marginal | None
    history: History
    simulations: int
    failed: int
    fixed: dict[str, Tensor] = field(default_factory=dict)
    observed: Tensor | None = None

    @property
    def is_ratio(self) -> bool:
        """Whether it is known up to a factor that depends on the data."""
        return ESTIMATORS[self.config.estimator].role == "ratio"

    @property
    def no_evidence(self) -> str:
        """Why its integral over the latents is no evidence; "" where it is."""
        if self.is_ratio:
            return "none: a ratio is known up to a factor of the data"
        return "" if self.reading is None else "none: the network knows a summary of the data, not the data"

    def log_density(self, seen: Tensor, u: Tensor) -> Tensor:
        """With shape (*), of what `seen` gives with shape (*, C), at latents with shape (*, d)."""
        if self.is_ratio:
            return self._ratio().log_ratio(u, seen)
        return self._likelihood().log_prob(seen, u)

    def seen(self, data: Tensor) -> Tensor:
        """What the network is told of data with shape (n, M), shape (n, C).

        Raises:
            InputError: other data than those that it was trained for.
        """
        if self.observed is not None and not torch.equal(data.double(), self.observed.expand_as(data)):
            raise InputError(
                "this network learned in several rounds, near the posterior of one data set: it serves no other; train "
                "with --rounds 1 for one that does"
            )
        return summary(self.reading, data, len(self.columns))

    def sample(self, u: Tensor, generator: torch.Generator) -> Tensor:
        """Data with shape (n, M) at latents with shape (n, d).

        Raises:
            InputError: a ratio, or a density of a summary.
        """
        if self.is_ratio:
            raise InputError(
                f"a learned ratio ({self.config.estimator}) cannot be drawn from: simulate the program itself, or "
                "train nle"
            )
        if self.reading is not None:
            raise InputError("a density of a summary of the data cannot be drawn from: simulate the program itself")
        with torch.no_grad():
            return self._likelihood().sample(u, generator)

    def doubled(self) -> Learned:
        """The same in float64: densities then do not depend on how many are asked for, and have second derivatives."""
        return replace(self, members=[copy.deepcopy(member).double() for member in self.members])

    def _likelihood(self) -> LikelihoodLike:
        return self.members[0] if len(self.members) == 1 else ensemble(self.members)  # type: ignore[return-value]

    def _ratio(self) -> RatioLike:
        return self.members[0] if len(self.members) == 1 else ensemble(self.members)  # type: ignore[return-value]


def summary(reading: Reading | None, data: Tensor, latents: int) -> Tensor:
    """The data with shape (n, M) as they are, or the last estimate of the latents with shape (n, d)."""
    return data if reading is None else reading(data)[:, -latents:]
