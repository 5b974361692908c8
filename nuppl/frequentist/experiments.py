"""What a test statistic sees: experiments, observed or thrown, and the values that are tested on each.

Fits are made when a statistic asks for them, and kept: the likelihood ratio never pays for the likelihood over a whole
grid, and a statistic of that never pays for a free fit.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from nuppl.frequentist.grid import Grid
from nuppl.frequentist.profile import Profile
from nuppl.optimize.batch_newton import Minima

__all__ = ["Curves", "Experiments", "observed"]


class Curves(NamedTuple):
    """Log likelihoods over a grid, nuisances fitted."""

    values: Tensor
    """With shape (n, G)."""
    failed: Tensor
    """Experiments with a failed fit at a point of the grid, boolean with shape (n,)."""


class Experiments:
    """n experiments and what is tested on them.

    Attributes:
        profile: the scan they belong to; its `grid` has G points over K parameters.
        tested: values of the scanned parameters with shape (n, K), in their own units.
    """

    def __init__(
        self,
        profile: Profile,
        tested: Tensor,
        fixed: Callable[[Tensor], Minima],
        free: Callable[[Minima], Minima],
        curves: Callable[[], Curves],
        lost: Tensor | None = None,
    ) -> None:
        self.profile, self.tested = profile, tested
        self._fixed, self._free, self._curves = fixed, free, curves
        # Shared by all that is tested on the same experiments.
        self._lost = torch.zeros(len(tested), dtype=torch.bool) if lost is None else lost

    def __len__(self) -> int:
        return len(self.tested)

    @property
    def grid(self) -> Grid:
        """Of the scan."""
        return self.profile.grid

    @cached_property
    def fixed(self) -> Minima:
        """Fits of the nuisances at the tested values, n lanes."""
        return self._counted(self._fixed(self.tested))

    @cached_property
    def free(self) -> Minima:
        """Fits of everything, n lanes."""
        return self._counted(self._free(self.fixed))

    def _counted(self, minima: Minima) -> Minima:
        self._lost |= ~minima.converged
        return minima

    @cached_property
    def curves(self) -> Curves:
        """The profiled likelihood over the grid."""
        found = self._curves()
        self._lost |= found.failed
        return found

    @property
    def log_likelihood(self) -> Tensor:
        """Over the grid with shape (n, G), nuisances fitted."""
        return self.curves.values

    @property
    def estimate(self) -> Tensor:
        """The scanned parameters where the likelihood is largest, with shape (n, K)."""
        values = self.profile.likelihoods.natural.values(self.free.point)
        return torch.stack([values[name].reshape(-1) for name in self.grid.names], 1)

    @property
    def failed(self) -> Tensor:
        """Experiments of which a fit failed that was made by now, boolean with shape (n,)."""
        return self._lost.clone()

    def at(self, tested: Tensor) -> Experiments:
        """The same experiments with other values tested; free fits and curves are shared.

        Arguments:
            tested: with shape (n, K), or (K,) for all.
        """
        tested = tested.expand(len(self), len(self.grid.axes))
        return Experiments(self.profile, tested, self._fixed, lambda _: self.free, lambda: self.curves, self._lost)


def observed(profile: Profile) -> Experiments:
    """The data of a scan, tested at each point of its grid: n = G times the same experiment."""
    size = profile.grid.size

    def curves() -> Curves:
        values = -profile.minima.value.expand(size, size)
        return Curves(values, (~profile.minima.converged).any().expand(size))

    return Experiments(
        profile,
        profile.grid.points,
        lambda tested: profile.minima.rows(profile.grid.nearest(tested)),
        lambda _: profile.best.rows(torch.zeros(size, dtype=torch.long)),
        curves,
    )
