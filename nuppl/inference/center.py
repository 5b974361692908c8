"""Where to put a Gaussian when the mode is the wrong place: the centre of the marginal of a curved nuisance.

Along some nuisances, the width of a resolution say, the posterior's volume changes: the mode then lies far from where
the probability is. For the nuisance c along which the posterior differs most from a parabola its marginal is

    log m(c) = max log p(c, u)  -  log det F(c) / 2,

F the Fisher information of all others at their conditional mode (Tierney and Kadane 1986), walked outwards in steps of
a standard deviation. The Gaussian is set anew at the mean of m, with the width of m.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nuppl.inference.guides import GaussianGuide
from nuppl.optimize.newton import minimize
from nuppl.optimize.objective import Objective
from nuppl.typing import Progress, silent

__all__ = ["center"]

_CURVED = 0.3
"""How far from a parabola, at 1.5 standard deviations, calls for a new centre."""

_WALK, _DROP, _MOST = 1.5, 6.0, 6


def center(
    objective: Objective, gaussian: GaussianGuide, leave: list[int], progress: Progress = silent
) -> tuple[GaussianGuide, list[int]]:
    """The Gaussian at its new centre, and the coordinates that are still curved there, the worst first.

    Arguments:
        objective: minus the log posterior.
        gaussian: at the mode.
        leave: coordinates that are not asked.

    Nothing moves where nothing is curved.
    """
    curved = _curved(objective, gaussian, leave)
    if not curved:
        return gaussian, []
    column = curved[0]
    deviation = float((gaussian.scale_tril[column] ** 2).sum().sqrt())
    points = {0: gaussian.loc}
    heights = {0: _height(objective, gaussian.loc, column)}
    for direction in (1, -1):
        for step in range(1, _MOST + 1):
            place = direction * step
            points[place] = _conditional_mode(objective, points[place - direction], column, direction * deviation)
            heights[place] = _height(objective, points[place], column)
            progress(len(points), 2 * _MOST + 1, "centre")
            if heights[place] < max(heights.values()) - _DROP:
                break
    mean, width = _moments(heights)
    nearest = points[min(points, key=lambda place: abs(place - mean))]
    target = float(gaussian.loc[column]) + mean * deviation
    point = _conditional_mode(objective, nearest, column, target - float(nearest[column]))
    centred = _gaussian(objective, point, column, width * deviation)
    return centred, [column, *_curved(objective, centred, [column, *leave])]


def _curved(objective: Objective, gaussian: GaussianGuide, leave: list[int]) -> list[int]:
    """The coordinates along whose regression lines the objective is no parabola, the worst first."""
    covariance = gaussian.scale_tril @ gaussian.scale_tril.T
    walks = covariance / covariance.diagonal().sqrt()[:, None]
    base = objective.values(gaussian.loc[None])
    rises = [objective.values(gaussian.loc + sign * _WALK * walks) - base for sign in (1.0, -1.0)]
    excess = (torch.stack(rises) - 0.5 * _WALK**2).abs().nan_to_num(torch.inf).amax(0)
    excess[leave] = 0.0
    order = excess.argsort(descending=True)
    return order[excess[order] > _CURVED].tolist()


def _conditional_mode(objective: Objective, point: Tensor, column: int, shift: float) -> Tensor:
    start = point.clone()
    start[column] += shift
    held = torch.zeros(objective.dim, dtype=torch.bool)
    held[column] = True
    return minimize(objective, start, held=held, tolerance=1e-2, max_steps=10).point


def _height(objective: Objective, point: Tensor, column: int) -> float:
    """log m, up to a constant."""
    keep = torch.ones(objective.dim, dtype=torch.bool)
    keep[column] = False
    factor = torch.linalg.cholesky(objective.curvature(point)[keep][:, keep])
    return -float(objective.values(point[None])[0]) - float(factor.diagonal().log().sum())


def _moments(heights: dict[int, float]) -> tuple[float, float]:
    """Mean and standard deviation of m, in units of the steps, by a sum over a fine interpolation of log m."""
    from scipy.interpolate import CubicSpline

    places = sorted(heights)
    spline = CubicSpline(places, [heights[place] for place in places])
    fine = torch.linspace(places[0], places[-1], 1001, dtype=torch.float64)
    log_m = torch.as_tensor(spline(fine.numpy()))
    weight = (log_m - log_m.logsumexp(0)).exp()
    mean = (weight * fine).sum()
    return float(mean), float((weight * (fine - mean) ** 2).sum().sqrt())


def _gaussian(objective: Objective, point: Tensor, column: int, width: float) -> GaussianGuide:
    """The Fisher information at a point, with the marginal width of one coordinate as given."""
    precision = objective.curvature(point)
    covariance = torch.linalg.inv(precision)
    follow = covariance[:, column] / covariance[column, column]
    covariance = covariance + (width**2 - covariance[column, column]) * follow[:, None] * follow[None]
    return GaussianGuide(point, torch.linalg.cholesky(covariance))
