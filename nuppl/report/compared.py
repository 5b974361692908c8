"""Results that are laid side by side: posteriors and scans of one model, the same data and the same parameters."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nuppl.diagnostics.verdict import Verdict, judge
from nuppl.errors import InputError
from nuppl.report.interest import Number, numbers
from nuppl.results.metadata import metadata
from nuppl.results.scan_cls import statistic_of
from nuppl.results.scan_more import null_of, truth_of
from nuppl.results.summary import summarize_result

__all__ = ["Compared", "Confidence", "Posterior", "gathered"]

Array = NDArray[np.float64]
LEVELS = (0.6827, 0.90, 0.95)
"""Where no scan says which."""


@dataclass(frozen=True, eq=False)
class Posterior:
    """One run.

    Attributes:
        name: as the user gave it.
        said: what its result says of itself.
        groups: of its result.
        verdict: whether to trust it.
        numbers: the compared parameters by name.
    """

    name: str
    said: Mapping[str, Any]
    groups: Mapping[str, xr.Dataset]
    verdict: Verdict
    numbers: Mapping[str, Number]

    @property
    def log_evidence(self) -> tuple[float, float] | None:
        """ln Z and its error, where the engine gives them."""
        found = [self.said["attrs"].get(name) for name in ("log_evidence", "log_evidence_error")]
        good = all(isinstance(each, int | float) and math.isfinite(each) for each in found)
        return (float(found[0]), float(found[1])) if good else None


@dataclass(frozen=True, eq=False)
class Confidence:
    """One scan.

    Attributes:
        name: as the user gave it.
        said: what its result says of itself.
        scan: the group, its grid in the order of the compared parameters.
        parameters: which those are.
    """

    name: str
    said: Mapping[str, Any]
    scan: xr.Dataset
    parameters: tuple[str, ...]

    @property
    def log(self) -> tuple[bool, ...]:
        """Of each parameter, whether its values are spaced in the logarithm."""
        said = json.loads(self.scan.attrs["log"])
        return tuple(name in said for name in self.parameters)

    @property
    def axes(self) -> tuple[Array, ...]:
        """The values of each parameter."""
        return tuple(np.asarray(self.scan[name].values, dtype=float) for name in self.parameters)

    @property
    def statistic(self) -> Array:
        """t on the grid; large where a fit failed."""
        found: Array = np.nan_to_num(np.asarray(self.scan["statistic"].values, dtype=float), nan=1e9, posinf=1e9)
        return found

    @property
    def best(self) -> dict[str, float]:
        """The best fit."""
        return {name: float(value) for name, value in json.loads(self.scan.attrs["best"]).items()}

    @property
    def statistic_name(self) -> str:
        """Of the test statistic."""
        return statistic_of(self.scan)

    @property
    def null(self) -> dict[str, Any] | None:
        """The hypothesis that was tested, if one was."""
        return null_of(self.scan)

    @property
    def truth(self) -> dict[str, Any] | None:
        """The point of the sensitivity, where there is one."""
        return truth_of(self.scan)

    def kinds(self) -> tuple[str, ...]:
        """Where critical values come from: Wilks' theorem where it speaks of the statistic, and toys, if there are any.

        Those of toys are "toys" of each point, or "learned" from the toys of all; statistics other than the likelihood
        ratio may have "asymptotic" ones.
        """
        wilks = ("Wilks",) if "wilks" in self.scan else ()
        if "toys" in self.scan:
            return (*wilks, str(self.scan.attrs.get("critical", "toys")))
        return wilks or ("asymptotic",)

    def critical(self, kind: str, level: float) -> Array:
        """Critical values on the grid."""
        number = self.level(level)
        if kind == "Wilks":
            return np.full(self.statistic.shape, float(self.scan["wilks"].values[number]))
        return np.asarray(self.scan["critical"].values[number], dtype=float)

    def top(self) -> float:
        """The largest critical value."""
        return float(np.nanmax(self.scan["wilks" if "wilks" in self.scan else "critical"].values))

    def level(self, level: float) -> int:
        """The number of a level."""
        return int(np.abs(self.scan["level"].values - level).argmin())


@dataclass(frozen=True, eq=False)
class Compared:
    """Results that can be compared.

    Attributes:
        parameters: K names.
        levels: ascending.
        posteriors: of runs.
        scans: of scans.
    """

    parameters: tuple[str, ...]
    levels: tuple[float, ...]
    posteriors: tuple[Posterior, ...]
    scans: tuple[Confidence, ...]

    @cached_property
    def said(self) -> Mapping[str, Any]:
        """What the first result says of itself."""
        return self.posteriors[0].said if self.posteriors else self.scans[0].said

    @property
    def blind(self) -> str:
        """Which data took the place of the real ones; "" for none."""
        return str(self.said["blind"])

    def attrs(self, name: str) -> Mapping[str, Any]:
        """Unit and label of a parameter."""
        return self.scans[0].scan[name].attrs if self.scans else self.posteriors[0].numbers[name].attrs

    def is_log(self, name: str) -> bool:
        """Whether axes of a parameter are logarithmic: as scans have it, or as the prior is flat."""
        place = self.parameters.index(name)
        if self.scans:
            return self.scans[0].log[place]
        return all(run.numbers[name].prior.is_log for run in self.posteriors)


def gathered(results: Sequence[tuple[str, Mapping[str, xr.Dataset]]]) -> Compared:
    """Results by the name that the user gave.

    Raises:
        InputError: too few, one that is neither posterior nor scan, or results that cannot be compared.
    """
    if len(results) < 2:
        raise InputError(f"compare: expected two results or more, runs or scans, got {len(results)}")
    said = {name: metadata(groups) for name, groups in results}
    if len(said) < len(results):
        raise InputError("compare: expected different results, got one of them twice")
    for name, groups in results:
        if "posterior" not in groups and "scan" not in groups:
            raise InputError(f"compare {name!r}: expected a run or a scan, got a result of {said[name]['engine']}")
    _require_same(said)
    parameters = _parameters(results, said)
    scans = tuple(_confidences(results, said, parameters))
    levels = _levels(scans)
    return Compared(parameters, levels, tuple(_posteriors(results, said, parameters)), scans)


def _require_same(said: Mapping[str, Mapping[str, Any]]) -> None:
    """One model, one set of options, one set of data."""
    (first, here), *others = said.items()
    for name, there in others:
        for key, what in (("model", "model"), ("options", "options"), ("fixed", "held sites")):
            if here[key] != there[key]:
                raise _different(what, first, name, _shown(here[key]), _shown(there[key]))
        if here["model_sha256"] != there["model_sha256"]:
            raise _different("model file", first, name, here["model_sha256"][:12], there["model_sha256"][:12])
        if here["blind"] != there["blind"]:
            raise _different("data", first, name, here["blind"] or "the real ones", there["blind"] or "the real ones")
        if here["data_sha256"] != there["data_sha256"]:
            hashes = [each["data_sha256"][:12] or "unknown" for each in (here, there)]
            raise _different("data", first, name, *hashes)


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}={each}" for name, each in value.items()) or "none"
    return str(value)


def _different(what: str, first: str, second: str, here: str, there: str) -> InputError:
    return InputError(
        f"compare: expected the same {what} in all results, got {here} in {first!r} and {there} in {second!r}; repeat "
        "one of them with what the other has"
    )


def _parameters(
    results: Sequence[tuple[str, Mapping[str, xr.Dataset]]], said: Mapping[str, Mapping[str, Any]]
) -> tuple[str, ...]:
    scanned = [(name, json.loads(groups["scan"].attrs["parameters"])) for name, groups in results if "scan" in groups]
    if not scanned:
        name, groups = results[0]
        return tuple(site for site in said[name]["interest"] if groups["posterior"][site].ndim == 2)
    first, parameters = scanned[0]
    for name, others in scanned[1:]:
        if set(others) != set(parameters):
            raise _different("scanned parameters", first, name, ", ".join(parameters), ", ".join(others))
    return tuple(parameters)


def _posteriors(
    results: Sequence[tuple[str, Mapping[str, xr.Dataset]]],
    said: Mapping[str, Mapping[str, Any]],
    parameters: tuple[str, ...],
) -> Iterator[Posterior]:
    for name, groups in results:
        if "posterior" not in groups:
            continue
        missing = [each for each in parameters if each not in groups["posterior"]]
        if missing:
            raise InputError(
                f"compare {name!r}: expected draws of {', '.join(parameters)}, got none of {', '.join(missing)}; is it "
                "held there? A run of the null hypothesis belongs to --against"
            )
        found = {number.site: number for number in numbers(groups, parameters)}
        yield Posterior(name, said[name], groups, judge(groups, summarize_result(groups)), found)


def _confidences(
    results: Sequence[tuple[str, Mapping[str, xr.Dataset]]],
    said: Mapping[str, Mapping[str, Any]],
    parameters: tuple[str, ...],
) -> Iterator[Confidence]:
    for name, groups in results:
        if "scan" in groups:
            scan = groups["scan"]
            scan = scan.transpose(*(d for d in ("level", "experiment") if d in scan.dims), *parameters, ...)
            yield Confidence(name, said[name], scan, parameters)


def _levels(scans: Sequence[Confidence]) -> tuple[float, ...]:
    if not scans:
        return LEVELS
    common = [{round(float(level), 6) for level in each.scan["level"].values} for each in scans]
    found = sorted(set.intersection(*common))
    if not found:
        raise InputError(
            "compare: expected scans with a confidence level in common, got none; repeat one with --levels"
        )
    return tuple(found)
