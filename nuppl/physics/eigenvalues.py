r"""Eigenvalues of Hermitian 3x3 and 4x4 matrices from their characteristic polynomial, in closed form and polished.

    chi(z) = z^N + c_{N-1} z^{N-1} + ... + c_0

N = 3: Viete's trigonometric formula. N = 4: with z = t - c_3/4 and the three roots y_i >= 0 of the resolvent cubic
y^3 + 2 p y^2 + (p^2 - 4 r) y - q^2 of t^4 + p t^2 + q t + r, the roots are (+-sqrt(y_1) +- sqrt(y_2) +- sqrt(y_3))/2
with an odd (q > 0) or even number of minus signs (Euler). Each is then polished by Weierstrass' simultaneous Newton
steps z_k -= chi(z_k) / prod_j (z_k - z_j) (Durand, Kerner), which bring graded spectra, such as 1 eV^2 beside 1e-5
eV^2, to the accuracy of the coefficients.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Spectrum", "spectrum"]

_SEPARATION = {3: 2e-3, 4: 1e-2}  # pairs closer than this times their distance from zero are left to the general method
_CONVERGED = 1e-7  # of the smallest gap: the next step, quadratic, is below rounding
_STEPS = 6
_TINY = 1e-300


class Spectrum(NamedTuple):
    """Ascending roots, the derivatives of chi there, and the lanes (or None) that the closed form cannot resolve."""

    roots: list[Tensor]
    slopes: list[Tensor]
    unresolved: Tensor | None


def spectrum(coefficients: Sequence[Tensor]) -> Spectrum:
    """Roots of z^N + sum_n coefficients[n] z^n for N = 3 or 4, all of them real; coefficients have the shape (*).

    Lanes with (nearly) equal roots, or without a number, are marked and hold distinct stand-ins.
    """
    roots = _cubic(*coefficients) if len(coefficients) == 3 else _quartic(*coefficients)
    for _ in range(_STEPS):
        slopes = _slopes(roots)
        steps = [_value(coefficients, root) / slope for root, slope in zip(roots, slopes, strict=True)]
        roots = [root - step for root, step in zip(roots, steps, strict=True)]
        resolved = _all_resolved(roots, steps)
        if resolved or bool(_converged(roots, steps).all()):
            break
    if resolved:
        return Spectrum(roots, _slopes(roots), None)
    with torch.no_grad():
        unresolved = ~(_converged(roots, steps) & _separated(roots))
    if not bool(unresolved.any()):
        return Spectrum(roots, _slopes(roots), None)
    roots = [torch.where(unresolved, float(k), root) for k, root in enumerate(roots)]
    return Spectrum(roots, _slopes(roots), unresolved)


def _all_resolved(roots: list[Tensor], steps: list[Tensor]) -> bool:
    """A sufficient test, from extremes over all lanes alone, and so at a fraction of the cost of the full one."""
    sizes = [max(map(abs, _extremes(root))) for root in roots]
    gaps = [_extremes(upper - lower)[0] for lower, upper in itertools.pairwise(roots)]
    apart = all(gap > _SEPARATION[len(roots)] * (a + b) for gap, a, b in zip(gaps, sizes, sizes[1:], strict=False))
    return apart and all(max(map(abs, _extremes(step))) <= _CONVERGED * min(gaps) for step in steps)


def _extremes(values: Tensor) -> tuple[float, float]:
    lowest, highest = values.detach().aminmax()
    return float(lowest), float(highest)


def _converged(roots: list[Tensor], steps: list[Tensor]) -> Tensor:
    with torch.no_grad():
        gap = functools.reduce(torch.minimum, [upper - lower for lower, upper in itertools.pairwise(roots)])
        total = functools.reduce(torch.add, [step.abs() for step in steps])
        return total <= _CONVERGED * gap


def _separated(roots: list[Tensor]) -> Tensor:
    pairs = itertools.pairwise(roots)
    return functools.reduce(
        torch.logical_and,
        [upper - lower > _SEPARATION[len(roots)] * (upper.abs() + lower.abs()) for lower, upper in pairs],
    )


def _cubic(c0: Tensor, c1: Tensor, c2: Tensor) -> list[Tensor]:
    shift = c2 / 3.0
    square = shift * shift
    spread = (square - c1 / 3.0).clamp_min(_TINY)
    radius = spread.sqrt()
    constant = shift * (2.0 * square - c1) + c0
    cosine = (constant / (spread * radius) * -0.5).clamp(-1.0, 1.0)
    angle = cosine.acos() / 3.0
    along = radius * angle.cos()
    across = radius * angle.sin() * math.sqrt(3.0)
    middle = -along - shift
    return [middle - across, middle + across, 2.0 * along - shift]


def _quartic(c0: Tensor, c1: Tensor, c2: Tensor, c3: Tensor) -> list[Tensor]:
    shift = c3 / 4.0
    square = shift * shift
    p = c2 - 6.0 * square
    q = c1 - 2.0 * shift * (c2 - 4.0 * square)
    r = c0 - shift * c1 + square * (c2 - 3.0 * square)
    small, medium, large = (y.clamp_min(0.0).sqrt() * 0.5 for y in _cubic(-q * q, p * p - 4.0 * r, 2.0 * p))
    small = small.copysign(-q)  # the sign of the product of the three is that of -q
    outer, inner = large + medium, large - medium
    return [-outer + small - shift, -inner - small - shift, inner - small - shift, outer + small - shift]


def _value(coefficients: Sequence[Tensor], root: Tensor) -> Tensor:
    value = root + coefficients[-1]
    for coefficient in reversed(coefficients[:-1]):
        value = torch.addcmul(coefficient, value, root)
    return value


def _slopes(roots: list[Tensor]) -> list[Tensor]:
    """prod_{j != k} (z_k - z_j)."""
    if len(roots) == 3:
        low, middle, high = roots
        first, second, both = middle - low, high - middle, high - low
        return [first * both, -first * second, second * both]
    a, b, c, d = roots
    ab, ac, ad, bc, bd, cd = b - a, c - a, d - a, c - b, d - b, d - c
    return [-ab * (ac * ad), ab * (bc * bd), -(ac * bc) * cd, ad * (bd * cd)]
