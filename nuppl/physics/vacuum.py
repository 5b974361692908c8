r"""Neutrino oscillation in vacuum, in closed form for any number of flavors.

    P(a -> b) = |S_ba|^2 = delta_ab - 4 sum_{i>j} Re(Q_ij) sin^2(phi_ij) + 4 sum_{i>j} Im(Q_ij) sin(phi_ij) cos(phi_ij)
    Q_ij = U*_ai U_bi U_aj U*_bj,   phi_ij = (m_i^2 - m_j^2) L / (4 hbar c E) = 1.2669... dm2_ij[eV^2] L[m] / E[MeV]

(Particle Data Group, Review of Particle Physics 2024, sec. 14.4; antineutrinos have U*). Baselines in metres with
energies in MeV, or km with GeV: L/E is the same number. A mixing is a `ThreeFlavor`, a `FourFlavor` or an `NFlavor`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import repeat
from typing import NamedTuple

import torch
from torch import Tensor

from nuppl.physics.arguments import flavor_index, not_negative, positive
from nuppl.physics.mixing import Mixing, Value
from nuppl.units import OSCILLATION_PHASE

__all__ = ["probability", "survival_terms"]

_CHUNK = 32_768  # points per pass: larger intermediates leave the cache and cost up to four times as much


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
) -> Tensor:
    """Probability P(initial -> final) in vacuum.

    `energy` (above 0, in MeV) and `baseline` (from 0, in metres), or GeV and km, broadcast with each other and with
    the parameters of `mixing` to the shape (*). With both flavors named the result has the shape (*). A flavor that
    is left out becomes a trailing axis: (*, N, N) indexed [initial, final], or (*, N). Parameters that a channel does
    not depend on, as survival of electron flavor does not on theta23 or phases, do not enlarge the shape.

    Rows sum to 1 to rounding, which may also leave a vanishing probability at -1e-16. Phases are reduced exactly: none
    is too large. Raises InputError (a ValueError) for energies <= 0, negative baselines and unknown flavors.

    >>> from nuppl.physics.oscillation import ThreeFlavor
    >>> mixing = ThreeFlavor(sin2_2theta13=0.085, dm2_32=2.47e-3)
    >>> round(probability(mixing, energy=4.0, baseline=1600.0, initial="e", final="e", antineutrino=True).item(), 4)
    0.9209
    """
    length_over_energy = not_negative("baseline", baseline) / positive("energy", energy)
    names = mixing.flavors
    initials = range(len(names)) if initial is None else [flavor_index("initial", initial, names)]
    finals = range(len(names)) if final is None else [flavor_index("final", final, names)]
    terms = _terms(mixing, [(a, b) for a in initials for b in finals], antineutrino)
    channels = _evaluate(length_over_energy, mixing.splittings, terms)
    if initial is not None and final is not None:
        return channels[0]
    axes = [len(names)] * ((initial is None) + (final is None))
    return torch.stack(channels, dim=-1).reshape(*channels[0].shape, *axes)


class _Terms(NamedTuple):
    """Coefficients of one channel: constant + sum_p (even_p sin^2 phi_p + odd_p sin phi_p cos phi_p)."""

    constant: float
    even: Tensor
    odd: Tensor | None


def _terms(mixing: Mixing, channels: list[tuple[int, int]], antineutrino: bool) -> list[_Terms]:
    appearance = any(a != b for a, b in channels)
    matrix = mixing.pmns if appearance else None
    terms = []
    for a, b in channels:
        if a == b or matrix is None:
            terms.append(_Terms(1.0, -mixing.survival_weights(a), None))
        else:
            terms.append(_appearance(matrix, a, b, antineutrino))
    return terms


def _appearance(matrix: Tensor, a: int, b: int, antineutrino: bool) -> _Terms:
    product = (matrix[..., a, :].conj() * matrix[..., b, :]).unbind(-1)
    pairs = [product[i] * product[j].conj() for i in range(len(product)) for j in range(i)]
    quartic = 4.0 * torch.stack(pairs, dim=-1)
    return _Terms(0.0, -quartic.real, -quartic.imag if antineutrino else quartic.imag)


def _evaluate(length_over_energy: Tensor, splittings: Tensor, terms: list[_Terms]) -> list[Tensor]:
    """Each channel with shape (*), in chunks along the longest axis."""
    inputs = [length_over_energy, splittings.movedim(-1, 0)]
    for term in terms:
        inputs += [part.movedim(-1, 0) for part in (term.even, term.odd) if part is not None]
    inner = [inputs[0].shape, *(tensor.shape[1:] for tensor in inputs[1:])]
    shape = torch.broadcast_shapes(*inner)
    if math.prod(shape) <= _CHUNK:
        return [channel.expand(shape) for channel in _channels(inputs, terms)]
    longest = max(range(-len(shape), 0), key=lambda axis: shape[axis])
    size = max(1, _CHUNK * shape[longest] // math.prod(shape))
    pieces = [_split(tensor, len(part), longest, size) for tensor, part in zip(inputs, inner, strict=True)]
    parts = [_channels(list(piece), terms) for piece in zip(*pieces, strict=False)]  # those that repeat never end
    return [torch.cat(part, dim=longest).expand(shape) for part in zip(*parts, strict=True)]


def _split(tensor: Tensor, ndim: int, axis: int, size: int) -> Iterator[Tensor]:
    """Pieces along an axis counted from the right; a tensor that broadcasts along it is its own piece, for ever."""
    if ndim < -axis or tensor.shape[axis] == 1:
        return repeat(tensor)
    return iter(torch.split(tensor, size, dim=axis))


def _channels(inputs: list[Tensor], terms: list[_Terms]) -> list[Tensor]:
    length_over_energy, splittings, *coefficients = inputs
    interfering = any(term.odd is not None for term in terms)
    sin2, sincos = [], []
    for splitting in splittings.unbind(0):
        # in half turns, whose whole part drops out of both functions exactly, whatever its size
        turns = splitting * (OSCILLATION_PHASE / math.pi) * length_over_energy
        phase = turns.frac() * math.pi
        sine = phase.sin()
        sin2.append(sine.square())
        if interfering:
            sincos.append(sine * phase.cos())
    rest = iter(coefficients)
    return [_channel(term, sin2, sincos, rest) for term in terms]


def _channel(term: _Terms, sin2: list[Tensor], sincos: list[Tensor], coefficients: Iterator[Tensor]) -> Tensor:
    total = torch.full_like(sin2[0], term.constant)
    for functions in (sin2,) if term.odd is None else (sin2, sincos):
        for coefficient, function in zip(next(coefficients).unbind(0), functions, strict=True):
            total = torch.addcmul(total, coefficient, function)
    return total
