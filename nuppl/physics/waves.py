r"""Pieces that the amplitudes at constant density and their derivatives share: waves, power series, moments."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from nuppl.physics.eigenvalues import Spectrum, spectrum

__all__ = [
    "Degrees",
    "Pair",
    "Waves",
    "added",
    "channel_series",
    "eigenvalues",
    "moments_of",
    "polynomial",
    "power_series",
    "waves_of",
]


class Degrees(NamedTuple):
    """Which coefficients are not zero by symmetry: the highest power of x in chi and in K of each channel, and whether
    a channel is a survival, which alone has the power N-1 of z."""

    chi: int
    channels: tuple[int, ...]
    survival: tuple[bool, ...]

    def of(self, channel: int, power: int, count: int) -> int:
        """Highest power of x beside z^power in K of a channel; -1 where that power of z is missing."""
        highest = count - 1 if self.survival[channel] else count - 2
        return min(self.channels[channel], count - 1 - power) if power <= highest else -1


class Waves(NamedTuple):
    """e_k / chi'_k, real and imaginary part."""

    real: list[Tensor]
    imaginary: list[Tensor]


def eigenvalues(potential: Tensor, chi: Tensor, degrees: Degrees) -> Spectrum:
    count = chi.shape[0]
    return spectrum([power_series(potential, chi[n], min(degrees.chi, count - n)) for n in range(count)])


def power_series(x: Tensor, table: Tensor, degree: int) -> Tensor:
    """sum_p table[p] x^p up to `degree`; products with a single number are cheap, so no fused ones here."""
    value = table[degree]
    for p in range(degree - 1, -1, -1):
        value = value * x + table[p]
    return value


def waves_of(time: Tensor, states: Spectrum) -> Waves:
    inverse = [slope.reciprocal() for slope in states.slopes]
    lowest, *others = states.roots
    real, imaginary = [inverse[0]], [torch.zeros_like(inverse[0])]
    turns_per_gap = time * (0.5 / math.pi)
    for root, weight in zip(others, inverse[1:], strict=True):
        # in turns, whose whole part drops out exactly, whatever its size
        phase = ((root - lowest) * turns_per_gap).frac_().mul_(2.0 * math.pi)
        real.append(phase.cos() * weight)
        imaginary.append(phase.sin() * -weight)
    if not torch.is_grad_enabled():
        return Waves(real, imaginary)
    # second derivatives: the common phase that is left out is a constant, so that of each state has all its derivatives
    phase = time * lowest
    phase = phase - phase.detach()
    cosine, sine = phase.cos(), phase.sin()
    turned = [(cosine * a + sine * b, cosine * b - sine * a) for a, b in zip(real, imaginary, strict=True)]
    return Waves([a for a, _ in turned], [b for _, b in turned])


Pair = tuple[Tensor, Tensor]


def channel_series(x: Tensor, table: Tensor, degrees: Degrees, channel: int, count: int) -> list[Pair]:
    """Coefficients of z^n in K of one channel, each a real and an imaginary part."""
    series = []
    for n in range(count):
        degree = degrees.of(channel, n, count)
        if degree >= 0:
            series.append((power_series(x, table[0, n], degree), power_series(x, table[1, n], degree)))
    return series


def polynomial(coefficients: list[Tensor], z: Tensor) -> Tensor:
    value = coefficients[-1]
    for coefficient in reversed(coefficients[:-1]):
        value = value * z + coefficient
    return value


def moments_of(states: Spectrum, waves: Waves, count: int) -> list[Pair]:
    """sum_k e_k z_k^n / chi'_k for n < N."""
    reals, imaginaries = list(waves.real), list(waves.imaginary)
    moments = []
    for n in range(count):
        if n:
            reals = [part * root for part, root in zip(reals, states.roots, strict=True)]
            imaginaries = [part * root for part, root in zip(imaginaries, states.roots, strict=True)]
        moments.append((added(reals), added(imaginaries)))
    return moments


def added(parts: list[Tensor]) -> Tensor:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total
