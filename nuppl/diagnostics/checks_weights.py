"""Checks of weights and evidence: what the guide, the islands or the search for modes say about what was missed.

The threshold on Pareto k follows Vehtari et al. (arXiv:1507.02646). The evidences Z of m islands, each an unbiased
estimate, have a relative deviation s = error of ln Z times sqrt(m), and make up an evidence worth m / (1 + s^2) of
them, half at s = 1. Draws need not differ for that: moves at the last temperature may have forgotten it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from nuppl.diagnostics.checks import Check, Evidence

__all__ = [
    "evidence_error",
    "failed_densities",
    "island_spread",
    "learned_density",
    "modes_missed",
    "pareto_k",
    "unchecked_network",
    "uncorrected_draws",
    "weighted_draws",
]

PARETO_K = 0.7
EFFECTIVE = 400.0
UNCORRECTED = 0.95
FAILED = 1e-3
SPREAD = 1.0
EVIDENCE_ERROR = 0.2
APPROXIMATE = ("laplace", "svi")
"""Engines whose draws come from an approximation: only weights can say how far it holds."""
LEARNED = ("bnre", "fmpe", "nle", "npe", "npse", "nre")
"""Engines whose draws come from a network."""


def pareto_k(evidence: Evidence) -> Iterator[Check]:
    """The largest weights have a tail whose mean converges."""
    if "pareto_k" in evidence.attrs:
        k = evidence.number("pareto_k")
        advice = "shape of the largest weights. Above the threshold the guide misses part of the posterior: use another"
    elif evidence.engine in APPROXIMATE:
        k = math.nan
        advice = f"nothing has checked the approximation made by {evidence.engine}: use importance, or an exact engine"
    else:
        return
    yield Check("Pareto k", k, f"< {PARETO_K:g}", k < PARETO_K, advice, anchor="pareto-k")


def unchecked_network(evidence: Evidence) -> Iterator[Check]:
    """A network's draws were weighted by the program's density, or calibrated on simulations."""
    if "calibration" in evidence.groups:
        return
    if evidence.engine in LEARNED and "pareto_k" not in evidence.attrs:
        advice = (
            f"a data site is a simulator: no weights correct what the network of {evidence.engine} learned; only "
            "its calibration on simulations can say how far to trust it: nuppl calibrate"
        )
        yield Check("weights of a network", math.nan, "from a density", False, advice, anchor="unchecked-networks")


def learned_density(evidence: Evidence) -> Iterator[Check]:
    """A learned density in the place of data sites was calibrated on simulations: the draws are only as right as it is.

    A caution: the answer is exact for the model that was asked, of which the network is a part.
    """
    if "surrogate" in evidence.attrs and "calibration" not in evidence.groups and evidence.engine not in LEARNED:
        advice = (
            f"the density of the data is what a network learned ({evidence.attrs['surrogate']}), and no weights "
            "correct it; only its calibration on simulations can say how far to trust it: nuppl calibrate"
        )
        name, asked = "check of a learned density", "from a density or calibration"
        yield Check(name, math.nan, asked, False, advice, anchor="learned-densities", serious=False)


def modes_missed(evidence: Evidence) -> Iterator[Check]:
    """No mode that the search found is left out."""
    if "modes_missed" in evidence.attrs:
        missed = evidence.number("modes_missed")
        advice = "the guide stands on one mode and others hold probability: use an engine that travels between them"
        yield Check("modes seen but not covered", missed, "= 0", missed == 0, advice, anchor="missed-modes")


def uncorrected_draws(evidence: Evidence) -> Iterator[Check]:
    """Draws of an approximation that their weights do not correct need weights that are nearly equal."""
    if evidence.engine in APPROXIMATE and "efficiency" in evidence.attrs:
        efficiency = evidence.number("efficiency")
        advice = f"draws of {evidence.engine} are not corrected by their weights: use importance, which is"
        name, passed = "efficiency of uncorrected draws", efficiency >= UNCORRECTED
        yield Check(name, efficiency, f"≥ {UNCORRECTED:g}", passed, advice, anchor="uncorrected-draws")


def weighted_draws(evidence: Evidence) -> Iterator[Check]:
    """The weight lies on enough proposals."""
    if evidence.resampled:
        effective = evidence.number("effective_draws")
        share = f"efficiency {100 * evidence.number('efficiency'):.1f} %. " if "efficiency" in evidence.attrs else ""
        advice = f"{share}Below the threshold few draws carry the weight: ask for more, or for a better guide"
        name, passed = "effective weighted draws", effective >= EFFECTIVE
        yield Check(name, effective, f"≥ {EFFECTIVE:g}", passed, advice, anchor="weighted-draws")


def island_spread(evidence: Evidence) -> Iterator[Check]:
    """Independent islands found the same amount of probability.

    A caution: where they found other draws too, R-hat says so.
    """
    if evidence.islands > 1 and "log_evidence_error" in evidence.attrs:
        spread = evidence.number("log_evidence_error") * math.sqrt(evidence.islands)
        advice = (
            "relative spread of the islands' evidence. Above the threshold a few islands make the evidence and its "
            "error, and where R-hat fails too some found a mode that others did not: ask for more particles"
        )
        name, passed = "island spread", spread < SPREAD
        yield Check(name, spread, f"< {SPREAD:g}", passed, advice, anchor="island-spread", serious=False)


def evidence_error(evidence: Evidence) -> Iterator[Check]:
    """The evidence is good enough to compare models; the posterior does not need it."""
    if "log_evidence_error" in evidence.attrs:
        error = evidence.number("log_evidence_error")
        advice = (
            "error of ln Z; the posterior does not depend on it. Above the threshold do not compare models by this "
            "run: ask for more particles or proposals"
        )
        name, passed = "evidence error", error < EVIDENCE_ERROR
        yield Check(name, error, f"< {EVIDENCE_ERROR:g}", passed, advice, anchor="evidence-error", serious=False)


def failed_densities(evidence: Evidence) -> Iterator[Check]:
    """Few of the densities that were asked for were NaN."""
    if "failures" in evidence.attrs:
        count = next((name for name in ("evaluations", "proposals") if name in evidence.attrs), None)
        evaluated = max(evidence.number(count) if count else float(evidence.draws), 1.0)
        fraction = evidence.number("failures") / evaluated
        advice = "densities that were NaN count as impossible: look for the region with nuppl check"
        name, passed = "fraction of NaN densities", fraction <= FAILED
        yield Check(name, fraction, f"≤ {FAILED:g}", passed, advice, anchor="nan-densities")
