"""Flows that an ordinary differential equation defines: transport, and density by the divergence.

    dz/ds = f(s, z),   d log q / ds = -div f      (Chen et al., Neural ODEs, arXiv:1806.07366)

The classical Runge-Kutta method of order four on a given grid: every row is transported on its own, so results do not
depend on what else is in the batch, as they would with an adaptive step.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

from nuppl.neural.seeds import generator

__all__ = ["EXACT", "Field", "transport"]

Field = Callable[[Tensor, Tensor], Tensor]
"""Time as a scalar and points with shape (N, D) to velocities with shape (N, D)."""

EXACT = 16
"""Dimensions up to which the divergence is exact; beyond, it is estimated from random directions."""

_PROBES = 4


def transport(field: Field, z: Tensor, grid: Tensor, density: bool) -> tuple[Tensor, Tensor]:
    """Carry points along a field.

    Arguments:
        field: the velocity.
        z: points with shape (N, D) at the first time.
        grid: times with shape (T,), increasing or decreasing.
        density: whether to follow the log density.

    Returns:
        points with shape (N, D) at the last time, and the change of their log density with shape (N,), or zeros.

    >>> with torch.no_grad():
    ...     z, change = transport(lambda s, z: z, torch.ones(1, 2), torch.linspace(0.0, 1.0, 20), density=True)
    >>> [round(float(v), 4) for v in (z[0, 0], change[0])]
    [2.7183, -2.0]
    """
    augmented = _with_divergence(field, _probes(z) if density else None)
    change = torch.zeros(len(z), dtype=z.dtype)
    for start, end in itertools.pairwise(grid):
        z, change = _step(augmented, z, change, start, end - start)
    return z, change


_Slope = tuple[Tensor, Tensor]


def _step(
    f: Callable[[Tensor, Tensor], _Slope], z: Tensor, change: Tensor, s: Tensor, h: Tensor
) -> tuple[Tensor, Tensor]:
    v1, d1 = f(s, z)
    v2, d2 = f(s + h / 2, z + h / 2 * v1)
    v3, d3 = f(s + h / 2, z + h / 2 * v2)
    v4, d4 = f(s + h, z + h * v3)
    return z + h / 6 * (v1 + 2 * v2 + 2 * v3 + v4), change - h / 6 * (d1 + 2 * d2 + 2 * d3 + d4)


def _probes(z: Tensor) -> Tensor:
    """Directions with shape (P, N, D) whose quadratic forms add up to the trace, exactly or on average (Hutchinson)."""
    dimension = z.shape[1]
    if dimension <= EXACT:
        return torch.eye(dimension, dtype=z.dtype).unsqueeze(1).expand(dimension, *z.shape)
    signs = torch.randint(0, 2, (_PROBES, *z.shape), generator=generator(0, dimension)) * 2 - 1
    directions: Tensor = signs.to(z) / _PROBES**0.5
    return directions


def _with_divergence(field: Field, probes: Tensor | None) -> Callable[[Tensor, Tensor], _Slope]:
    if probes is None:
        return lambda s, z: (field(s, z), torch.zeros(len(z), dtype=z.dtype))

    def augmented(s: Tensor, z: Tensor) -> _Slope:
        onward = torch.is_grad_enabled()
        with torch.enable_grad():
            at = z if onward and z.requires_grad else z.detach().requires_grad_()
            v = field(s, at)
            trace = torch.zeros(len(z), dtype=z.dtype)
            for probe in probes:
                (slope,) = torch.autograd.grad(v, at, probe, retain_graph=True, create_graph=onward)
                trace = trace + (slope * probe).sum(-1)
        return (v, trace) if onward else (v.detach(), trace.detach())

    return augmented
