"""Checks of the model against its data, by posterior-predictive p-values (Gelman, Meng and Stern 1996)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nuppl.diagnostics.checks import Check, Evidence
from nuppl.diagnostics.priors import Array

__all__ = ["p_values"]

P_VALUE = 1e-3
OBSERVED = "_chi2_observed"


def p_values(evidence: Evidence) -> Iterator[Check]:
    """Replicas of each data site deviate from the model as much as the data do.

    Data that are too good make the intervals too wide, which is a caution: simulated expectations always are. There is
    no check where the distribution has no variance, as Cauchy's.
    """
    stats = evidence.stats
    for site in [str(name).removesuffix(OBSERVED) for name in stats if str(name).endswith(OBSERVED)]:
        p_value = _p_value(stats[f"{site}{OBSERVED}"].values, stats[f"{site}_chi2_replicated"].values)
        if p_value is None:
            continue
        good = p_value > 0.5
        advice = (
            "posterior predictive: near 1 the model describes the data too well. Errors are too large, or the data are "
            "an expectation without fluctuations; intervals are then wider than they need be"
            if good
            else "posterior predictive: near 0 the model does not describe the data, and its parameters mean little: "
            "look at the spectra and pulls of the report for where they differ"
        )
        name, passed = f"p-value of {site}", P_VALUE <= p_value <= 1.0 - P_VALUE
        asked = f"{P_VALUE:g} to {1.0 - P_VALUE:g}"
        yield Check(name, p_value, asked, passed, advice, anchor="posterior-predictive-p-values", serious=not good)


def _p_value(observed: Array, replicated: Array) -> float | None:
    """The fraction of draws at which a replica exceeds the data; None where X^2 is not defined.

    A variance that does not exist makes X^2 NaN, one that is infinite makes it 0 whatever the data. It is 0 in every
    draw too where no latent acts on the site: what measures a parameter that is held at the measured value.

    >>> zero, one = np.zeros(2), np.ones(2)
    >>> _p_value(one, 2 * one), _p_value(one, zero), _p_value(zero, one), _p_value(one, np.nan * one)
    (1.0, 0.0, None, None)
    """
    known = ~(np.isnan(observed) | np.isnan(replicated))
    observed, replicated = observed[known], replicated[known]
    if not observed.any():
        return None
    return float((replicated >= observed).mean())
