r"""Derivatives of the amplitudes at constant density: the residues of e K z^m / chi^2 (see `amplitudes`)."""

from __future__ import annotations

import torch
from torch import Tensor

from nuppl.physics.eigenvalues import Spectrum
from nuppl.physics.waves import Degrees, Waves, added, channel_series, eigenvalues, moments_of, polynomial, waves_of

__all__ = ["gradients"]


def gradients(inputs: list[Tensor], degrees: Degrees) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    potential, time, chi, channels, real, imaginary = inputs
    count = chi.shape[0]
    states = eigenvalues(potential, chi, degrees)
    waves = waves_of(time, states)
    moments = moments_of(states, waves, count)
    to_potential: list[Tensor] = []
    to_channels = torch.zeros_like(channels)
    combined: list[list[Tensor]] = [[] for _ in range(2 * count)]
    for c in range(len(degrees.channels)):
        g, h = real[c], imaginary[c]
        series = channel_series(potential, channels[:, c], degrees, c, count)
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
    reals = [added(parts) for parts in combined[::2] if parts]
    imaginaries = [added(parts) for parts in combined[1::2] if parts]
    to_coefficients, to_time = _residues(states, waves, reals, imaginaries, time, count)
    to_chi = torch.zeros_like(chi)
    for n, by_coefficient in enumerate(to_coefficients):
        degree = min(degrees.chi, count - n)
        _accumulate(to_chi[n], by_coefficient, potential, degree)
        if degree:
            to_potential.append(by_coefficient * _slope_series(potential, chi[n], degree))
    return (
        added(to_potential).sum_to_size(potential.shape),
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
    states: Spectrum, waves: Waves, reals: list[Tensor], imaginaries: list[Tensor], time: Tensor, count: int
) -> tuple[list[Tensor], Tensor]:
    """Gradients of the coefficients of chi and of time, from the polynomial a(z) of the cotangents."""
    powers: list[list[Tensor]] = [[] for _ in range(count)]
    to_time = []
    for k, root in enumerate(states.roots):
        cosine, sine = waves.real[k], waves.imaginary[k]
        slope = states.slopes[k]
        a, b = polynomial(reals, root), polynomial(imaginaries, root)
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
        to_time.append(root * across)
    return [-added(parts) for parts in powers], added(to_time)


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
