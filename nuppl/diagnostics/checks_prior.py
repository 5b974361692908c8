"""Checks of the parameters of interest against their priors: cautions, since the posterior itself is right.

Pile-up compares the density of the posterior at a bound with its greatest, both in strips of a quarter of the 68 %
interval: for a normal density 0.2 is a bound two deviations from the mean, where the 95 % interval is cut.

Dominance is the smallest part of the prior's probability, in tenths, that holds 68 % of the posterior: 0.68 where the
data say nothing, however many modes there are. A normal prior of width 1 that becomes a posterior of width w about its
centre gives erf(w / sqrt(2)); at w = 1 / sqrt(2) prior and data say equally much.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from nuppl.diagnostics.checks import Check, Evidence
from nuppl.diagnostics.priors import Array, Entry, parameters
from nuppl.results.summary import ONE_SIGMA

__all__ = ["boundary_pile_up", "prior_dominance"]

STRIP, PILED_UP = 0.25, 0.2
TENTHS, DOMINATED = 10, math.erf(0.5)


class Worst(NamedTuple):
    """The number that is worst off."""

    value: float
    what: str


def boundary_pile_up(evidence: Evidence) -> Iterator[Check]:
    """The posterior of the interest falls off before it meets a bound of its prior."""
    found = [worst for entry in _entries(evidence) for worst in _at_ends(entry)]
    if found:
        worst = max(found)
        advice = (
            f"worst: {worst.what}. Above the threshold the posterior has not fallen off at a bound of its prior: quote "
            "a limit instead of an interval, whose coverage differs there; and say what the bound is, or move it"
        )
        name, passed = "boundary pile-up, interest", worst.value < PILED_UP
        yield Check(name, worst.value, f"< {PILED_UP:g}", passed, advice, anchor="boundary-pile-up", serious=False)


def prior_dominance(evidence: Evidence) -> Iterator[Check]:
    """The data narrow the prior of the interest."""
    found = [Worst(_share_of_prior(entry), entry.row.name) for entry in _entries(evidence) if entry.prior.is_known]
    if found:
        worst = max(found)
        advice = (
            f"part of the prior that holds 68 % of the posterior; worst: {worst.what}. Above the threshold the prior "
            "says more than the data: another prior gives another answer, so state it, and compare"
        )
        name, passed = "prior dominance, interest", worst.value < DOMINATED
        yield Check(name, worst.value, f"< {DOMINATED:.2g}", passed, advice, anchor="prior-dominance", serious=False)


def _entries(evidence: Evidence) -> list[Entry]:
    """Entries of the interest that are parameters, and that other checks do not already find broken."""
    entries = parameters(evidence.groups, evidence.interest).values()
    return [entry for entry in entries if math.isfinite(entry.row.mean) and entry.row.upper > entry.row.lower]


def _at_ends(entry: Entry) -> Iterator[Worst]:
    bounds = entry.prior.ends
    if bounds == (None, None):
        return
    z = np.sort(entry.prior.natural(entry.draws()))
    strip = STRIP * float(np.diff(np.quantile(z, ONE_SIGMA))[0])
    most = _most_in(z, strip)
    for name, bound, sign in zip(("lower", "upper"), bounds, (1.0, -1.0), strict=True):
        if bound is not None:
            edge = float(entry.prior.natural(np.asarray(bound)))
            count = int((sign * (z - edge) <= strip).sum())
            yield Worst(count / most, f"{entry.row.name} at its {name} bound {bound:g}")


def _most_in(z: Array, strip: float) -> int:
    """The most of sorted numbers that any strip of that width holds.

    >>> _most_in(np.asarray([0.0, 1.0, 1.1, 1.2, 3.0]), 0.2)
    3
    """
    return int((np.searchsorted(z, z + strip * (1.0 + 1e-9), side="right") - np.arange(len(z))).max())


def _share_of_prior(entry: Entry) -> float:
    """Fullest tenths first, and of the last one as much as is needed."""
    below = np.clip(entry.prior.cdf(entry.draws()), 0.0, 1.0)
    full = np.sort(np.histogram(below, TENTHS, (0.0, 1.0))[0])[::-1]
    held = np.concatenate([[0.0], full.cumsum() / max(full.sum(), 1)])
    return float(np.interp(ONE_SIGMA[1] - ONE_SIGMA[0], held, np.arange(TENTHS + 1) / TENTHS))
