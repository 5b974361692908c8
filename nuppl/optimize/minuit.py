"""The reference minimiser: MIGRAD of iminuit on the same objective with our gradients."""

from __future__ import annotations

import numpy as np
import torch
from iminuit import Minuit
from torch import Tensor

from nuppl.optimize.newton import Minimum
from nuppl.optimize.objective import Objective

__all__ = ["migrad"]


def migrad(objective: Objective, start: Tensor, *, tolerance: float = 0.1, max_steps: int = 2000) -> Minimum:
    """MIGRAD from `start` with shape (D,).

    Arguments:
        objective, start: as for `newton.minimize`.
        tolerance: iminuit's, in units of 2e-3 of the objective.
        max_steps: a bound on calls, per coordinate.
    """

    def value(point: np.ndarray) -> float:
        return float(objective.values(torch.as_tensor(point)[None])[0])

    def gradient(point: np.ndarray) -> np.ndarray:
        return objective.gradient(torch.as_tensor(point))[1].numpy()

    point = start.clamp(objective.lower, objective.upper)
    minuit = Minuit(value, point.numpy(), grad=gradient)
    minuit.errordef, minuit.tol, minuit.print_level = Minuit.LIKELIHOOD, tolerance, 0
    minuit.limits = [
        (None if low == -np.inf else low, None if high == np.inf else high)
        for low, high in zip(objective.lower.tolist(), objective.upper.tolist(), strict=True)
    ]
    minuit.errors = np.full(objective.dim, 0.1)
    minuit.migrad(ncall=max_steps * objective.dim)
    end = torch.as_tensor(np.array(minuit.values))
    at_bound = (end <= objective.lower) | (end >= objective.upper)
    return Minimum(end, float(minuit.fval or 0.0), float(minuit.fmin.edm), bool(minuit.valid), at_bound, minuit.nfcn)
