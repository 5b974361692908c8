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

from typing import Any

import torch
from torch import Tensor

from nuppl.physics.chunks import longest, pieces, side_by_side
from nuppl.physics.eigenvalues import Spectrum
from nuppl.physics.residues import gradients
from nuppl.physics.waves import (
    Degrees,
    Pair,
    Waves,
    added,
    channel_series,
    eigenvalues,
    moments_of,
    polynomial,
    waves_of,
)

__all__ = ["amplitudes"]

_POINTS = 16_000


def amplitudes(
    potential: Tensor, time: Tensor, chi: Tensor, channels: Tensor, degrees: Degrees
) -> tuple[Tensor, Tensor, Tensor]:
    """Real and imaginary parts of F with shape (C, *), and the lanes left out, with shape (*) or one False for all.

    `potential` x and `time` t have shapes that broadcast to (*) with the trailing axes of `chi`, which has the shape
    (N, N+1, *), and of `channels`, with shape (2, C, N, N, *), whose leading axis holds real and imaginary part.
    """
    real, imaginary, left_out = _Amplitudes.apply(  # type: ignore[no-untyped-call]
        potential, time, chi, channels, degrees
    )
    return real, imaginary, left_out


class _Amplitudes(torch.autograd.Function):
    @staticmethod
    def forward(
        potential: Tensor, time: Tensor, chi: Tensor, channels: Tensor, degrees: Degrees
    ) -> tuple[Tensor, Tensor, Tensor]:
        inputs = [potential, time, chi, channels]
        shape = torch.broadcast_shapes(potential.shape, time.shape, chi.shape[2:], channels.shape[4:])
        parts = [_forward(piece, degrees) for piece in pieces(inputs, _LEADING, _POINTS)]
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
            for total, part in zip(totals, gradients(piece, ctx.degrees), strict=True):
                total.append(part)
        shape = real.shape[1:]
        return (*(_gather(t, s, shape, n) for t, s, n in zip(totals, shapes, _LEADING, strict=True)), None)


_LEADING = (0, 0, 2, 4)


def _join(parts: list[tuple[Tensor, Tensor, Tensor | None]], shape: torch.Size) -> tuple[Tensor, Tensor, Tensor]:
    reals, imaginaries, masks = zip(*parts, strict=True)
    real, imaginary = (_stacked(list(part), shape) for part in (reals, imaginaries))
    if all(mask is None for mask in masks):
        return real, imaginary, torch.zeros((), dtype=torch.bool)
    filled = [
        torch.zeros(part.shape[1:], dtype=torch.bool) if mask is None else mask.expand(part.shape[1:])
        for mask, part in zip(masks, reals, strict=True)
    ]
    return real, imaginary, _stacked([mask.unsqueeze(0) for mask in filled], shape).squeeze(0)


def _stacked(parts: list[Tensor], shape: torch.Size) -> Tensor:
    return side_by_side(parts, (parts[0].shape[0], *shape), len(shape))


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


def _forward(inputs: list[Tensor], degrees: Degrees) -> tuple[Tensor, Tensor, Tensor | None]:
    potential, time, chi, channels = inputs
    count = chi.shape[0]
    states = eigenvalues(potential, chi, degrees)
    waves = waves_of(time, states)
    several = len(degrees.channels) > 1
    moments = moments_of(states, waves, count) if several else []
    reals, imaginaries = [], []
    for c in range(len(degrees.channels)):
        series = channel_series(potential, channels[:, c], degrees, c, count)
        real, imaginary = _contract(series, moments) if several else _apply(series, states, waves)
        reals.append(real)
        imaginaries.append(imaginary)
    real, imaginary = (torch.stack(torch.broadcast_tensors(*parts)) for parts in (reals, imaginaries))
    return real, imaginary, states.unresolved


def _apply(series: list[Pair], states: Spectrum, waves: Waves) -> Pair:
    """sum_k e_k K(z_k) / chi'_k."""
    reals, imaginaries = [part[0] for part in series], [part[1] for part in series]
    first, *others = states.roots
    real, imaginary = (waves.real[0] * polynomial(part, first) for part in (reals, imaginaries))  # e_1 = 1
    for k, root in enumerate(others, start=1):
        a, b = polynomial(reals, root), polynomial(imaginaries, root)
        cosine, sine = waves.real[k], waves.imaginary[k]
        real = torch.addcmul(torch.addcmul(real, cosine, a), sine, b, value=-1.0)
        imaginary = torch.addcmul(torch.addcmul(imaginary, cosine, b), sine, a)
    return real, imaginary


def _contract(series: list[Pair], moments: list[Pair]) -> Pair:
    """sum_n K_n moment_n."""
    reals, imaginaries = [], []
    for (a, b), (cosine, sine) in zip(series, moments, strict=False):
        reals += [a * cosine, -(b * sine)]
        imaginaries += [a * sine, b * cosine]
    return added(reals), added(imaginaries)
