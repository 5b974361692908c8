"""How an evidence depends on the range of a prior.

Let a flat prior of width w become one of width 2 w, carried on beyond one end. With pi the prior of one parameter, L
its marginal likelihood and r = L(end) / Z, the ratio of posterior to prior density at that end,

    Z' / Z = 1/2 + 1/2 int_beyond L pi / Z dx,   hence   -ln 2 <= ln Z' - ln Z <= ln((1 + r) / 2),

the lower limit always, the upper one if beyond the end the likelihood is nowhere higher than at it. Where the
posterior vanishes at the end, r = 0 and both agree. A LogUniform is flat in the logarithm. A Normal of twice the width
reweights the draws: Z' / Z = E[pi'(x) / pi(x)] over the posterior.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr
from scipy.stats import chi2

from nuppl.diagnostics.priors import Array, Entry, Prior, parameters
from nuppl.results.draws import pareto_k
from nuppl.results.metadata import metadata
from nuppl.results.summary import Summary

__all__ = ["End", "Sensitivity", "Side", "sensitivities"]

TAIL = 0.01
"""The outermost part of the prior's probability that is looked at."""
VANISHES = 0.1
"""The posterior vanishes at an end if its share of that part is below this times the prior's."""
LAYERS = (1e-2, 1e-3, 1e-4, 1e-5)
FEWEST = 20.0
"""A thinner layer is believed if as many effective draws lie in it."""
LONGEST_TAIL = 0.5
"""Pareto k up to which the mean of the reweighted draws has a variance."""


class Side(NamedTuple):
    """One of two runs."""

    groups: Mapping[str, xr.Dataset]
    rows: Sequence[Summary]


@dataclass(frozen=True)
class End:
    """One end of a prior.

    Attributes:
        name: "lower" or "upper".
        bound: where it lies; None where the prior has no bound there.
        share: the part of the posterior in the outermost 1 % of the prior's probability.
        vanishes: whether the posterior does there.
        change: the lowest and highest change of ln B if the range were twice as wide, carried on beyond this end, and
            the likelihood nowhere higher there; None where that cannot be said.
    """

    name: str
    bound: float | None
    share: float
    vanishes: bool
    change: tuple[float, float] | None


@dataclass(frozen=True)
class Sensitivity:
    """One number whose prior the two models do not share.

    Attributes:
        name: of the parameter, with its entry.
        run: 1 or 2, the run whose prior it is.
        reason: why it matters, in words.
        prior: in words.
        fill: the part of the prior's probability between the posterior's 2.5 % and 97.5 % quantiles.
        ends: the lower and the upper one.
        widened: the change of ln B with a Normal of twice the width, and its error; None for other priors, and where
            the draws cannot tell.
    """

    name: str
    run: int
    reason: str
    prior: str
    fill: float
    ends: tuple[End, End]
    widened: tuple[float, float] | None


def sensitivities(first: Side, second: Side) -> tuple[Sensitivity, ...]:
    """One row for each number that only one model has as a parameter, or whose prior differs; pulls are left out."""
    entries = [parameters(side.groups, side.rows) for side in (first, second)]
    found: list[Sensitivity] = []
    for number, (mine, theirs, other) in enumerate(((entries[0], entries[1], second), (entries[1], entries[0], first))):
        held = metadata(other.groups)["fixed"]
        for name, entry in mine.items():
            reason = _reason(entry, theirs.get(name), held)
            if reason:
                found.append(_sensitivity(entry, number + 1, reason))
    return tuple(found)


def _reason(entry: Entry, theirs: Entry | None, held: Mapping[str, Any]) -> str:
    if theirs is not None:
        mine, other = entry.prior, theirs.prior
        same = (mine.family, mine.bounds, mine.arguments) == (other.family, other.bounds, other.arguments)
        return "" if same else f"{other.words()} in the other model"
    if entry.row.site in held:
        return f"held at {np.ravel(held[entry.row.site])[entry.number]:g} in the other model"
    return "only in this model"


def _sensitivity(entry: Entry, run: int, reason: str) -> Sensitivity:
    row, prior = entry.row, entry.prior
    draws = entry.draws()
    effective = max(min(row.ess_bulk, row.ess_tail), 1.0)
    sign = 1.0 if run == 1 else -1.0
    fill = float(np.diff(prior.cdf(np.quantile(draws, (0.025, 0.975))))[0])
    lower, upper = _ends(prior, prior.cdf(draws), effective, sign)
    widened = _widened(prior, draws, effective, sign) if prior.is_normal else None
    return Sensitivity(row.name, run, reason, prior.words(), fill, (lower, upper), widened)


def _ends(prior: Prior, below: Array, effective: float, sign: float) -> Iterator[End]:
    for name, bound, depth in zip(("lower", "upper"), prior.bounds, (below, 1.0 - below), strict=True):
        share = float((depth < TAIL).mean())
        change = None
        if prior.is_flat:
            limits = (-math.log(2.0) * sign, sign * math.log(0.5 + 0.5 * _density_limit(depth, effective)))
            change = (min(limits), max(limits))
        yield End(name, bound, share, share < VANISHES * TAIL, change)


def _density_limit(depth: Array, effective: float) -> float:
    """Posterior over prior density at an end, at most (95 %): the outermost layers in which enough draws lie."""
    found: list[float] = []
    for layer in LAYERS:
        count = float((depth < layer).mean()) * effective
        if found and count < FEWEST:
            break
        # Poisson: the mean that gives as few as `count` with a probability of 5 %.
        found.append(0.5 * float(chi2.ppf(0.95, 2.0 * (count + 1.0))) / effective / layer)
    return max(found)


def _widened(prior: Prior, draws: Array, effective: float, sign: float) -> tuple[float, float] | None:
    """The change of ln B with a Normal of twice the width, by reweighting the posterior, and its error.

    None where a few draws in the prior's tails decide: there the posterior is hardly narrower than the prior.
    """
    z = (draws - prior.arguments["loc"]) / prior.arguments["scale"]
    log_ratio = 0.375 * z * z - math.log(2.0)
    if pareto_k(torch.from_numpy(log_ratio)) > LONGEST_TAIL:
        return None
    ratio = np.exp(log_ratio)
    mean = float(ratio.mean())
    return sign * math.log(mean), float(ratio.std()) / mean / math.sqrt(effective)
