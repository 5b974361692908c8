"""The verdict on a posterior: whether to trust it, from nothing but the result itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import xarray as xr

from nuppl.diagnostics.checks import Check, Evidence
from nuppl.diagnostics.checks_calibration import calibration
from nuppl.diagnostics.checks_chains import divergences, effective_draws, finite_draws, mean_gradient, r_hat
from nuppl.diagnostics.checks_data import p_values
from nuppl.diagnostics.checks_prior import boundary_pile_up, prior_dominance
from nuppl.diagnostics.checks_weights import (
    evidence_error,
    failed_densities,
    island_spread,
    learned_density,
    modes_missed,
    pareto_k,
    unchecked_network,
    uncorrected_draws,
    weighted_draws,
)
from nuppl.errors import InputError
from nuppl.results.metadata import metadata
from nuppl.results.summary import Summary, summarize_result

__all__ = ["CHECKS", "Verdict", "judge"]

CHECKS = (
    finite_draws,
    r_hat,
    effective_draws,
    divergences,
    mean_gradient,
    pareto_k,
    unchecked_network,
    calibration,
    modes_missed,
    uncorrected_draws,
    weighted_draws,
    failed_densities,
    p_values,
    island_spread,
    evidence_error,
    learned_density,
    boundary_pile_up,
    prior_dominance,
)
"""From what is known of a result to the checks that apply, in the order in which they are shown."""


@dataclass(frozen=True)
class Verdict:
    """Trusted only if every serious check passed."""

    trusted: bool
    checks: tuple[Check, ...]

    @property
    def failed(self) -> tuple[Check, ...]:
        """The serious checks that failed: reasons not to trust the posterior."""
        return tuple(check for check in self.checks if check.serious and not check.passed)

    @property
    def cautions(self) -> tuple[Check, ...]:
        """The other checks that failed: what to know before using the posterior."""
        return tuple(check for check in self.checks if not check.serious and not check.passed)

    def sentence(self) -> str:
        """The verdict in plain words."""
        total = len(self.checks)
        noted = f"{len(self.cautions)} caution{'s' * (len(self.cautions) > 1)} ({_names(self.cautions)})"
        if not self.trusted:
            count = f"{len(self.failed)} of {total} checks failed ({_names(self.failed)})"
            return f"Do not trust this posterior: {count}{', and ' + noted if self.cautions else ''}."
        if self.cautions:
            return f"This posterior can be trusted, with {noted}: the other {total - len(self.cautions)} checks passed."
        return f"This posterior can be trusted: all {total} checks passed."

    def lines(self) -> list[str]:
        """For every check that failed what that means, what to do and where to read more; cautions last."""
        return [check.line() for check in self.failed] + [f"caution: {check.line()}" for check in self.cautions]

    def to_json(self) -> dict[str, Any]:
        """For run.json and machine output; numbers that JSON lacks become null."""
        return {
            "trusted": self.trusted,
            "cautions": [check.name for check in self.cautions],
            "checks": [_to_json(check) for check in self.checks],
        }


def _names(checks: Sequence[Check]) -> str:
    return ", ".join(check.name for check in checks)


def _to_json(check: Check) -> dict[str, Any]:
    value = check.value if math.isfinite(check.value) else None
    return {**vars(check), "value": value, "docs": check.link}


def judge(groups: Mapping[str, xr.Dataset], rows: Sequence[Summary] | None = None) -> Verdict:
    """Judge a result, fresh from an engine or read from its file.

    Arguments:
        groups: of a posterior.
        rows: its summary, where that is at hand (it takes seconds for a thousand parameters).

    Raises:
        InputError: a result without a posterior.
    """
    if "posterior" not in groups:
        raise InputError("verdict: expected a result with a posterior, got one with " + ", ".join(sorted(groups)))
    said = metadata(groups)
    attrs, interest = said["attrs"], said["interest"]
    if rows is None:
        rows = summarize_result(groups)
    evidence = Evidence(
        groups=groups,
        interest=[row for row in rows if row.site in interest],
        nuisance=[row for row in rows if row.site not in interest],
        attrs=attrs,
        engine=said["engine"],
    )
    checks = tuple(check for part in CHECKS for check in part(evidence))
    return Verdict(all(check.passed or not check.serious for check in checks), checks)
