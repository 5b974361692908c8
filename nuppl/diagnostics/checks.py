"""What a check is, and what the checks look at. They live in `checks_chains`, `checks_weights`, `checks_data` and
`checks_prior`; docs/verdict.md says of each what it measures, where its threshold comes from and what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import xarray as xr

from nuppl.errors import InputError
from nuppl.results.summary import Summary

__all__ = ["PAGE", "Check", "Evidence"]

PAGE = "docs/verdict.md"
"""The page that explains the checks."""


@dataclass(frozen=True)
class Check:
    """One number against its threshold.

    >>> Check("Pareto k", 0.93, "< 0.7", False, "use another guide", anchor="pareto-k").link
    'docs/verdict.md#pareto-k'
    """

    name: str
    value: float
    threshold: str
    """As printed: "< 1.01"."""
    passed: bool
    advice: str
    """What a failure means and what to do, or what a pass says."""
    anchor: str = ""
    """The heading of `PAGE` that explains it."""
    serious: bool = True
    """Whether a failure makes the posterior untrusted; else it is a caution."""

    @property
    def link(self) -> str:
        """Where the documentation explains it."""
        return f"{PAGE}#{self.anchor}" if self.anchor else PAGE

    def line(self) -> str:
        """The check in one line, for a failure.

        >>> Check("Pareto k", 0.93, "< 0.7", False, "use another guide", "pareto-k").line()
        'Pareto k: 0.93, asked for < 0.7. use another guide (docs/verdict.md#pareto-k)'
        """
        return f"{self.name}: {self.value:.4g}, asked for {self.threshold}. {self.advice} ({self.link})"


@dataclass(frozen=True)
class Evidence:
    """What the checks look at."""

    groups: Mapping[str, xr.Dataset]
    interest: Sequence[Summary]
    nuisance: Sequence[Summary]
    attrs: Mapping[str, Any]
    engine: str

    @property
    def draws(self) -> int:
        """The number of draws over all chains."""
        sizes = self.groups["posterior"].sizes
        return int(sizes["chain"] * sizes["draw"])

    @property
    def stats(self) -> xr.Dataset:
        """What the engine says of each draw."""
        return self.groups.get("sample_stats", xr.Dataset())

    @property
    def resampled(self) -> bool:
        """Whether draws were picked by weight."""
        return "effective_draws" in self.attrs

    @property
    def islands(self) -> int:
        """The number of chains that are islands, independent runs whose draws come in no order; else 0."""
        return int(self.number("islands")) if "islands" in self.attrs else 0

    def number(self, name: str) -> float:
        """What the engine said of the run under that name.

        Raises:
            InputError: it is no number.
        """
        value = self.attrs[name]
        if not isinstance(value, int | float):
            raise InputError(f"result: expected a number as {name!r} among its 'attrs', got {value!r}; repeat the run")
        return float(value)
