"""Checks of draws as chains or islands: finite, in agreement, enough, and nowhere stopped short.

Thresholds on R-hat and effective draws follow Vehtari et al. (arXiv:1903.08008). Nuisances, of which there may be a
thousand, are held to looser ones: the worst of so many is a high quantile of the statistic even in a perfect run.

What m islands say of a number is the variance B of their means beside that of the draws, W: m W / B effective draws,
and R-hat^2 = 1 + B / W. An estimated B scatters like chi^2 with m - 1 degrees of freedom: the greatest of K lies, by
chance alone, above

    q / (m - 1) times the truth,    q the quantile of chi^2 at (1/2)^(1/K),

half of the time (2.6 times for m = 16 and K = 1000). The thresholds of the nuisances of islands leave room for that.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from scipy.stats import chi2

from nuppl.diagnostics.checks import Check, Evidence
from nuppl.results.summary import Summary

__all__ = ["divergences", "effective_draws", "finite_draws", "mean_gradient", "r_hat"]

R_HAT, R_HAT_NUISANCE = 1.01, 1.05
EFFECTIVE, EFFECTIVE_NUISANCE = 400.0, 100.0
DIVERGENT = 1e-3
MEAN_SCORE = 0.2


def finite_draws(evidence: Evidence) -> Iterator[Check]:
    """No draw is NaN or infinite. A check only where it fails."""
    bad = [row.name for row in (*evidence.interest, *evidence.nuisance) if not math.isfinite(row.mean)]
    if bad:
        advice = f"draws of {', '.join(bad[:5])} are not finite: run nuppl check on the model"
        name = "parameters with NaN or infinite draws"
        yield Check(name, float(len(bad)), "= 0", False, advice, anchor="finite-draws")


def r_hat(evidence: Evidence) -> Iterator[Check]:
    """Chains, or islands, agree on where the posterior lies and how wide it is."""
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
            passed = worst.r_hat < limit
            yield Check(f"R-hat, {name}", worst.r_hat, f"< {limit:.4g}", passed, advice, anchor="r-hat")


def effective_draws(evidence: Evidence) -> Iterator[Check]:
    """Draws are worth enough independent ones, in the bulk and in the tails."""
    # The number is the least of three, for the bulk and for two tails.
    loose = EFFECTIVE_NUISANCE / _room(evidence.islands, 3 * len(evidence.nuisance))
    for name, rows, limit in (("interest", evidence.interest, EFFECTIVE), ("nuisances", evidence.nuisance, loose)):
        if rows:
            worst = min(rows, key=_least)
            least, part = _least(worst), "bulk" if worst.ess_bulk <= worst.ess_tail else "tails"
            advice = f"worst: {worst.name}, in its {part}. Below the threshold intervals are noisy: ask for more draws"
            if limit < EFFECTIVE_NUISANCE:
                advice += f" (the least of {len(rows)} estimates from {evidence.islands} islands is low by chance too)"
            passed = least >= limit
            yield Check(f"effective draws, {name}", least, f"≥ {limit:.4g}", passed, advice, anchor="effective-draws")


def divergences(evidence: Evidence) -> Iterator[Check]:
    """Few trajectories left the region where their steps are fine enough."""
    if "diverging" in evidence.stats:
        fraction = float(evidence.stats["diverging"].mean())
        advice = "divergent trajectories mean a region that the sampler cannot enter: smaller steps, or reparametrise"
        passed = fraction <= DIVERGENT
        yield Check("fraction of divergences", fraction, f"≤ {DIVERGENT:g}", passed, advice, anchor="divergences")


def mean_gradient(evidence: Evidence) -> Iterator[Check]:
    """Stein's identity: over a posterior the gradient of its log density averages to zero."""
    if "mean_score" in evidence.attrs:
        score = evidence.number("mean_score")
        advice = (
            "over a posterior the mean gradient of its log density vanishes. Above the threshold draws stop short of a "
            "region that belongs to it, such as a narrow neck: reparametrise, or ask for more particles or draws"
        )
        yield Check("mean gradient", score, f"< {MEAN_SCORE:g}", score < MEAN_SCORE, advice, anchor="mean-gradient")


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
