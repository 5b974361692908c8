"""The best fit of a program: from the nominal point, the author's starts and screened ones, to the lowest minimum."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from nuppl.errors import InputError
from nuppl.language.density import Natural
from nuppl.language.diagnosis import explain_no_density
from nuppl.language.precision import double_precision
from nuppl.language.program import Program
from nuppl.optimize.estimates import Fit, conclude
from nuppl.optimize.minuit import migrad
from nuppl.optimize.newton import Minimum, NoCurvature, minimize
from nuppl.optimize.objective import Objective, natural_objective
from nuppl.optimize.screen import candidates
from nuppl.typing import Progress, silent

__all__ = ["MINIMIZERS", "fit", "lowest_minima"]

_ROUGH = 25
"""Steps from each start but the first."""


class Minimizer(Protocol):
    """Descends from a point with shape (D,)."""

    def __call__(self, objective: Objective, start: Tensor, *, max_steps: int = ...) -> Minimum: ...


MINIMIZERS: dict[str, Minimizer] = {"newton": minimize, "iminuit": migrad}
"""How to descend from one start."""


@double_precision()
def fit(
    program: Program,
    *,
    starts: int = 4,
    screen: int = 512,
    minos: bool = True,
    minimizer: str = "newton",
    seed: int = 0,
    progress: Progress = silent,
) -> Fit:
    """Maximise the frequentist likelihood of a program.

    Arguments:
        program: with data.
        starts: screened starts besides the nominal point and the model's own.
        screen: points of the interest that are screened for starts.
        minos: whether to follow the profile for asymmetric errors of the interest.
        minimizer: one of MINIMIZERS.
        seed: of the screening points.
        progress: told of each finished step.

    Raises:
        InputError: no density, no data, or nothing to fit.
    """
    natural = Natural(program)
    objective = natural_objective(natural)
    minima = lowest_minima(program, natural, objective, MINIMIZERS[minimizer], starts, screen, seed, progress)
    return conclude(program, natural, objective, minima, minos, progress)


def lowest_minima(
    program: Program,
    natural: Natural,
    objective: Objective,
    descend: Minimizer,
    starts: int,
    screen: int,
    seed: int,
    progress: Progress,
) -> list[Minimum]:
    """All minima that were found in natural coordinates, the lowest first.

    Arguments: as of `fit`.
    """
    first = _first(natural, objective, descend)
    points = _declared_starts(program, natural, first.point)
    interest = natural.layout.columns(program.interest)
    if starts and interest:
        screened = candidates(objective, program.data, first.point, interest, keep=starts, points=screen, seed=seed)
        points.extend(screened)
    minima = [first]
    for number, point in enumerate(points):
        progress(number + 1, len(points) + 1, "starts")
        try:
            minima.append(descend(objective, point, max_steps=_ROUGH))
        except NoCurvature:
            continue
    best, *others = sorted(minima, key=lambda minimum: minimum.value)
    # Rough descents that were cut short are enough to rank minima; the lowest is followed to its end.
    return [best if best.converged else descend(objective, best.point), *others]


def _first(natural: Natural, objective: Objective, descend: Minimizer) -> Minimum:
    start = torch.zeros(natural.dim)
    value = float(objective.values(start[None])[0])
    if not math.isfinite(value):
        raise InputError(explain_no_density(natural.program))
    return descend(objective, start)


def _declared_starts(program: Program, natural: Natural, point: Tensor) -> list[Tensor]:
    values = {name: value[0] for name, value in natural.values(point[None]).items()}
    return [natural.coordinates({**values, **start})[0] for start in program.starts]
