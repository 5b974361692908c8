"""Laplace's approximation: a Gaussian at the mode of the posterior, in whitened coordinates.

    q(u) = N(u; mode, H^-1),   H = -d2 log p / du2 at the mode.

Pulls that act linearly on Gaussian data are treated exactly, in closed form; for large counts nearly so. The weights
p/q are computed beside the draws, as a statement of how good it is; the engine `importance` uses them (MacKay,
Information Theory, Inference, and Learning Algorithms, ch. 27).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from nuppl.errors import InputError
from nuppl.inference.guides import GaussianGuide
from nuppl.inference.settings import Settings
from nuppl.inference.weights import certified, log_weights
from nuppl.language.density import Whitened
from nuppl.language.precision import double_precision
from nuppl.language.program import Program
from nuppl.optimize.newton import Minimum, minimize
from nuppl.optimize.objective import Objective, whitened_objective
from nuppl.optimize.screen import candidates
from nuppl.results.draws import Draws, effective_size
from nuppl.typing import Progress, silent

__all__ = ["laplace", "laplace_guide"]

_SCREENED, _ROUGH = 3, 25
"""Screened starts in search of other modes, and steps from each."""

_APART = 0.5
"""Modes are distinct if the interest differs by this much, in units of the prior's deviation."""

_MATTERS = 5.0
"""A mode whose log density is within this of the highest holds probability that one Gaussian would miss."""

_NEAR = 0.1
"""A guide may stand this far below the mode in log density: its weights, or their Pareto k, tell."""

_PILOT, _PILOT_STREAM = 512, 1 << 23


@double_precision()
def laplace(program: Program, settings: Settings, progress: Progress = silent) -> Draws:
    """Draws of the Gaussian approximation, with their importance weights as a certificate."""
    whitened = Whitened(program)
    guide = laplace_guide(whitened, progress)
    drawn = certified(whitened, guide, settings, "laplace", progress)
    return replace(drawn, attrs={**drawn.attrs, "modes_missed": guide.missed})


def laplace_guide(whitened: Whitened, progress: Progress = silent) -> GaussianGuide:
    """The Gaussian at the mode.

    Raises:
        InputError: the posterior has no finite density to start from, or no maximum.
    """
    objective = whitened_objective(whitened)
    progress(0, 2, "mode")
    mode, *others = _modes(whitened, objective)
    progress(1, 2, "curvature")
    guides = []
    for precision in (objective.hessian(mode.point), objective.curvature(mode.point)):
        try:
            guides.append(GaussianGuide.from_precision(mode.point, precision))
        except RuntimeError:  # LinAlgError: not positive
            continue
    progress(2, 2, "curvature")
    best = max(guides, key=lambda guide: _pilot(whitened, guide))
    missed = sum(other.value < mode.value + _MATTERS and other.decrease < _NEAR for other in others)
    return replace(best, missed=missed)


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
    for point in (*_declared(whitened), *points):
        try:
            end = minimize(objective, point, max_steps=_ROUGH)
        except InputError:
            continue
        if all(float((end.point - other.point)[interest].abs().max()) > _APART for other in found):
            found.append(end)
        elif end.value < found[0].value - _NEAR and float((end.point - first.point)[interest].abs().max()) <= _APART:
            found[0] = end
    return sorted(found, key=lambda mode: mode.value)


def _first(whitened: Whitened, objective: Objective) -> Minimum:
    """From the nominal point, or the priors' medians where that has no density."""
    starts = torch.cat([whitened.coordinates(whitened.program.nominal()), torch.zeros(1, whitened.dim)])
    usable = objective.values(starts).isfinite()
    if not bool(usable.any()):
        raise InputError(
            "the posterior density is zero at every start: expected a finite value at the nominal point; "
            "give nominal= to parameters, or check that the data are possible under the model"
        )
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
