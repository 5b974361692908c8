"""The comparison of two models of the same data by their evidence.

    ln B = ln Z_1 - ln Z_2,   error in quadrature,   posterior odds = B x prior odds.

Words for |ln B| are those of Kass and Raftery, J. Am. Stat. Assoc. 90, 773 (1995): below 1 not worth more than a bare
mention, 1 to 3 positive, 3 to 5 strong, above 5 very strong. A Bayes factor depends on how wide the priors are of what
only one model has; `ranges` says how much.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from nuppl.diagnostics.ranges import Sensitivity, Side, sensitivities
from nuppl.diagnostics.verdict import Verdict, judge
from nuppl.errors import InputError
from nuppl.inference.registry import ENGINES
from nuppl.results.metadata import metadata
from nuppl.results.summary import Summary, summarize_result

__all__ = ["Comparison", "Run", "compare", "engines_with_evidence", "strength"]

SCALE = "Kass and Raftery 1995"
STRENGTHS = ((1.0, "not worth more than a bare mention"), (3.0, "positive"), (5.0, "strong"), (math.inf, "very strong"))


@dataclass(frozen=True)
class Run:
    """One finished run.

    Attributes:
        name: as the user gave it.
        groups: of its result.
        said: what the result says of itself.
        rows: its summary.
        verdict: whether to trust it.
    """

    name: str
    groups: Mapping[str, xr.Dataset]
    said: Mapping[str, Any]
    rows: Sequence[Summary]
    verdict: Verdict

    @classmethod
    def from_groups(cls, name: str, groups: Mapping[str, xr.Dataset]) -> Run:
        """A run from the groups of its result.

        Raises:
            InputError: a result without posterior or without evidence.
        """
        if "posterior" not in groups:
            raise InputError(f"run {name!r}: expected a posterior, got a result of {metadata(groups)['engine']}")
        said = metadata(groups)
        evidence = [said["attrs"].get(key) for key in ("log_evidence", "log_evidence_error")]
        if not all(isinstance(number, int | float) and math.isfinite(number) for number in evidence):
            given = "none" if evidence[0] is None else "{} ± {}".format(*evidence)
            raise InputError(
                f"run {name!r}: expected a log evidence with its error, got {given} from the engine {said['engine']!r}"
                f"; repeat the run with --engine {' or '.join(engines_with_evidence())}"
            )
        rows = summarize_result(groups)
        return cls(name, groups, said, rows, judge(groups, rows))

    @property
    def log_evidence(self) -> float:
        """ln Z."""
        return float(self.said["attrs"]["log_evidence"])

    @property
    def error(self) -> float:
        """The standard error of ln Z."""
        return float(self.said["attrs"]["log_evidence_error"])


@dataclass(frozen=True)
class Comparison:
    """Two models of the same data.

    Attributes:
        first, second: the runs.
        log_bayes_factor: ln Z_1 - ln Z_2; positive where the data favour the first.
        error: its standard error.
        sensitivities: how it depends on the prior of each parameter that the two do not share.
        notes: what else a reader must know.
    """

    first: Run
    second: Run
    log_bayes_factor: float
    error: float
    sensitivities: tuple[Sensitivity, ...]
    notes: tuple[str, ...]

    @property
    def trusted(self) -> bool:
        """Whether both runs are."""
        return self.first.verdict.trusted and self.second.verdict.trusted

    @property
    def probability(self) -> float:
        """Of the first model, if both had the same before the data."""
        return 1.0 / (1.0 + math.exp(-self.log_bayes_factor)) if self.log_bayes_factor > -700.0 else 0.0

    def sentence(self) -> str:
        """The Bayes factor in words."""
        size, error = abs(self.log_bayes_factor), self.error
        low, high = strength(max(size - error, 0.0)), strength(size + error)
        words = low if low == high else f"{low} to {high}"
        if size <= error:
            return f"the data prefer neither model: ln B is zero within its error ({words})"
        favoured = "first" if self.log_bayes_factor > 0.0 else "second"
        return f"evidence for the {favoured} model: {words}"


def strength(log_bayes_factor: float) -> str:
    """The words for |ln B|.

    >>> strength(0.5), strength(-4.0)
    ('not worth more than a bare mention', 'strong')
    """
    return next(words for limit, words in STRENGTHS if abs(log_bayes_factor) <= limit)


def engines_with_evidence() -> list[str]:
    """The engines whose runs can be compared."""
    return [name for name, info in ENGINES.items() if "evidence" in info.summary]


def compare(first: Run, second: Run) -> Comparison:
    """Compare two runs.

    Raises:
        InputError: runs of different data.
    """
    _require_same_data(first, second)
    sides = Side(first.groups, first.rows), Side(second.groups, second.rows)
    return Comparison(
        first,
        second,
        first.log_evidence - second.log_evidence,
        math.hypot(first.error, second.error),
        sensitivities(*sides),
        tuple(_notes(first, second)),
    )


def _require_same_data(first: Run, second: Run) -> None:
    one, other = (run.groups.get("observed_data", xr.Dataset()) for run in (first, second))
    for here, there, name in ((one, other, second.name), (other, one, first.name)):
        missing = [str(site) for site in here.data_vars if site not in there]
        if missing:
            raise _different(f"expected the same data in both runs, got {', '.join(missing)} not in {name!r}")
    for site in map(str, one.data_vars):
        shapes = one[site].shape, other[site].shape
        if shapes[0] != shapes[1]:
            raise _different(f"data {site!r}: expected one shape in both runs, got {shapes[0]} and {shapes[1]}")
        pairs = np.stack([np.ravel(one[site].values), np.ravel(other[site].values)])
        differing = np.flatnonzero(pairs[0] != pairs[1])
        if len(differing):
            example = "{:g} and {:g}".format(*pairs[:, differing[0]])
            raise _different(
                f"data {site!r}: expected the same values in both runs, got {len(differing)} of {pairs.shape[1]} that "
                f"differ, for example {example}"
            )


def _different(found: str) -> InputError:
    return InputError(
        f"{found}; evidences can be compared only if both models explain the same data: repeat a run with those of the "
        "other"
    )


def _notes(first: Run, second: Run) -> list[str]:
    notes = []
    if _identity(first) == _identity(second):
        notes.append("both runs are of the same model: ln B differs from zero by its error alone")
    for site in first.groups["observed_data"].data_vars:
        laws = [run.groups["observed_data"][site].attrs.get("distribution") for run in (first, second)]
        if laws[0] != laws[1]:
            notes.append(f"{site} is {laws[0]} in the first model and {laws[1]} in the second")
    pulls = [_sites(run, "pull") for run in (first, second)]
    for number, only in enumerate((pulls[0] - pulls[1], pulls[1] - pulls[0])):
        if only:
            which = ("first", "second")[number]
            notes.append(f"pulls only in the {which} model, left out since measured: {', '.join(sorted(only))}")
    return notes


def _identity(run: Run) -> tuple[Any, ...]:
    return tuple(str(run.said[key]) for key in ("model", "model_file", "model_sha256", "options", "fixed"))


def _sites(run: Run, kind: str) -> set[str]:
    posterior = run.groups["posterior"]
    return {str(name) for name in posterior.data_vars if posterior[name].attrs.get("kind") == kind}
