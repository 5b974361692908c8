"""Draws from a posterior as every engine returns them, and statistics of importance weights.

With weights w_i = p(x_i) / q(x_i) of draws x_i ~ q the effective number of draws is (sum w)^2 / sum w^2 (Kish 1965).
Whether that number can be believed is said by the shape k of a generalised Pareto distribution fitted to the largest
weights: below 0.7 the weighted mean converges at practical sizes (Vehtari et al., arXiv:1507.02646).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from nuppl.errors import InputError

__all__ = ["Draws", "effective_size", "pareto_k"]

EQUAL = 1e-12
"""Log weights that spread less than this are equal: no tail is left to fit."""


@dataclass(frozen=True)
class Draws:
    """Posterior draws of one engine.

    Attributes:
        values: every free latent, {site: (chain, draw, *site)}; a dictionary, or the mapping of a `Spool`.
        stats: one number per draw, {name: (chain, draw)}, under ArviZ's names: "lp", "log_weight", "diverging",
            "acceptance_rate".
        attrs: one value for the run: "log_evidence", "log_evidence_error", "efficiency", "effective_draws" (where
            draws were resampled by weight), "pareto_k", "proposals", "failures" (densities that were NaN), "seconds".
        engine: which engine made them.

    Raises:
        InputError: values or stats that disagree in their number of chains or draws.
    """

    values: Mapping[str, Tensor]
    stats: Mapping[str, Tensor] = field(default_factory=dict)
    attrs: Mapping[str, float | int | str] = field(default_factory=dict)
    engine: str = ""

    def __post_init__(self) -> None:
        if not self.values:
            raise InputError("draws: expected at least one free latent, got none; leave a site free")
        for name, value in (*self.values.items(), *self.stats.items()):
            if tuple(value.shape[:2]) != self.shape:
                raise InputError(
                    f"draws of {name!r}: expected leading axes (chain, draw) = {self.shape}, got {tuple(value.shape)}"
                )

    @property
    def shape(self) -> tuple[int, int]:
        """(chains, draws per chain)."""
        chains, draws = next(iter(self.values.values())).shape[:2]
        return chains, draws

    def lanes(self) -> dict[str, Tensor]:
        """All chains in one row: {site: (chain * draw, *site)}."""
        return {name: value.detach().flatten(0, 1) for name, value in self.values.items()}

    def thinned(self, most: int) -> tuple[Draws, Tensor]:
        """At most that many draws (or one of each chain), evenly spaced along the chains, in memory.

        Returns:
            The draws, and their numbers in the chains with shape (draw,).

        >>> few, numbers = Draws({"x": torch.arange(20.0).reshape(2, 10)}).thinned(8)
        >>> few.values["x"][1].tolist(), numbers.tolist()
        ([10.0, 12.0, 15.0, 17.0], [0, 2, 5, 7])
        """
        chains, draws = self.shape
        n = min(draws, max(1, most // chains))
        numbers = torch.arange(n) * draws // n
        values, stats = ({name: _picked(part, name, numbers) for name in part} for part in (self.values, self.stats))
        return Draws(values, stats, self.attrs, self.engine), numbers


def _picked(values: Mapping[str, Tensor], name: str, numbers: Tensor) -> Tensor:
    """Some draws of a site. Each entry is asked for anew: a mapped file lets go of what it read for the last one."""
    chains, _, *site = values[name].shape
    entries = [values[name][(..., *place)][:, numbers] for place in np.ndindex(*site)]
    return torch.stack(entries, -1).reshape(chains, len(numbers), *site)


def effective_size(log_weights: Tensor) -> float:
    """The effective number of weighted draws, (sum w)^2 / sum w^2.

    Arguments:
        log_weights: with shape (n,), up to a constant; NaN counts as no weight.

    >>> round(effective_size(torch.zeros(50)), 9)
    50.0
    """
    log_weights = _finite_or_none(log_weights)
    if bool(torch.isneginf(log_weights).all()):
        return 0.0
    return float((2.0 * log_weights.logsumexp(0) - (2.0 * log_weights).logsumexp(0)).exp())


def pareto_k(log_weights: Tensor) -> float:
    """The Pareto shape of the largest weights; infinite where too few weights are left to tell.

    Arguments:
        log_weights: with shape (n,), up to a constant; NaN counts as no weight.

    Equal weights have no tail: their k is minus infinity.
    """
    import arviz

    log_weights = _finite_or_none(log_weights)
    found = log_weights[log_weights.isfinite()]
    if len(found) < 2:
        return float("inf")
    if float(found.max() - found.min()) < EQUAL:
        return float("-inf")
    # On the way to a share of zero an exponential may overflow: no reason to warn.
    with np.errstate(over="ignore"):
        _, shape = arviz.psislw((found - found.max()).numpy().copy())
    return float(shape)


def _finite_or_none(log_weights: Tensor) -> Tensor:
    log_weights = log_weights.detach().to(torch.float64)
    return torch.where(log_weights.isnan(), -torch.inf, log_weights)
