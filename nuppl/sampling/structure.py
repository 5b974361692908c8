"""Which latents to integrate in closed form: finding the structure of a likelihood.

Outer are the interest, other scalar parameters, and what is curved: a latent along whose regression line, others given,
the log posterior is no parabola. Along such nuisances the posterior's volume changes, and its mode lies far from its
mass: the response is therefore taken anew where their marginal, with the parameters held at the mode, has its mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from nuppl.errors import InputError, unknown
from nuppl.language.density import Whitened
from nuppl.language.precision import double_precision
from nuppl.language.program import Program
from nuppl.optimize.objective import Objective, whitened_objective
from nuppl.sampling.adapt import adapt
from nuppl.sampling.guides import GaussianGuide, lower_factor
from nuppl.sampling.marginal import Marginal, around, parameters
from nuppl.sampling.modes import main_mode
from nuppl.sampling.settings import Settings
from nuppl.sampling.target import Direct, Recast, Target
from nuppl.typing import Progress, silent

__all__ = ["eased", "marginalize", "target_of"]

_CURVED, _WALK = 0.3, 1.5
"""How far from a parabola the log density may be, so many conditional deviations away, for a latent to be inner."""

_WHOLE = 8
"""A site of no more entries than this is outer as a whole if one of them is."""

_WORTH = 16
"""Models with fewer latents are sampled as they are."""

_WIDER = 1.5
"""How much wider than known a pull begins."""

_STREAM = 7 << 24


@double_precision()
def marginalize(
    program: Program, sites: Sequence[str] | None = None, *, seed: int = 0, progress: Progress = silent
) -> Marginal:
    """Integrate latents out of a program's posterior, in closed form where they act linearly.

    Arguments:
        sites: which to integrate; by default all but the interest and what is curved.

    Returns:
        the density of the others, `.log_prob(x)`; `.complete` draws the integrated ones back, with exact weights, and
        `.error` is the standard deviation of their log: the error of the linearisation, 0 where it is exact.

    Raises:
        InputError: an unknown site, all latents or none to integrate, a posterior without a mode, or data whose mean
            and variance are not known.
    """
    whitened = Whitened(program)
    return _marginal(whitened, sites, Settings(seed=seed), progress)


def target_of(whitened: Whitened, settings: Settings, progress: Progress = silent) -> Target:
    """What an engine samples: a marginal where settings and model allow one, else the posterior itself."""
    if settings.marginalize == "none":
        return Direct(whitened)
    if settings.marginalize != "auto":
        return _marginal(whitened, settings.marginalize.split(","), settings, progress)
    if whitened.dim < _WORTH:
        return Direct(whitened)
    try:
        return _marginal(whitened, None, settings, progress)
    except InputError:
        # No mode, no known variance, nothing linear: then there is no structure to use.
        return Direct(whitened)


def eased(target: Target) -> Target:
    """The target with pulls that move the response standing where they belong, a little wider, rather than at their
    prior: tempering then has only the parameters to bring in."""
    if not isinstance(target, Marginal) or target.nuisance is None:
        return target
    moving, latents = target.linear.moving, target.whitened.program.latents
    pulls = {c for n, site in latents.items() if site.kind == "pull" for c in target.whitened.layout.columns([n])}
    chosen = torch.tensor([place for place, column in enumerate(moving.tolist()) if column in pulls], dtype=torch.long)
    if not len(chosen):
        return target
    factor = lower_factor(_WIDER * target.nuisance.scale_tril[chosen])
    columns = torch.searchsorted(target.outer, moving[chosen])
    return Recast(target, columns, target.nuisance.loc[chosen], factor)


def _marginal(whitened: Whitened, sites: Sequence[str] | None, settings: Settings, progress: Progress) -> Marginal:
    objective = whitened_objective(whitened)
    columns = None if sites is None else _columns(whitened, sites)
    loc, missed = main_mode(whitened, objective, settings.scratch, progress)
    precision = objective.curvature(loc)
    covariance = torch.linalg.inv(precision)
    outer = _outer(whitened, objective, loc, precision) if columns is None else columns
    if not 0 < len(outer) < whitened.dim:
        raise InputError("marginalize: expected some latents to integrate and some to keep, got all of one kind")
    progress(1, 3, "response")
    first = replace(around(whitened, objective, loc, outer, covariance.diagonal().sqrt()), missed=missed)
    progress(2, 3, "response")
    if not len(first.linear.moving):
        return first.measured(loc[None, outer], settings.seed, _STREAM)
    return _centred(first, objective, covariance, settings.seed)


def _columns(whitened: Whitened, sites: Sequence[str]) -> list[int]:
    """The columns that stay when these sites go."""
    for name in sites:
        if name not in whitened.layout.blocks:
            raise unknown("free latent to marginalize", name, whitened.layout.blocks)
    inner = set(whitened.layout.columns(sites))
    return [column for column in range(whitened.dim) if column not in inner]


def _outer(whitened: Whitened, objective: Objective, loc: Tensor, precision: Tensor) -> list[int]:
    """The interest, scalar parameters, and what is curved given these, and so on until nothing is."""
    outer = set(parameters(whitened))
    sites = {c: name for name in whitened.layout.blocks for c in whitened.layout.columns([name])}
    while len(outer) < whitened.dim:
        curved = _curved(whitened, objective, loc, precision, outer)
        if not curved:
            break
        for column in curved:
            whole = whitened.layout.columns([sites[column]])
            outer |= set(whole) if len(whole) <= _WHOLE else {column}
    return sorted(outer)


def _curved(whitened: Whitened, objective: Objective, loc: Tensor, precision: Tensor, outer: set[int]) -> list[int]:
    keep = torch.ones(whitened.dim, dtype=torch.bool)
    keep[list(outer)] = False
    covariance = torch.linalg.inv(precision[keep][:, keep])
    walks = torch.zeros(len(covariance), whitened.dim)
    walks[:, keep] = covariance / covariance.diagonal().sqrt()[:, None]
    base = objective.values(loc[None])
    rises = [objective.values(loc + sign * _WALK * walks) - base for sign in (1.0, -1.0)]
    excess = (torch.stack(rises) - 0.5 * _WALK**2).abs().nan_to_num(torch.inf).amax(0)
    columns: list[int] = keep.nonzero()[:, 0][excess > _CURVED].tolist()
    return columns


def _centred(first: Marginal, objective: Objective, covariance: Tensor, seed: int) -> Marginal:
    """The marginal with its response taken where the curved nuisances have their mean."""
    moving = first.linear.moving
    places = torch.searchsorted(first.outer, moving)

    def density(t: Tensor) -> Tensor:
        x = first.loc[first.outer].repeat(len(t), 1)
        x[:, places] = t
        return first.log_prob(x)

    start = GaussianGuide(first.loc[moving], torch.linalg.cholesky(covariance[moving][:, moving]))
    found = adapt(density, start, seed, _STREAM)
    x = first.loc[None, first.outer].clone()
    x[:, places] = found.loc
    width = torch.ones(first.whitened.dim)
    width[moving] = found.scale_tril.square().sum(1).sqrt()
    with torch.no_grad():
        loc = first.modes(x)[0][0]
    centred = around(first.whitened, objective, loc, first.outer.tolist(), width)
    return replace(centred, nuisance=found, missed=first.missed).measured(x, seed, _STREAM)
