r"""Neutrino oscillation in vacuum, in closed form for any number of flavors.

    P(a -> b) = |S_ba|^2 = delta_ab - 4 sum_{i>j} Re(Q_ij) sin^2(phi_ij) + 4 sum_{i>j} Im(Q_ij) sin(phi_ij) cos(phi_ij)
    Q_ij = U*_ai U_bi U_aj U*_bj,   phi_ij = (m_i^2 - m_j^2) L / (4 hbar c E) = 1.2669... dm2_ij[eV^2] L[m] / E[MeV]

(Particle Data Group, Review of Particle Physics 2024, sec. 14.4; antineutrinos have U*). Baselines in metres with
energies in MeV, or km with GeV: L/E is the same number. A mixing is a `ThreeFlavor`, a `FourFlavor` or an `NFlavor`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from nuppl.physics.arguments import flavor_index, not_negative, positive
from nuppl.physics.chunks import pieces, side_by_side
from nuppl.physics.mixing import Mixing, Value
from nuppl.units import OSCILLATION_PHASE

__all__ = ["probability", "survival_terms"]

_CHUNK = 16_000  # points per pass: what is larger leaves the cache and goes back to the system after each use


def survival_terms(mixing: Mixing, flavor: str = "e") -> tuple[Tensor, Tensor]:
    """Weights w and splittings d of the survival probability 1 - sum_p w_p sin^2(1.2669... d_p L/E).

    Both have shape (*, P), for the P pairs of mass states 21, 31, 32, 41, 42, 43, ...: w = 4 |U_ai|^2 |U_aj|^2, and
    d = dm2_ij in eV^2. Antineutrinos have the same. Raises InputError (a ValueError) for an unknown flavor.

    >>> from nuppl.physics.oscillation import ThreeFlavor
    >>> weights, splittings = survival_terms(ThreeFlavor(sin2_theta13=0.0, dm2_31=2.5e-3, sin2_theta12=0.25))
    >>> [round(weight, 12) for weight in weights.tolist()]
    [0.75, 0.0, 0.0]
    """
    return mixing.survival_weights(flavor_index("flavor", flavor, mixing.flavors)), mixing.splittings


def probability(
    mixing: Mixing,
    energy: Value,
    baseline: Value,
    *,
    initial: str | None = None,
    final: str | None = None,
    antineutrino: bool = False,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """Probability P(initial -> final) in vacuum.

    `energy` (above 0, in MeV) and `baseline` (from 0, in metres), or GeV and km, broadcast with each other and with
    the parameters of `mixing` to the shape (*). With both flavors named the result has the shape (*). A flavor that
    is left out becomes a trailing axis: (*, N, N) indexed [initial, final], or (*, N). Parameters that a channel does
    not depend on, as survival of electron flavor does not on theta23 or phases, do not enlarge the shape.

    Rows sum to 1 to rounding, which may also leave a vanishing probability at -1e-16. Phases are reduced exactly: none
    is too large. With `dtype=torch.float32` the result is rounded, by 6e-8 at most; phases need float64 in any case.
    Raises InputError (a ValueError) for energies <= 0, negative baselines and unknown flavors.

    >>> from nuppl.physics.oscillation import ThreeFlavor
    >>> mixing = ThreeFlavor(sin2_2theta13=0.085, dm2_32=2.47e-3)
    >>> round(probability(mixing, energy=4.0, baseline=1600.0, initial="e", final="e", antineutrino=True).item(), 4)
    0.9209
    """
    length_over_energy = not_negative("baseline", baseline) / positive("energy", energy)
    names = mixing.flavors
    initials = list(range(len(names))) if initial is None else [flavor_index("initial", initial, names)]
    finals = list(range(len(names))) if final is None else [flavor_index("final", final, names)]
    pairs = [(a, b) for a in initials for b in finals]
    channels = _evaluate(length_over_energy, mixing.splittings, _terms(mixing, pairs, antineutrino), dtype)
    if initial is not None and final is not None:
        return channels[0]
    axes = [len(names)] * ((initial is None) + (final is None))
    return torch.stack(channels, dim=-1).reshape(*channels[0].shape, *axes)


class _Terms(NamedTuple):
    """Coefficients of one channel, both with a last axis over pairs of mass states.

    Survival: 1 + sum_p even_p sin^2 phi_p. Appearance of three flavors: the same without the 1 and with
    odd sin phi_21 sin phi_31 sin phi_32 (Jarlskog). Appearance of more: |sum_k (even + i odd)_k (s^2 + i s
    c)(phi_k1)|^2, which needs N - 1 phases and not one for each pair.
    """

    survival: bool
    even: Tensor
    odd: Tensor | None


def _terms(mixing: Mixing, channels: list[tuple[int, int]], antineutrino: bool) -> list[_Terms]:
    appearance = any(a != b for a, b in channels)
    matrix = mixing.pmns if appearance else None
    terms = []
    for a, b in channels:
        if a == b or matrix is None:
            terms.append(_Terms(True, -mixing.survival_weights(a), None))
        else:
            terms.append(_appearance(matrix, a, b, antineutrino))
    return terms


def _appearance(matrix: Tensor, a: int, b: int, antineutrino: bool) -> _Terms:
    product = matrix[..., a, :].conj() * matrix[..., b, :]
    if product.shape[-1] != 3:
        twice = 2.0 * product[..., 1:]
        return _Terms(False, twice.real, -twice.imag if antineutrino else twice.imag)
    states = product.unbind(-1)
    quartic = torch.stack([states[i] * states[j].conj() for i in range(3) for j in range(i)], dim=-1)
    odd = 8.0 * quartic.imag[..., :1]
    return _Terms(False, -4.0 * quartic.real, -odd if antineutrino else odd)


def _evaluate(length_over_energy: Tensor, splittings: Tensor, terms: list[_Terms], dtype: torch.dtype) -> list[Tensor]:
    """Each channel with shape (*), in chunks along the longest axis."""
    inputs = [length_over_energy, splittings.movedim(-1, 0)]
    for term in terms:
        inputs += [part.movedim(-1, 0) for part in (term.even, term.odd) if part is not None]
    leading = [0] + [1] * (len(inputs) - 1)
    shape = torch.broadcast_shapes(*(tensor.shape[n:] for tensor, n in zip(inputs, leading, strict=True)))
    parts = [[channel.to(dtype) for channel in _channels(piece, terms)] for piece in pieces(inputs, leading, _CHUNK)]
    return [side_by_side(list(channel), shape) for channel in zip(*parts, strict=True)]


def _channels(inputs: list[Tensor], terms: list[_Terms]) -> list[Tensor]:
    length_over_energy, splittings, *coefficients = inputs
    three = len(splittings) == 3
    appearance = any(not term.survival for term in terms)
    pairs = three or any(term.survival for term in terms)
    first = [k * (k + 1) // 2 for k in range(len(splittings)) if k * (k + 1) // 2 < len(splittings)]  # pairs k1
    phases = [_phase(splittings[p], length_over_energy) for p in first]
    sines, cosines = [phase.sin() for phase in phases], [phase.cos() for phase in phases]
    # the other phases from these: all channels then see the same ones, and rows sum to 1 whatever their size
    others = [
        [sines[i] * cosines[j] - cosines[i] * sines[j] for j in range(i)] if pairs else [] for i in range(len(first))
    ]
    even = [sine.square() for i, last in enumerate(others) for sine in (sines[i], *last)]
    odd: list[Tensor] = []
    if appearance:
        odd = [sines[0] * sines[1] * others[1][0]] if three else [s * c for s, c in zip(sines, cosines, strict=True)]
    squares = [even[p] for p in first] if pairs else even
    rest = iter(coefficients)
    channels = []
    for term in terms:
        by_even = next(rest).unbind(0)
        if term.survival:
            channels.append(_weighted(by_even, even, 1.0))
        elif three:
            channels.append(_weighted((*by_even, *next(rest).unbind(0)), [*even, *odd]))
        else:
            by_odd = next(rest).unbind(0)
            both = [*squares, *odd]
            real = _weighted((*by_even, *(-part for part in by_odd)), both)
            imaginary = _weighted((*by_odd, *by_even), both)
            channels.append(torch.addcmul(real.square(), imaginary, imaginary))
    return channels


def _phase(splitting: Tensor, length_over_energy: Tensor) -> Tensor:
    """1.2669... dm2 L/E less its whole turns, which drop out exactly, whatever their number."""
    turns = splitting * (0.5 * OSCILLATION_PHASE / math.pi) * length_over_energy
    return turns.frac_().mul_(2.0 * math.pi)


def _weighted(coefficients: Iterable[Tensor], functions: list[Tensor], constant: float = 0.0) -> Tensor:
    """constant + sum_p coefficient_p function_p; products with a single number are cheaper than fused ones."""
    products = (coefficient * function for coefficient, function in zip(coefficients, functions, strict=True))
    total = next(products)
    for product in products:
        total = total + product
    return total + constant if constant else total
