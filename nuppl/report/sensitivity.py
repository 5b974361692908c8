"""What the answer owes to the prior of each number of interest: the draws reweighted by other priors.

With prior pi of a number x and another pi', a posterior draw counts

    w(x) = pi'(x) / pi(x),

and the weights tell how far that goes: the effective share (sum w)^2 / (n sum w^2), and the shape k of the largest
ones: above 0.7 a reweighted mean means nothing (Vehtari et al., arXiv:1507.02646). The other priors are flat in

    x,   log x,   sqrt x,   x^2,   and arcsin sqrt x:   pi'(x) ~ 1,  1/x,  1/sqrt x,  x,  1/sqrt(x (1 - x)),

those in which the whole range of the prior makes sense. The last one is Jeffreys' prior of a fraction, and where x is
the sin^2 of an angle it is flat in that angle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from nuppl.report.interest import Number, numbers
from nuppl.report.priors import Prior
from nuppl.results.draws import pareto_k
from nuppl.results.summary import ONE_SIGMA, Summary

__all__ = ["Alternative", "Reweighted", "alternatives", "reweight", "sensitivity"]

Array = NDArray[np.float64]
LONGEST_TAIL = 0.7
FEWEST = 100.0
"""Effective draws below which an interval is not given."""
RUN_AGAIN = "run with this prior to know"
SAME = 1e-9
"""Log weights that spread less than this mean that the run used this very prior."""


@dataclass(frozen=True)
class Alternative:
    """A prior to compare with, by its log density up to a constant."""

    name: str
    log_density: Callable[[Array], Array]
    suits: Callable[[Prior, str], bool]
    """Whether it makes sense, given the prior of the run and the unit."""


def _not_negative(prior: Prior, unit: str) -> bool:
    return prior.bounds[0] >= 0.0


def _fraction(prior: Prior, unit: str) -> bool:
    return prior.bounds[0] >= 0.0 and prior.bounds[1] <= 1.0 and unit == ""


ALTERNATIVES = (
    Alternative("flat in x", np.zeros_like, lambda prior, unit: True),
    Alternative("flat in log x", lambda x: -np.log(x), _not_negative),
    Alternative("flat in √x", lambda x: -0.5 * np.log(x), _not_negative),
    Alternative("flat in x²", np.log, _not_negative),
    Alternative("flat in arcsin √x", lambda x: -0.5 * np.log(x) - 0.5 * np.log1p(-x), _fraction),
)


@dataclass(frozen=True)
class Reweighted:
    """The answer under one prior. The numbers are None where the reweighting collapses; `reason` then says why.

    Attributes:
        name: of the prior.
        effective: draws left, in number.
        moved: how far the mean moved, in standard deviations of the run.
    """

    name: str
    effective: float
    mean: float | None = None
    sd: float | None = None
    median: float | None = None
    lower: float | None = None
    upper: float | None = None
    moved: float | None = None
    reason: str = ""


def sensitivity(
    groups: Mapping[str, xr.Dataset], interest: Sequence[str], rows: Sequence[Summary]
) -> list[tuple[Number, list[Reweighted]]]:
    """For each number of interest whose prior is known: the run itself, then each other prior that makes sense."""
    effective = {(row.site, tuple(map(str, row.entry))): min(row.ess_bulk, row.ess_tail) for row in rows}
    found = []
    for number in numbers(groups, interest):
        draws = effective.get((number.site, number.entry), float(number.values.size))
        before = number.prior.density(number.values)
        if before is not None and (before > 0.0).all():
            found.append((number, list(_each(number, np.log(before), float(np.nan_to_num(draws))))))
    return found


def alternatives(number: Number) -> tuple[Alternative, ...]:
    """The priors that make sense for a number."""
    unit = str(number.attrs.get("unit", ""))
    return tuple(alternative for alternative in ALTERNATIVES if alternative.suits(number.prior, unit))


def _each(number: Number, before: Array, draws: float) -> Iterator[Reweighted]:
    values = number.values
    yield reweight(f"{number.prior.words()}, as run", values, np.zeros_like(values), draws)
    for alternative in alternatives(number):
        with np.errstate(divide="ignore"):
            weights = alternative.log_density(values) - before
        if not np.ptp(weights) < SAME:
            yield reweight(alternative.name, values, weights, draws)


def reweight(name: str, values: Array, log_weights: Array, draws: float) -> Reweighted:
    """Mean and interval of weighted draws, or the reason why there are none.

    Arguments:
        values: with shape (n,).
        log_weights: with shape (n,), up to a constant.
        draws: the effective number of draws before the reweighting.
    """
    if not np.isfinite(log_weights.max()):
        return Reweighted(name, 0.0, reason=f"draws lie where this prior is infinite: {RUN_AGAIN}")
    weights = np.exp(log_weights - log_weights.max())
    weights /= weights.sum()
    effective = draws / (float(np.square(weights).sum()) * len(values))
    k = pareto_k(torch.from_numpy(log_weights))
    if k > LONGEST_TAIL:
        return Reweighted(name, effective, reason=f"a few draws carry the weight (Pareto k {k:.2f}): {RUN_AGAIN}")
    if effective < FEWEST:
        return Reweighted(name, effective, reason=f"only {effective:.0f} effective draws are left: {RUN_AGAIN}")
    mean = float(weights @ values)
    sd = float(np.sqrt(weights @ np.square(values - mean)))
    median, lower, upper = _quantiles(values, weights, (0.5, *ONE_SIGMA))
    width = float(values.std())
    moved = (mean - float(values.mean())) / width if width > 0.0 else 0.0
    return Reweighted(name, effective, mean, sd, median, lower, upper, moved)


def _quantiles(values: Array, weights: Array, at: tuple[float, ...]) -> list[float]:
    order = np.argsort(values, kind="stable")
    # Each draw stands for the middle of its share of the probability.
    below = np.cumsum(weights[order]) - 0.5 * weights[order]
    return [float(q) for q in np.interp(at, below, values[order])]
