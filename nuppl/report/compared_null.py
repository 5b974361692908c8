"""A null hypothesis in both readings: the p-value of scans beside the Bayes factor of runs.

The Bayes factor comes from a run of the null hypothesis, B = Z_null / Z, or from the density of a run at the null value
of one parameter (Dickey, Ann. Math. Stat. 42 (1971) 204; the priors of the rest must be the same under both),

    B = p(theta_0 | x) / pi(theta_0).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr
from scipy.stats import chi2

from nuppl.diagnostics.evidence import SCALE, Run, compare, strength
from nuppl.report.compared import Compared, Posterior
from nuppl.report.density import density_1d

__all__ = ["BayesFactor", "Tested", "bayes_factors", "tested"]


@dataclass(frozen=True)
class Tested:
    """The null hypothesis of a scan.

    Attributes:
        scan: its name.
        values: what the hypothesis holds.
        statistic: t_0.
        wilks: the p-value of Wilks' theorem for `parameters` degrees of freedom.
        p_value, error: from toys; None where there are none.
        toys: how many.
    """

    scan: str
    values: Mapping[str, float]
    statistic: float
    wilks: float
    parameters: int
    p_value: float | None
    error: float | None
    toys: int

    @property
    def deviations(self) -> float:
        """The p-value in standard deviations of a Gaussian, both tails."""
        return math.sqrt(float(chi2.isf(self.wilks if self.p_value is None else self.p_value, 1)))


@dataclass(frozen=True)
class BayesFactor:
    """For the null hypothesis: ln B above zero favours it.

    Attributes:
        run: its name.
        how: "evidence" of two runs, or "density" at the null value.
        log: ln B.
        error: its standard error.
        words: after Kass and Raftery.
        notes: what a reader must know.
    """

    run: str
    how: str
    log: float
    error: float
    words: str
    notes: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """In words."""
        return f"{self.words}, {'for' if self.log > 0.0 else 'against'} the null hypothesis ({SCALE})"


def tested(compared: Compared) -> Iterator[Tested]:
    """The hypotheses of the scans."""
    for scan in compared.scans:
        said = scan.null
        if said is not None:
            p, error = said.get("p_value"), said.get("p_value_error")
            count, wilks = int(said["parameters"]), float(said["wilks_p_value"])
            yield Tested(
                scan.name, said["values"], float(said["statistic"]), wilks, count, p, error, int(said.get("toys", 0))
            )


def bayes_factors(compared: Compared, against: tuple[str, Mapping[str, xr.Dataset]] | None) -> Iterator[BayesFactor]:
    """Of every run, from a run of the null hypothesis and from its own density there.

    Raises:
        InputError: the run of the null hypothesis has other data, or no evidence.
    """
    null = None if against is None else Run.from_groups(*against)
    values = [scan.null["values"] for scan in compared.scans if scan.null]
    for run in compared.posteriors:
        if null is not None and run.log_evidence is not None:
            found = compare(null, Run.from_groups(run.name, run.groups))
            notes = [*found.notes, *_untrusted(null)]
            yield BayesFactor(
                run.name,
                "evidence",
                found.log_bayes_factor,
                found.error,
                strength(found.log_bayes_factor),
                tuple(notes),
            )
        factor = _density(run, values[0]) if values else None
        if factor is not None:
            yield factor


def _untrusted(run: Run) -> list[str]:
    return [] if run.verdict.trusted else [f"{run.name}: {run.verdict.sentence()}"]


def _density(run: Posterior, held: Mapping[str, float]) -> BayesFactor | None:
    """From the density at the null value, each chain by itself for the error."""
    if len(held) != 1 or not set(held) <= set(run.numbers):
        return None
    ((name, value),) = held.items()
    number = run.numbers[name]
    prior = number.prior.density(np.array([value]))
    if prior is None or not prior[0] > 0.0:
        return None
    heights = []
    for chain in number.draws:
        grid, density = density_1d(np.asarray(chain, dtype=float), number.bounds, 1024)
        near = abs(value - np.clip(value, grid[0], grid[-1])) <= grid[1] - grid[0]
        heights.append(float(np.interp(value, grid, density)) if near else 0.0)
    mean = float(np.mean(heights))
    if mean <= 0.0:
        return None
    error = float(np.std(heights, ddof=1)) / mean / math.sqrt(len(heights)) if len(heights) > 1 else math.nan
    log = math.log(mean / float(prior[0]))
    note = "from the density of the draws, smoothed, if the priors of the rest are the same under both"
    return BayesFactor(run.name, "density", log, error, strength(log), (note,))
