"""The modes of a posterior, and Laplace's Gaussian at each, in whitened coordinates.

    q(u) = N(u; mode, H^-1),   H = -d2 log p / du2 at the mode.

Pulls that act linearly on Gaussian data are treated exactly, in closed form; for large counts nearly so (MacKay,
Information Theory, Inference, and Learning Algorithms, ch. 27).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from nuppl.errors import InputError
from nuppl.language.density import Whitened
from nuppl.language.diagnosis import explain_no_density
from nuppl.optimize.newton import Minimum, minimize
from nuppl.optimize.objective import Objective, whitened_objective
from nuppl.optimize.screen import apart, candidates
from nuppl.results.checkpoints import Checkpoints, State
from nuppl.results.draws import effective_size
from nuppl.sampling.guides import GaussianGuide, standard_normals
from nuppl.sampling.weights import log_weights
from nuppl.typing import Progress, silent

__all__ = ["laplace_guide", "laplace_guides", "main_mode"]

_SCREENED, _ROUGH = 3, 25
"""Screened starts in search of other modes, and steps from each."""

_FEW, _DRAWN, _PRIOR_STREAM = 32, 1024, 1 << 25
"""With no more dimensions than these, so many prior draws are looked at as well."""

_APART = 0.5
"""Modes are distinct if the interest differs by this much, in units of the prior's deviation."""

_MATTERS = 5.0
"""A mode whose log density is within this of the highest holds probability that one Gaussian would miss."""

_NEAR = 0.1
"""A guide may stand this far below the mode in log density: its weights, or their Pareto k, tell."""

_PILOT, _PILOT_STREAM = 512, 1 << 23


def main_mode(
    whitened: Whitened, objective: Objective, scratch: Path | None, progress: Progress = silent
) -> tuple[Tensor, int]:
    """The highest mode seen, with shape (D,), and how many others hold probability; raises as `laplace_guide` does."""
    points = modes_that_matter(whitened, objective, scratch, progress)
    return points[0], len(points) - 1


def modes_that_matter(
    whitened: Whitened, objective: Objective, scratch: Path | None, progress: Progress = silent
) -> list[Tensor]:
    """The highest mode seen, and others that hold probability, each with shape (D,); found once for one `scratch`."""

    def found() -> State:
        progress(0, 2, "mode")
        highest, *others = _modes(whitened, objective)
        near = (other for other in others if other.value < highest.value + _MATTERS and other.decrease < _NEAR)
        return {"points": [highest.point, *(other.point for other in near)], "failures": whitened.failures}

    kept = Checkpoints(scratch).once("modes", found)
    whitened.failures = kept["failures"]
    points: list[Tensor] = kept["points"]
    return points


def laplace_guide(whitened: Whitened, scratch: Path | None = None, progress: Progress = silent) -> GaussianGuide:
    """The Gaussian at the highest mode; `laplace_guides` for all.

    Raises:
        InputError: the posterior has no finite density to start from, or no maximum.
    """
    objective = whitened_objective(whitened)
    point, missed = main_mode(whitened, objective, scratch, progress)
    return replace(_gaussian(whitened, objective, point, progress), missed=missed)


def laplace_guides(whitened: Whitened, scratch: Path | None, progress: Progress = silent) -> list[GaussianGuide]:
    """A Gaussian at every mode that holds probability, the highest first; raises as `laplace_guide` does."""
    objective = whitened_objective(whitened)
    points = modes_that_matter(whitened, objective, scratch, progress)
    return [_gaussian(whitened, objective, point, progress) for point in points]


def _gaussian(whitened: Whitened, objective: Objective, point: Tensor, progress: Progress) -> GaussianGuide:
    progress(1, 2, "curvature")
    guides = []
    for precision in (objective.hessian(point), objective.curvature(point)):
        try:
            guides.append(GaussianGuide.from_precision(point, precision))
        except RuntimeError:  # LinAlgError: not positive
            continue
    progress(2, 2, "curvature")
    return max(guides, key=lambda guide: _pilot(whitened, guide))


def _pilot(whitened: Whitened, guide: GaussianGuide) -> float:
    """The effective size of a few draws.

    The exact Hessian is the better guide where the posterior is smooth; where the likelihood has kinks, as binned
    responses do, its value at one point says little and the Fisher information wins.
    """
    u, log_q = guide.sample(_PILOT, 0, _PILOT_STREAM)
    return effective_size(log_weights(whitened, u, log_q))


def _modes(whitened: Whitened, objective: Objective) -> list[Minimum]:
    """The distinct modes seen from the nominal point, the author's starts and screened ones; the highest first."""
    first = _first(whitened, objective)
    program = whitened.program
    interest = whitened.layout.columns(program.interest)
    if not interest:
        return [first]
    points = candidates(objective, program.data, first.point, interest, keep=_SCREENED, points=256, seed=0)
    found = [first]
    for point in (*_declared(whitened), *points, *_from_prior(whitened, objective)):
        try:
            end = minimize(objective, point, max_steps=_ROUGH)
        except InputError:
            continue
        if all(float((end.point - other.point)[interest].abs().max()) > _APART for other in found):
            found.append(end)
        elif end.value < found[0].value - _NEAR and float((end.point - first.point)[interest].abs().max()) <= _APART:
            found[0] = end
    return sorted(found, key=lambda found: found.value)


def _from_prior(whitened: Whitened, objective: Objective) -> list[Tensor]:
    """The best of many draws from the prior that lie apart; in many dimensions none would be near a mode."""
    if whitened.dim > _FEW:
        return []
    points = standard_normals(_DRAWN, whitened.dim, 0, _PRIOR_STREAM)
    return apart(points[objective.values(points).argsort()], 2.0 * _APART, _SCREENED)


def _first(whitened: Whitened, objective: Objective) -> Minimum:
    """From the nominal point, or the priors' medians where that has no density."""
    starts = torch.cat([whitened.coordinates(whitened.program.nominal()), torch.zeros(1, whitened.dim)])
    usable = objective.values(starts).isfinite()
    if not bool(usable.any()):
        raise InputError(explain_no_density(whitened.program))
    first = minimize(objective, starts[usable][0])
    if first.decrease > _NEAR:
        raise InputError(
            f"the posterior has no maximum that Laplace's method can find (after {first.steps} steps another would "
            f"still gain {first.decrease:.3g} in log density); use --engine nuts"
        )
    return first


def _declared(whitened: Whitened) -> list[Tensor]:
    """The model's own starts, with everything else at its nominal value."""
    program = whitened.program
    return [whitened.coordinates({**program.nominal(), **start})[0] for start in program.starts]
