"""The checks that a posterior must pass, each with its threshold and what to do where it fails.

Thresholds on R-hat and effective draws follow Vehtari et al. (arXiv:1903.08008), that on Pareto k arXiv:1507.02646.
Nuisances, of which there may be a thousand, are held to looser ones: the worst of so many is a high quantile of the
statistic even in a perfect run.

What m islands say of a number is the variance B of their means beside that of the draws, W: m W / B effective draws,
and R-hat^2 = 1 + B / W. An estimated B scatters like chi^2 with m - 1 degrees of freedom: the greatest of K lies, by
chance alone, above

    q / (m - 1) times the truth,    q the quantile of chi^2 at (1/2)^(1/K),

half of the time (2.6 times for m = 16 and K = 1000). The thresholds of the nuisances of islands leave room for that.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import xarray as xr
from scipy.stats import chi2

from nuppl.results.summary import Summary

__all__ = ["Check", "all_checks"]

R_HAT, R_HAT_NUISANCE = 1.01, 1.05
EFFECTIVE, EFFECTIVE_NUISANCE = 400.0, 100.0
PARETO_K = 0.7
DIVERGENT = 1e-3
MEAN_SCORE = 0.2
FAILED = 1e-3
P_VALUE = 1e-3
UNCORRECTED = 0.95
APPROXIMATE = ("laplace", "svi")
"""Engines whose draws come from an approximation: only weights can say how far it holds."""


@dataclass(frozen=True)
class Check:
    """One number against its threshold."""

    name: str
    value: float
    threshold: str
    """As printed: "< 1.01"."""
    passed: bool
    advice: str
    """What a failure means and what to do, or what a pass says."""


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
    def resampled(self) -> bool:
        """Whether draws were picked by weight."""
        return "effective_draws" in self.attrs

    @property
    def islands(self) -> int:
        """The number of chains that are islands, independent runs whose draws come in no order; else 0."""
        return int(self.attrs.get("islands", 0))


def all_checks(evidence: Evidence) -> tuple[Check, ...]:
    """Every check that applies."""
    parts = (_finite, _r_hat, _effective, _divergences, _score, _pareto, _modes, _efficiency, _failures, _p_values)
    return tuple(check for part in parts for check in part(evidence))


def _finite(evidence: Evidence) -> Iterator[Check]:
    bad = [row.name for row in (*evidence.interest, *evidence.nuisance) if not math.isfinite(row.mean)]
    if bad:
        advice = f"draws of {', '.join(bad[:5])} are not finite: run nuppl check on the model"
        yield Check("parameters with NaN or infinite draws", float(len(bad)), "= 0", False, advice)


def _r_hat(evidence: Evidence) -> Iterator[Check]:
    # Batches picked from one set of proposals agree whatever they are; islands agree only where they found the same.
    if evidence.resampled and not evidence.islands:
        return
    # R-hat is the greater of two, for the place of the draws and for their width.
    room = _room(evidence.islands, 2 * len(evidence.nuisance))
    loose = math.sqrt(1.0 + (R_HAT_NUISANCE**2 - 1.0) * room)
    for name, rows, limit in (("interest", evidence.interest, R_HAT), ("nuisances", evidence.nuisance, loose)):
        if rows:
            # A number that never moved has no R-hat: it is the worst of all.
            worst = max(rows, key=lambda row: math.inf if math.isnan(row.r_hat) else row.r_hat)
            advice = (
                f"worst: {worst.name}. Above the threshold the chains disagree: run longer, or look for a second mode"
            )
            yield Check(f"R-hat, {name}", worst.r_hat, f"< {limit:.4g}", worst.r_hat < limit, advice)


def _effective(evidence: Evidence) -> Iterator[Check]:
    # The number is the least of three, for the bulk and for two tails.
    loose = EFFECTIVE_NUISANCE / _room(evidence.islands, 3 * len(evidence.nuisance))
    for name, rows, limit in (("interest", evidence.interest, EFFECTIVE), ("nuisances", evidence.nuisance, loose)):
        if rows:
            worst = min(rows, key=lambda row: _least(row))
            advice = f"worst: {worst.name} (bulk or tail). Below the threshold intervals are noisy: ask for more draws"
            if limit < EFFECTIVE_NUISANCE:
                advice += f" (the least of {len(rows)} estimates from {evidence.islands} islands is low by chance too)"
            yield Check(f"effective draws, {name}", _least(worst), f"≥ {limit:.4g}", _least(worst) >= limit, advice)


def _room(islands: int, estimates: int) -> float:
    """How far above the truth the greatest of so many estimates lies by chance; 1 where chains have an order.

    >>> [round(_room(16, n), 2) for n in (1, 1000)], _room(0, 1000)
    ([0.96, 2.58], 1.0)
    """
    if islands < 2 or not estimates:
        return 1.0
    free = islands - 1
    return float(chi2.ppf(0.5 ** (1.0 / estimates), free) / free)


def _least(row: Summary) -> float:
    least = min(row.ess_bulk, row.ess_tail)
    return 0.0 if math.isnan(least) else least


def _divergences(evidence: Evidence) -> Iterator[Check]:
    stats = evidence.groups.get("sample_stats", xr.Dataset())
    if "diverging" in stats:
        fraction = float(stats["diverging"].mean())
        advice = "divergent trajectories mean a region that the sampler cannot enter: smaller steps, or reparametrise"
        yield Check("fraction of divergences", fraction, f"≤ {DIVERGENT:g}", fraction <= DIVERGENT, advice)


def _score(evidence: Evidence) -> Iterator[Check]:
    if "mean_score" in evidence.attrs:
        score = float(evidence.attrs["mean_score"])
        advice = (
            "over a posterior the mean gradient of its log density vanishes. Above the threshold draws stop short of a "
            "region that belongs to it, such as a narrow neck: reparametrise, or ask for more particles or draws"
        )
        yield Check("mean gradient", score, f"< {MEAN_SCORE:g}", score < MEAN_SCORE, advice)


def _pareto(evidence: Evidence) -> Iterator[Check]:
    if "pareto_k" in evidence.attrs:
        k = float(evidence.attrs["pareto_k"])
        advice = "shape of the largest weights. Above the threshold the guide misses part of the posterior: use another"
        yield Check("Pareto k", k, f"< {PARETO_K:g}", k < PARETO_K, advice)
    elif evidence.engine in APPROXIMATE:
        advice = f"nothing has checked the approximation made by {evidence.engine}: use importance, or an exact engine"
        yield Check("Pareto k", math.nan, f"< {PARETO_K:g}", False, advice)


def _modes(evidence: Evidence) -> Iterator[Check]:
    if "modes_missed" in evidence.attrs:
        missed = float(evidence.attrs["modes_missed"])
        advice = "the guide stands on one mode and others hold probability: use an engine that travels between them"
        yield Check("modes seen but not covered", missed, "= 0", missed == 0, advice)
    if evidence.engine in APPROXIMATE and "efficiency" in evidence.attrs:
        efficiency = float(evidence.attrs["efficiency"])
        advice = f"draws of {evidence.engine} are not corrected by their weights: use importance, which is"
        yield Check(
            "efficiency of uncorrected draws", efficiency, f"≥ {UNCORRECTED:g}", efficiency >= UNCORRECTED, advice
        )


def _efficiency(evidence: Evidence) -> Iterator[Check]:
    if evidence.resampled:
        effective = float(evidence.attrs["effective_draws"])
        efficiency = evidence.attrs.get("efficiency")
        share = f"efficiency {100 * float(efficiency):.1f} %. " if efficiency is not None else ""
        advice = f"{share}Below the threshold few draws carry the weight: ask for more, or for a better guide"
        yield Check("effective weighted draws", effective, f"≥ {EFFECTIVE:g}", effective >= EFFECTIVE, advice)


def _failures(evidence: Evidence) -> Iterator[Check]:
    if "failures" in evidence.attrs:
        evaluated = max(float(evidence.attrs.get("proposals", evidence.draws)), 1.0)
        fraction = float(evidence.attrs["failures"]) / evaluated
        advice = "densities that were NaN count as impossible: look for the region with nuppl check"
        yield Check("fraction of NaN densities", fraction, f"≤ {FAILED:g}", fraction <= FAILED, advice)


def _p_values(evidence: Evidence) -> Iterator[Check]:
    stats = evidence.groups.get("sample_stats", xr.Dataset())
    sites = [str(name).removesuffix("_chi2_observed") for name in stats if str(name).endswith("_chi2_observed")]
    for site in sites:
        exceeds = stats[f"{site}_chi2_replicated"] >= stats[f"{site}_chi2_observed"]
        p_value = float(exceeds.mean())
        advice = "posterior predictive: near 0 the model does not describe the data, near 1 it describes them too well"
        passed = P_VALUE <= p_value <= 1.0 - P_VALUE
        yield Check(f"p-value of {site}", p_value, f"{P_VALUE:g} to {1 - P_VALUE:g}", passed, advice)
