r"""Amplitudes of oscillation at constant density for three and four flavors, in closed form, with their derivatives.

    S_c = e^{-i t z_1} F_c,   F_c = sum_k e_k K_c(z_k, x) / chi'(z_k),   e_k = exp(-i t (z_k - z_1))

is the divided difference of e K over the eigenvalues z_k; chi and K are those of `characteristic`. Its derivatives are
the residues of e K z^m / chi^2: with cotangent g of F, a(z) = sum_c conj(g_c) K_c(z) and b_k = e_k a(z_k) / chi'(z_k),

    dL/dc_m = -sum_k (z_k^m B_k + m z_k^{m-1} Re b_k / chi'_k),
    B_k = [t Im b_k + Re(e_k a'_k / chi'_k) - Re b_k chi''_k / chi'_k] / chi'_k.

The phase of S as a whole drops out of every probability and is left out of F and of the derivatives. Lanes where
eigenvalues (nearly) meet are marked, left to `spectral`, and have no derivative here.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nuppl.physics.chunks import longest, pieces
from nuppl.physics.eigenvalues import Spectrum, spectrum

__all__ = ["Degrees", "amplitudes"]

_POINTS = 16_000


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


def amplitudes(
    potential: Tensor, time: Tensor, chi: Tensor, channels: Tensor, degrees: Degrees
) -> tuple[Tensor, Tensor, Tensor]:
    """Real and imaginary parts of F with shape (C, *), and the lanes left out with shape (*).

    `potential` x and `time` t have shapes that broadcast to (*) with the trailing axes of `chi`, shape (N, N+1, *), and of
    `channels`, shape (2, C, N, N, *), whose leading axis holds real and imaginary part.
    """
    real, imaginary, left_out = _Amplitudes.apply(potential, time, chi, channels, degrees)
    return real, imaginary, left_out


class _Amplitudes(torch.autograd.Function):
    @staticmethod
    def forward(
        potential: Tensor, time: Tensor, chi: Tensor, channels: Tensor, degrees: Degrees
    ) -> tuple[Tensor, Tensor, Tensor]:
        inputs = [potential, time, chi, channels]
        shape = torch.broadcast_shapes(potential.shape, time.shape, chi.shape[2:], channels.shape[4:])
        parts = [_forward(*piece, degrees) for piece in pieces(inputs, _LEADING, _POINTS)]
        return _join(parts, shape)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        *tensors, ctx.degrees = inputs
        ctx.save_for_backward(*tensors)
        ctx.mark_non_differentiable(output[2])

    @staticmethod
    def backward(ctx: Any, real: Tensor, imaginary: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        inputs = [*ctx.saved_tensors, real, imaginary]
        shapes = [tensor.shape for tensor in ctx.saved_tensors]
        totals: list[list[Tensor]] = [[], [], [], []]
        split = pieces(inputs, (*_LEADING, 1, 1), _POINTS)
        for piece in split:
            for total, part in zip(totals, _backward(*piece, ctx.degrees), strict=True):
                total.append(part)
        shape = real.shape[1:]
        return (*(_gather(t, s, shape, n) for t, s, n in zip(totals, shapes, _LEADING, strict=True)), None)


_LEADING = (0, 0, 2, 4)


def _join(parts: list[tuple[Tensor, Tensor, Tensor]], shape: torch.Size) -> tuple[Tensor, Tensor, Tensor]:
    axis = longest(shape)
    if len(parts) == 1 or axis is None:
        real, imaginary, left_out = parts[0]
    else:
        # parts broadcast along other axes alone
        real, imaginary, left_out = (torch.cat(list(part), dim=axis) for part in zip(*parts, strict=True))
    channels = real.shape[0]
    return (
        real.expand(channels, *shape),
        imaginary.expand(channels, *shape),
        left_out.expand(shape),
    )


def _gather(parts: list[Tensor], shape: torch.Size, points: torch.Size, leading: int) -> Tensor:
    """One gradient from those of the pieces: side by side where the input was split, added where it was not."""
    axis = longest(points)
    if len(parts) == 1 or axis is None:
        return parts[0]
    if len(shape) - leading >= -axis and shape[axis] > 1:
        return torch.cat(parts, dim=axis)
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


class _Waves(NamedTuple):
    """e_k / chi'_k, real and imaginary part, and z_k - z_1 for k > 1."""

    real: list[Tensor]
    imaginary: list[Tensor]
    above: list[Tensor]


def _eigenvalues(potential: Tensor, chi: Tensor, degrees: Degrees) -> Spectrum:
    count = chi.shape[0]
    return spectrum([_power_series(potential, chi[n], min(degrees.chi, count - n)) for n in range(count)])


def _power_series(x: Tensor, table: Tensor, degree: int) -> Tensor:
    """sum_p table[p] x^p up to `degree`; products with a single number are cheap, so no fused ones here."""
    value = table[degree]
    for p in range(degree - 1, -1, -1):
        value = value * x + table[p]
    return value


def _waves(time: Tensor, states: Spectrum) -> _Waves:
    inverse = [slope.reciprocal() for slope in states.slopes]
    lowest, *others = states.roots
    above = [root - lowest for root in others]
    real, imaginary = [inverse[0]], [torch.zeros_like(inverse[0])]
    turns_per_gap = time * (0.5 / math.pi)
    for difference, weight in zip(above, inverse[1:], strict=True):
        # in turns, whose whole part drops out exactly, whatever its size
        phase = (difference * turns_per_gap).frac() * (2.0 * math.pi)
        real.append(phase.cos() * weight)
        imaginary.append(phase.sin() * -weight)
    return _Waves(real, imaginary, above)


def _forward(
    potential: Tensor, time: Tensor, chi: Tensor, channels: Tensor, degrees: Degrees
) -> tuple[Tensor, Tensor, Tensor]:
    count = chi.shape[0]
    states = _eigenvalues(potential, chi, degrees)
    waves = _waves(time, states)
    outputs: tuple[list[Tensor], list[Tensor]] = ([], [])
    moments = _moments(states, waves, count) if len(degrees.channels) > 1 else None
    for c in range(len(degrees.channels)):
        series = _channel_series(potential, channels[:, c], degrees, c, count)
        if moments is None:
            total = _apply(series, states, waves)
        else:
            total = _contract(series, moments)
        for output, part in zip(outputs, total, strict=True):
            output.append(part)
    real, imaginary = (torch.stack(torch.broadcast_tensors(*output)) for output in outputs)
    left_out = states.unresolved
    if left_out is None:
        left_out = torch.zeros((), dtype=torch.bool)
    return real, imaginary, left_out.expand(real.shape[1:])


_Pair = tuple[Tensor, Tensor]


def _channel_series(x: Tensor, table: Tensor, degrees: Degrees, channel: int, count: int) -> list[_Pair]:
    """Coefficients of z^n in K of one channel, each a real and an imaginary part."""
    series = []
    for n in range(count):
        degree = degrees.of(channel, n, count)
        if degree >= 0:
            series.append((_power_series(x, table[0, n], degree), _power_series(x, table[1, n], degree)))
    return series


def _polynomial(coefficients: list[Tensor], z: Tensor) -> Tensor:
    value = coefficients[-1]
    for coefficient in reversed(coefficients[:-1]):
        value = value * z + coefficient
    return value


def _apply(series: list[_Pair], states: Spectrum, waves: _Waves) -> _Pair:
    """sum_k e_k K(z_k) / chi'_k."""
    reals, imaginaries = [part[0] for part in series], [part[1] for part in series]
    total: _Pair | None = None
    for k, root in enumerate(states.roots):
        a, b = _polynomial(reals, root), _polynomial(imaginaries, root)
        cosine, sine = waves.real[k], waves.imaginary[k]
        if total is None:
            total = cosine * a, cosine * b
        else:
            real = torch.addcmul(torch.addcmul(total[0], cosine, a), sine, b, value=-1.0)
            imaginary = torch.addcmul(torch.addcmul(total[1], cosine, b), sine, a)
            total = real, imaginary
    assert total is not None
    return total


def _moments(states: Spectrum, waves: _Waves, count: int) -> list[_Pair]:
    """sum_k e_k z_k^n / chi'_k for n < N."""
    reals, imaginaries = list(waves.real), list(waves.imaginary)
    moments = []
    for n in range(count):
        if n:
            reals = [part * root for part, root in zip(reals, states.roots, strict=True)]
            imaginaries = [part * root for part, root in zip(imaginaries, states.roots, strict=True)]
        moments.append((_sum(reals), _sum(imaginaries[1:])))
    return moments


def _sum(parts: list[Tensor]) -> Tensor:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _contract(series: list[_Pair], moments: list[_Pair]) -> _Pair:
    """sum_n K_n moment_n."""
    reals, imaginaries = [], []
    for (a, b), (cosine, sine) in zip(series, moments, strict=False):
        reals += [a * cosine, -(b * sine)]
        imaginaries += [a * sine, b * cosine]
    return _sum(reals), _sum(imaginaries)


def _backward(
    potential: Tensor, time: Tensor, chi: Tensor, channels: Tensor, real: Tensor, imaginary: Tensor, degrees: Degrees
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    count = chi.shape[0]
    states = _eigenvalues(potential, chi, degrees)
    waves = _waves(time, states)
    moments = _moments(states, waves, count)
    to_potential: list[Tensor] = []
    to_channels = torch.zeros_like(channels)
    combined: list[list[Tensor]] = [[] for _ in range(2 * count)]
    for c in range(len(degrees.channels)):
        g, h = real[c], imaginary[c]
        series = _channel_series(potential, channels[:, c], degrees, c, count)
        for n, (a, b) in enumerate(series):
            combined[2 * n] += [g * a, h * b]
            combined[2 * n + 1] += [g * b, -(h * a)]
            cosine, sine = moments[n]
            by_real, by_imaginary = g * cosine + h * sine, h * cosine - g * sine
            degree = degrees.of(c, n, count)
            _accumulate(to_channels[0, c, n], by_real, potential, degree)
            _accumulate(to_channels[1, c, n], by_imaginary, potential, degree)
            if degree:
                slopes = (_slope_series(potential, channels[part, c, n], degree) for part in (0, 1))
                to_potential += [p * s for p, s in zip((by_real, by_imaginary), slopes, strict=True)]
    reals = [_sum(parts) for parts in combined[::2] if parts]
    imaginaries = [_sum(parts) for parts in combined[1::2] if parts]
    to_coefficients, to_time = _residues(states, waves, reals, imaginaries, time, count)
    to_chi = torch.zeros_like(chi)
    for n, by_coefficient in enumerate(to_coefficients):
        degree = min(degrees.chi, count - n)
        _accumulate(to_chi[n], by_coefficient, potential, degree)
        if degree:
            to_potential.append(by_coefficient * _slope_series(potential, chi[n], degree))
    return (
        _sum(to_potential).sum_to_size(potential.shape),
        to_time.sum_to_size(time.shape),
        to_chi,
        to_channels,
    )


def _slope_series(x: Tensor, table: Tensor, degree: int) -> Tensor:
    value = table[degree] * float(degree)
    for p in range(degree - 1, 0, -1):
        value = value * x + table[p] * float(p)
    return value


def _accumulate(target: Tensor, gradient: Tensor, x: Tensor, degree: int) -> None:
    """Gradients of the coefficients of a power series in x, summed where the coefficients broadcast."""
    for p in range(degree + 1):
        if p:
            gradient = gradient * x
        target[p] += gradient.sum_to_size(target.shape[1:])


def _residues(
    states: Spectrum, waves: _Waves, reals: list[Tensor], imaginaries: list[Tensor], time: Tensor, count: int
) -> tuple[list[Tensor], Tensor]:
    """Gradients of the coefficients of chi and of time, from the polynomial a(z) of the cotangents."""
    powers: list[list[Tensor]] = [[] for _ in range(count)]
    to_time = []
    for k, root in enumerate(states.roots):
        cosine, sine = waves.real[k], waves.imaginary[k]
        slope = states.slopes[k]
        a, b = _polynomial(reals, root), _polynomial(imaginaries, root)
        along, across = cosine * a - sine * b, cosine * b + sine * a
        change = cosine * _derivative(reals, root) - sine * _derivative(imaginaries, root)
        single = along / slope
        double = (time * across + change - single * _curvature(states.roots, k)) / slope
        power = None
        for m in range(count):
            if m == 0:
                powers[m].append(double)
                power = single
            else:
                double = double * root
                assert power is not None
                powers[m].append(torch.add(double, power, alpha=float(m)))
                power = power * root
        if k:
            to_time.append(waves.above[k - 1] * across)
    return [-_sum(parts) for parts in powers], _sum(to_time)


def _derivative(coefficients: list[Tensor], z: Tensor) -> Tensor:
    if len(coefficients) == 1:
        return torch.zeros_like(z)
    value = coefficients[-1] * float(len(coefficients) - 1)
    for n in range(len(coefficients) - 2, 0, -1):
        value = value * z + coefficients[n] * float(n)
    return value


def _curvature(roots: list[Tensor], k: int) -> Tensor:
    """chi'' at root k: twice the sum over the products of all but one of its differences."""
    differences = [roots[k] - root for j, root in enumerate(roots) if j != k]
    if len(differences) == 2:
        return 2.0 * (differences[0] + differences[1])
    a, b, c = differences
    return 2.0 * (a * b + (a + b) * c)
