"""The verdict on a posterior: whether to trust it, from nothing but the result itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import xarray as xr

from nuppl.diagnostics.checks import Check, Evidence, all_checks
from nuppl.errors import InputError
from nuppl.results.metadata import metadata
from nuppl.results.summary import Summary, summarize_result

__all__ = ["Verdict", "judge"]


@dataclass(frozen=True)
class Verdict:
    """Trusted only if every check passed."""

    trusted: bool
    checks: tuple[Check, ...]

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if not check.passed)

    def sentence(self) -> str:
        """The verdict in plain words."""
        if self.trusted:
            return f"This posterior can be trusted: all {len(self.checks)} checks passed."
        names = ", ".join(check.name for check in self.failed)
        return f"Do not trust this posterior: {len(self.failed)} of {len(self.checks)} checks failed ({names})."

    def to_json(self) -> dict[str, Any]:
        """For run.json and machine output; numbers that JSON lacks become null."""
        checks = [
            {**vars(check), "value": check.value if math.isfinite(check.value) else None} for check in self.checks
        ]
        return {"trusted": self.trusted, "checks": checks}


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
    checks = all_checks(evidence)
    return Verdict(all(check.passed for check in checks), checks)
