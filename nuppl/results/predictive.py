"""What the posterior says about the data: replicas, log likelihoods, and how well the model describes them.

Replicas are drawn at every posterior draw. The discrepancy of data y at a draw is Pearson's

    X^2(y) = sum over entries of (y - mean)^2 / variance,

and the posterior-predictive p-value is the fraction of draws at which the replica's X^2 exceeds that of the data
(Gelman, Meng and Stern, Statistica Sinica 6 (1996) 733).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nuppl.errors import InputError
from nuppl.language.program import Program
from nuppl.language.simulation import simulate
from nuppl.typing import Values

__all__ = ["Predictive", "predict", "reference"]

CHUNK = 256
"""Draws evaluated at a time: arrays of a binned model then stay in the cache."""


@dataclass(frozen=True)
class Predictive:
    """Predictions at n posterior draws. All but `replicated` are empty where a data site is a simulator or learned."""

    replicated: dict[str, Tensor]
    """{data site: (n, *site)}."""
    log_likelihood: dict[str, Tensor]
    """Per entry, {data site: (n, *plates)}."""
    discrepancy: dict[str, Tensor]
    """{site_chi2_observed and site_chi2_replicated: (n,)}."""
    expected: dict[str, Tensor]
    """The expected data averaged over the draws, {data site: (*site)}."""
    deviation: dict[str, Tensor]
    """The standard deviation of the data around it, {data site: (*site)}."""


def predict(program: Program, values: Values, seed: int) -> Predictive:
    """Predictions at posterior draws.

    Arguments:
        values: every free latent, {site: (n, *site)}.
        seed: of the replicas.
    """
    values = {name: values[name].detach().to(torch.float64) for name in program.latents}
    n = len(next(iter(values.values())))
    replicated = _replicas(program, values, n, seed)
    known = [site.has_density and site.data is not None and site.has_moments for site in program.data_sites.values()]
    if not all(known):
        return Predictive(replicated, {}, {}, {}, {})
    with torch.no_grad():
        parts = [_chunk(program, values, replicated, slice(i, i + CHUNK)) for i in range(0, n, CHUNK)]
    log_likelihood, discrepancy, means, variances = (_join(list(part)) for part in zip(*parts, strict=True))
    return Predictive(
        replicated,
        log_likelihood,
        discrepancy,
        {name: mean.mean(0) for name, mean in means.items()},
        {name: variance.mean(0).sqrt() for name, variance in variances.items()},
    )


def _replicas(program: Program, values: Values, n: int, seed: int) -> dict[str, Tensor]:
    """Data at each draw; none where a learned density cannot be drawn from."""
    try:
        drawn = simulate(program, n, seed=seed, at=values)
    except InputError:
        if all(site.has_moments for site in program.data_sites.values()):
            raise
        return {}
    return {name: drawn[name] for name in program.data_sites}


Parts = tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]


def _chunk(program: Program, values: Values, replicated: Values, rows: slice) -> Parts:
    point = {name: value[rows] for name, value in values.items()}
    n = len(next(iter(point.values())))
    pointwise = {name: term.expand(n, *term.shape[1:]) for name, term in program.pointwise(point).items()}
    moments = program.moments(point)
    found: dict[str, Tensor] = {}
    for name, (mean, variance) in moments.items():
        found[f"{name}_chi2_observed"] = _chi2(program.data[name][None], mean, variance, n)
        found[f"{name}_chi2_replicated"] = _chi2(replicated[name][rows], mean, variance, n)
    means, variances = ({name: pair[i].expand(n, *pair[i].shape[1:]) for name, pair in moments.items()} for i in (0, 1))
    return pointwise, found, means, variances


def _chi2(data: Tensor, mean: Tensor, variance: Tensor, n: int) -> Tensor:
    # An entry that cannot vary adds nothing where it is met, and everything where it is not.
    distance = (data - mean).square()
    terms = torch.where(distance == 0.0, 0.0, distance / variance)
    return terms.reshape(len(terms), -1).sum(1).expand(n)


def _join(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def reference(program: Program, values: Values) -> dict[str, Tensor]:
    """The expected data at the model's reference point, {data site: (*site)}; empty without one.

    Arguments:
        values: every free latent, {site: (n, *site)}: those that the reference does not name stay at their mean.
    """
    if not program.model.reference or not all(site.has_density for site in program.data_sites.values()):
        return {}
    # The reference may lie outside the prior, as no oscillation often does.
    held = program.with_(fixed=program.model.reference, outside=True)
    with torch.no_grad():
        means = held.means({name: values[name].detach().to(torch.float64).mean(0) for name in held.latents})
    return {name: mean[0] for name, mean in means.items()}
