"""Laplace's method for the nuisances at every value of the interest: a guide that follows a curved ridge.

    q(u) = Student(u_A) N(u_B; m(u_A), C_B),   m(u_A) = argmax_B p(u_A, u_B),

with A the interest and those nuisances along which the posterior is not a parabola, found by trying: each direction of
the Gaussian, given A, is walked one and a half standard deviations both ways. The conditional mode m is reached by a
few steps u_B <- u_B - C_B df/du_B with one fixed curvature, for all proposals at once; stopping early costs efficiency,
never exactness, since the steps are part of the guide's definition.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nuppl.inference.guides import GaussianGuide, SplitGuide
from nuppl.inference.laplace import laplace_guide
from nuppl.inference.settings import Settings
from nuppl.language.density import CHUNK, Whitened
from nuppl.optimize.objective import Objective, whitened_objective
from nuppl.typing import Progress, silent

__all__ = ["MOST", "curved", "ridge_guide"]

MOST = 8
"""Coordinates with tails: more would cost more efficiency than they guard."""

_WALK = 1.5
_PARABOLIC = 0.1
"""A direction counts as straight if the objective differs from its parabola by less than this at 1.5 deviations."""

_STEPS = 3


def ridge_guide(whitened: Whitened, settings: Settings, progress: Progress = silent) -> SplitGuide:
    """The guide around the mode; a plain Gaussian but for its tails where nothing is curved."""
    gaussian = laplace_guide(whitened, progress)
    objective = whitened_objective(whitened)
    interest = whitened.layout.columns(whitened.program.interest)[:MOST]
    few = curved(objective, gaussian, interest)
    split = SplitGuide.around(gaussian, few)
    if len(few) == len(interest) and not _bent(objective, gaussian, few):
        return split
    return SplitGuide(
        split.order,
        split.loc,
        split.few_tril,
        split.rest_tril,
        split.regression,
        follow=lambda u: _follow(objective, split, u, progress),
    )


def curved(objective: Objective, gaussian: GaussianGuide, few: list[int]) -> list[int]:
    """`few` and the coordinates along which, given all of these, the objective is no parabola; at most MOST."""
    found = list(few)
    while len(found) < MOST:
        split = SplitGuide.around(gaussian, found)
        rest = split.order[len(found) :]
        if not len(rest):
            break
        covariance = split.rest_tril @ split.rest_tril.T
        walks = torch.zeros(len(rest), objective.dim, dtype=torch.float64)
        walks[:, rest] = covariance / covariance.diagonal().sqrt()[:, None]
        excess = _excess(objective, gaussian.loc, walks)
        if float(excess.max()) < _PARABOLIC:
            break
        found.append(int(rest[excess.argmax()]))
    return found


def _bent(objective: Objective, gaussian: GaussianGuide, few: list[int]) -> bool:
    """Whether the objective leaves its parabola along the regression on the few."""
    covariance = gaussian.scale_tril[few] @ gaussian.scale_tril.T
    walks = covariance / covariance[:, few].diagonal().sqrt()[:, None]
    return bool((_excess(objective, gaussian.loc, walks) > _PARABOLIC).any())


def _excess(objective: Objective, mode: Tensor, walks: Tensor) -> Tensor:
    """How far the objective lies from its parabola, both ways, with shape (n,)."""
    base = objective.values(mode[None])
    rises = torch.stack([objective.values(mode + sign * _WALK * walks) - base for sign in (1.0, -1.0)])
    return (rises - 0.5 * _WALK**2).abs().nan_to_num(torch.inf).amax(0)


def _follow(objective: Objective, split: SplitGuide, u: Tensor, progress: Progress) -> Tensor:
    rest = split.order[len(split.few_tril) :]
    parts = []
    for done, part in enumerate(u.split(CHUNK)):
        parts.append(_descend(objective, split, rest, part))
        progress(min((done + 1) * CHUNK, len(u)), len(u), "ridge")
    return torch.cat(parts)


def _descend(objective: Objective, split: SplitGuide, rest: Tensor, part: Tensor) -> Tensor:
    point = part
    for _ in range(_STEPS):
        leaf = point.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(objective.value(leaf).sum(), leaf)
        step = (gradient[:, rest] @ split.rest_tril) @ split.rest_tril.T
        point = point.detach().clone()
        # A lane whose density is zero has no gradient: it stays where the regression put it.
        point[:, rest] -= step.nan_to_num(0.0)
    return point
