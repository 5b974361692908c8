"""Checks of calibration, where `nuppl calibrate` was run: one for each of its tests, and their false alarms.

Each of five tests (ranks, coverage, TARP, local, observed) has a fifth of one per cent; the ranks of k quantities share
theirs (Bonferroni). So a method that is right fails with a probability of at most 1 %.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nuppl.diagnostics.checks import Check, Evidence
from nuppl.results.calibration import FALSE_ALARM, TESTS, check_calibration

__all__ = ["LEVEL", "calibration", "calibration_checks", "shape"]

LEVEL = FALSE_ALARM / len(TESTS)
"""The p-value below which a test fails."""
FAILED = 0.01

_WORDS = {"ranks": "ranks", "coverage": "coverage", "TARP": "TARP", "local": "local classifier"}


def calibration(evidence: Evidence) -> Iterator[Check]:
    """Posteriors of simulated data sets hold the truth as often as they say.

    Of a run whose draws were weighted, a network that fails by itself is a caution: the weights correct it.
    """
    if "calibration" in evidence.groups:
        yield from calibration_checks(evidence.groups["calibration"], "pareto_k" in evidence.attrs)


def calibration_checks(group: xr.Dataset, weighted: bool = False) -> Iterator[Check]:
    """The checks of a group `calibration`.

    Arguments:
        weighted: whether the draws of the run are those of a network corrected by weights.

    Raises:
        InputError: a group that nuppl did not write.
    """
    check_calibration(group)
    for number, name in enumerate(map(str, group["method"].values)):
        found, alone = group.isel(method=number), weighted and name == "network"
        for test in ("ranks", "coverage", "TARP"):
            known = found.isel(quantity=(found["test"].values == test) & found["p_value"].notnull().values)
            if known.sizes["quantity"]:
                yield _uniform(name, test, known, not alone)
        yield _check(name, "local", float(found["local_p"]), _local_advice(name), not alone)
        yield from _complete(name, found, not alone)
    yield _observed(float(group["observed_p"]))


def _uniform(method: str, test: str, found: xr.Dataset, serious: bool) -> Check:
    p_values = found["p_value"].values
    worst = int(p_values.argmin())
    named = str(found["quantity"].values[worst])
    value = min(1.0, len(p_values) * float(p_values[worst]))
    ranks = found["rank"].values[worst]
    says = shape(ranks[ranks >= 0], int(found["among"].values[worst]), test)
    where = f"worst: {named}, whose ranks look {says}. " if test == "ranks" else f"the ranks look {says}. "
    return _check(method, test, value, where + _remedy(method), serious)


def _check(method: str, test: str, p_value: float, advice: str, serious: bool) -> Check:
    passed = p_value >= LEVEL
    name = f"{_WORDS[test]} of {method}, p-value"
    if passed:
        advice = f"the truth of simulated data sets does not stand out from the draws of {method}"
    elif not serious:
        advice += "; the draws of this run were weighted, which corrects the network: --weighted tests them"
    return Check(name, p_value, f"≥ {LEVEL:g}", passed, advice, anchor="calibration", serious=serious)


def _remedy(method: str) -> str:
    if method == "network":
        return "Below the threshold the network is not calibrated: ask for more simulations, or an ensemble"
    return f"Below the threshold the posteriors of {method} are wrong: look at its other checks, or use another engine"


def _local_advice(method: str) -> str:
    return "at the observed data a classifier tells the truth from draws. " + _remedy(method)


def _complete(method: str, found: xr.Dataset, serious: bool) -> Iterator[Check]:
    """Nearly all data sets had a posterior. A check only where some had none."""
    failed = int(found["failed"])
    if failed:
        share = failed / (failed + int(found["datasets"]))
        advice = "tests cannot see data sets that the engine refuses: look for the reason by nuppl infer on such data"
        name, passed = f"data sets without a posterior of {method}", share <= FAILED
        yield Check(name, share, f"≤ {FAILED:g}", passed, advice, anchor="calibration", serious=serious)


def _observed(p_value: float) -> Check:
    passed = p_value >= LEVEL
    advice = (
        "the observed data lie among simulated ones"
        if passed
        else "the observed data are unlike any simulated ones: nothing that was learned or tested on simulations holds "
        "for them. Mend the model, or widen its priors"
    )
    name = "observed data among simulated, p-value"
    return Check(name, p_value, f"≥ {LEVEL:g}", passed, advice, anchor="observed-data-among-simulated")


def shape(ranks: NDArray[Any], draws: int, test: str) -> str:
    """What ranks among so many draws look like, in words.

    >>> shape(np.array([0, 0, 9, 9, 0, 9]), 9, "ranks"), shape(np.array([8, 9, 7, 9]), 9, "ranks")
    ('too narrow', 'too low')
    >>> shape(np.array([8, 9, 7, 9]), 9, "coverage")
    'too narrow'
    """
    off = (ranks + 0.5) / (draws + 1.0) - 0.5
    side = float(off.mean()) * np.sqrt(12.0 * len(off))
    spread = float((np.square(off) - 1.0 / 12.0).mean()) * np.sqrt(180.0 * len(off))
    if test == "coverage":
        return "too narrow" if side > 0 else "too wide"
    if test == "TARP":
        return "off the truth"
    if abs(spread) > abs(side):
        return "too narrow" if spread > 0 else "too wide"
    return "too low" if side > 0 else "too high"
