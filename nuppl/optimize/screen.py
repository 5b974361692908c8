"""Where to start: candidate minima found without a fit.

Around a first minimum nuisances act nearly linearly, m(theta, a) = m(theta) + J a with curvature P of their own, so the
objective minimised over a is, up to a constant,

    chi2(theta) = r^T W r - (J^T W r)^T (J^T W J + P)^-1 (J^T W r),   r = x - m(theta),   W = 1 / variance.

Many points theta of the interest cost one batch and two matrix products; the best that lie apart become starts.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.quasirandom import SobolEngine

from nuppl.errors import InputError
from nuppl.optimize.objective import Objective
from nuppl.typing import Values

__all__ = ["apart", "candidates", "profile_screen"]

_CHUNK = 128


def profile_screen(objective: Objective, data: Tensor, minimum: Tensor, interest: list[int], points: Tensor) -> Tensor:
    """The linearly profiled chi2 at each point with shape (n,).

    Arguments:
        objective: gives means and Jacobian.
        data: what was observed with shape (M,).
        minimum: around which nuisances are linear with shape (D,).
        interest: the columns that the points move.
        points: their values with shape (n, len(interest)).
    """
    _, variance, jacobian = objective.jacobian(minimum)
    keep = torch.ones(objective.dim, dtype=torch.bool)
    keep[interest] = False
    nuisance, weight = jacobian[:, keep], 1.0 / variance.clamp(min=1e-12)
    stiffness = objective.stiffness[keep]
    precision = nuisance.T @ (weight[:, None] * nuisance) + (stiffness + 1e-9 * (1 + stiffness)).diag()
    factor = torch.linalg.cholesky(precision)
    pulled = -(stiffness * minimum[keep])
    found = []
    for part in points.split(_CHUNK):
        full = minimum.repeat(len(part), 1)
        full[:, interest] = part
        with torch.no_grad():
            residual = data - objective.moments(full)[0]
        score = residual @ (weight[:, None] * nuisance) + pulled
        solved = torch.cholesky_solve(score.T, factor).T
        found.append((residual * weight * residual).sum(-1) - (score * solved).sum(-1))
    chi2 = torch.cat(found)
    return torch.where(chi2.isnan(), torch.inf, chi2)


def candidates(
    objective: Objective, data: Values, minimum: Tensor, interest: list[int], *, keep: int, points: int, seed: int
) -> Tensor:
    """Up to `keep` starts with shape (k, D), best first, no two within a tenth of the box of each other."""
    low = objective.lower[interest].clamp(min=-3.0)
    high = objective.upper[interest].clamp(max=3.0)
    sobol = SobolEngine(len(interest), scramble=True, seed=seed).draw(points, dtype=torch.float64)
    grid = low + (high - low) * sobol
    observed = torch.cat([value.reshape(-1) for value in data.values()])
    try:
        order = profile_screen(objective, observed, minimum, interest, grid).argsort()
    except InputError:  # data without a known mean: nuisances stay where they are
        full = minimum.repeat(len(grid), 1)
        full[:, interest] = grid
        order = objective.values(full).nan_to_num(torch.inf).argsort()
    chosen = apart(sobol[order], 0.1, keep)
    starts = minimum.repeat(len(chosen), 1)
    if chosen:
        starts[:, interest] = low + (high - low) * torch.stack(chosen)
    return starts


def apart(points: Tensor, distance: float, keep: int) -> list[Tensor]:
    """The first of points with shape (n, d), up to `keep`, of which no two are nearer in all coordinates."""
    chosen: list[Tensor] = []
    for point in points:
        if all(float((point - other).abs().max()) > distance for other in chosen):
            chosen.append(point)
        if len(chosen) == keep:
            break
    return chosen
