r"""Oscillation in matter of constant density and through slabs of constant densities.

    P(a -> b) = |S_ba|^2,   S = S_K ... S_2 S_1,   S_k = exp(-i H_k L_k),   H = U D U^+ / (2 E) + V

(Wolfenstein, Phys. Rev. D 17, 2369; Mikheyev, Smirnov, Sov. J. Nucl. Phys. 42, 913). Energies are in GeV, lengths in
km, densities in g/cm^3. Each S_k is exact; see `amplitudes` for its closed form.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nuppl.errors import InputError, unknown
from nuppl.physics.arguments import Values, flavor_index, not_negative, positive
from nuppl.physics.chunks import longest, pieces
from nuppl.physics.hamiltonian import Hamiltonian, potential_scale, time_scale
from nuppl.physics.mixing import Mixing, Value

__all__ = ["matter_probability", "slabs_probability", "through_slabs"]

_POINTS = 16_000


def matter_probability(
    mixing: Mixing,
    energy: Values,
    baseline: Values,
    density: Values,
    *,
    electron_fraction: Value = 0.5,
    initial: str | None = None,
    final: str | None = None,
    antineutrino: bool = False,
    epsilon: Tensor | None = None,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """Probability P(initial -> final) in matter of constant density.

    `energy` (above 0, in GeV), `baseline` (from 0, in km), `density` (from 0, in g/cm^3) and `electron_fraction` (in
    (0, 1]) broadcast with each other and with the parameters of `mixing` to the shape (*). Flavors and the trailing
    axes of the result are as in `probability`; `initial` may also be a mass state, `nu1`, `nu2`, ... `epsilon` are
    non-standard interactions (see `nonstandard`). With `dtype=torch.float32` the result is
    rounded, by 6e-8 at most. Raises InputError (a ValueError) naming the argument.

    >>> from nuppl.physics.oscillation import ThreeFlavor
    >>> mixing = ThreeFlavor(sin2_theta13=0.0222, dm2_31=2.5e-3, delta_cp=0.0)
    >>> nu = matter_probability(mixing, 2.0, 1300.0, 2.85, initial="mu", final="e")
    >>> bar = matter_probability(mixing, 2.0, 1300.0, 2.85, initial="mu", final="e", antineutrino=True)
    >>> round(nu.item(), 4), round(bar.item(), 4)
    (0.0508, 0.0116)
    """
    energy, baseline = positive("energy", energy), not_negative("baseline", baseline)
    density = not_negative("density", density)
    hamiltonian = Hamiltonian.of(mixing, antineutrino, electron_fraction, epsilon)
    if initial in mass_states(hamiltonian.size):
        lengths, densities = baseline.unsqueeze(-1), density.unsqueeze(-1)
        fractions = torch.as_tensor(electron_fraction, dtype=torch.float64).unsqueeze(-1)
        return slabs_probability(
            mixing,
            energy,
            lengths,
            densities,
            electron_fraction=fractions,
            initial=initial,
            final=final,
            antineutrino=antineutrino,
            epsilon=epsilon,
        ).to(dtype)
    names = mixing.flavors
    initials = range(len(names)) if initial is None else [flavor_index("initial", initial, names)]
    finals = range(len(names)) if final is None else [flavor_index("final", final, names)]
    x = potential_scale(energy, density, electron_fraction, antineutrino)
    real, imaginary = hamiltonian.amplitudes(
        [(a, b) for a in initials for b in finals], x, time_scale(energy, baseline)
    )
    return _with_axes((real.square() + imaginary.square()).to(dtype), initial, final, len(names))


def slabs_probability(
    mixing: Mixing,
    energy: Values,
    lengths: Values,
    densities: Values,
    *,
    electron_fraction: Values = 0.5,
    initial: str | None = None,
    final: str | None = None,
    antineutrino: bool = False,
    epsilon: Tensor | None = None,
) -> Tensor:
    """Probability P(initial -> final) through slabs of matter, each of constant density.

    `lengths` (from 0, in km), `densities` (from 0, in g/cm^3) and `electron_fraction` have the shape (*, K) for K
    slabs in the order in which they are crossed; K may be 1 where all are alike. Their other axes broadcast with
    `energy` (above 0, in GeV) and the parameters of `mixing` to the shape (*). The rest is as in `matter_probability`.

    >>> from nuppl.physics.oscillation import ThreeFlavor
    >>> mixing = ThreeFlavor(sin2_theta13=0.0222, dm2_31=2.5e-3)
    >>> halves = slabs_probability(mixing, 2.0, [650.0, 650.0], [2.8], initial="mu", final="e")
    >>> whole = matter_probability(mixing, 2.0, 1300.0, 2.8, initial="mu", final="e")
    >>> abs(halves.item() - whole.item()) < 1e-12
    True
    """
    lengths, densities = not_negative("lengths", lengths), not_negative("densities", densities)
    for name, value in (("lengths", lengths), ("densities", densities)):
        if value.ndim == 0:
            raise InputError(f"{name}: expected shape (*, K) with an axis of slabs, got a single number: add the axis")
    return through_slabs(
        mixing, positive("energy", energy), lengths, densities, electron_fraction, initial, final, antineutrino, epsilon
    )


def mass_states(count: int) -> tuple[str, ...]:
    """Names of the mass states: nu1, nu2, ..."""
    return tuple(f"nu{k + 1}" for k in range(count))


def through_slabs(
    mixing: Mixing,
    energy: Tensor,
    lengths: Tensor,
    densities: Tensor,
    electron_fraction: Values,
    initial: str | None,
    final: str | None,
    antineutrino: bool,
    epsilon: Tensor | None,
) -> Tensor:
    """`slabs_probability` without its checks: densities of a higher-order scheme may fall below zero."""
    fractions = torch.as_tensor(electron_fraction, dtype=torch.float64)
    fractions = fractions.unsqueeze(-1) if fractions.ndim == 0 else fractions
    slabs = _slabs(lengths, densities, fractions)
    fractions = fractions.movedim(-1, 0)
    # every distinct electron fraction needs polynomials of its own; most profiles have few
    alike = len(mixing.flavors) <= 3
    hamiltonians: dict[object, Hamiltonian] = {}
    per_slab = []
    for k in range(slabs):
        fraction = fractions[min(k, len(fractions) - 1)]
        key = "any" if alike else _key(fraction, k)
        if key not in hamiltonians:
            hamiltonians[key] = Hamiltonian.of(mixing, antineutrino, fraction, epsilon)
        per_slab.append(hamiltonians[key])
    x = potential_scale(energy.unsqueeze(-1), densities, fractions.movedim(0, -1), antineutrino).movedim(-1, 0)
    t = time_scale(energy.unsqueeze(-1), lengths).movedim(-1, 0)
    states = _initial_states(per_slab[0], mixing.flavors, initial)
    names = mixing.flavors
    finals = list(range(len(names))) if final is None else [flavor_index("final", final, names)]
    probability = _evolve(per_slab, x, t, states, finals)
    return _with_axes(probability, initial, final, len(names))


def _slabs(*fields: Tensor) -> int:
    counts = [field.shape[-1] for field in fields]
    if set(counts) - {1, max(counts)}:
        given = ", ".join(map(str, counts))
        raise InputError(f"lengths, densities, electron_fraction: expected as many slabs in each (or one), got {given}")
    return max(counts)


def _key(fraction: Tensor, slab: int) -> object:
    return fraction.item() if fraction.numel() == 1 and not fraction.requires_grad else slab


def _initial_states(hamiltonian: Hamiltonian, names: tuple[str, ...], initial: str | None) -> Tensor:
    """Amplitudes of flavors with shape (2, A states, N flavors, *), real and imaginary part."""
    count = hamiltonian.size
    unit = torch.stack([torch.eye(count, dtype=torch.float64), torch.zeros(count, count, dtype=torch.float64)])
    if initial is None:
        return unit
    if initial in mass_states(count):
        column = hamiltonian.pmns[..., mass_states(count).index(initial)].resolve_conj()  # |nu_k> = sum_a U_ak |nu_a>
        return torch.view_as_real(column).movedim((-1, -2), (0, 1)).unsqueeze(1)
    if initial not in names:
        raise unknown("initial flavor", initial, (*names, *mass_states(count)))
    return unit[:, names.index(initial)].unsqueeze(1)


_Amplitude = tuple[Tensor, Tensor]


def _evolve(hamiltonians: Sequence[Hamiltonian], x: Tensor, t: Tensor, states: Tensor, finals: list[int]) -> Tensor:
    """|<final| S_K ... S_1 |state>|^2 with shape (A * B, *) for A states and B finals."""
    count = hamiltonians[0].size
    unique = list({id(h): h for h in hamiltonians}.values())
    order = [next(i for i, u in enumerate(unique) if u is h) for h in hamiltonians]
    fields = [
        [h.squared_masses.movedim(-1, 0), *(m.movedim((-2, -1), (0, 1)) for m in (h.pmns, h.potential))] for h in unique
    ]
    tables = [[] if h.chi is None or h.adjugate is None else [h.chi, h.adjugate] for h in unique]
    inputs = [x, t, states] + [tensor for pair in zip(fields, tables, strict=True) for part in pair for tensor in part]
    width = len(fields[0]) + len(tables[0])
    leading = [1, 1, 3] + [1, 2, 2, 2, 5][:width] * len(unique)
    shape = torch.broadcast_shapes(*(tensor.shape[n:] for tensor, n in zip(inputs, leading, strict=True)))
    missing = (1,) * (len(shape) - states.ndim + 3)  # its own leading axes stay clear of those of the points
    inputs[2] = states.reshape(*states.shape[:3], *missing, *states.shape[3:])
    parts = []
    for x_part, t_part, state, *rest in pieces(inputs, leading, _POINTS):
        piece = [_restore(h, rest[i * width : (i + 1) * width]) for i, h in enumerate(unique)]
        parts.append(_evolve_piece([piece[i] for i in order], x_part, t_part, state, finals, count))
    axis = longest(shape)
    whole = parts[0] if axis is None or len(parts) == 1 else torch.cat(parts, dim=axis)
    return whole.expand(whole.shape[0], *shape)


def _restore(hamiltonian: Hamiltonian, tensors: list[Tensor]) -> Hamiltonian:
    masses, pmns, potential, *tables = tensors
    chi, adjugate = tables or (None, None)
    return hamiltonian._replace(
        squared_masses=masses.movedim(0, -1),
        pmns=pmns.movedim((0, 1), (-2, -1)),
        potential=potential.movedim((0, 1), (-2, -1)),
        chi=chi,
        adjugate=adjugate,
    )


def _evolve_piece(
    hamiltonians: Sequence[Hamiltonian], x: Tensor, t: Tensor, states: Tensor, finals: list[int], count: int
) -> Tensor:
    channels = [(a, b) for b in range(count) for a in range(count)]
    state: list[_Amplitude] = [(states[0, :, a], states[1, :, a]) for a in range(count)]
    for k, hamiltonian in enumerate(hamiltonians):
        real, imaginary = hamiltonian.amplitudes(channels, x[min(k, len(x) - 1)], t[min(k, len(t) - 1)])
        rows = [(real[b * count : (b + 1) * count], imaginary[b * count : (b + 1) * count]) for b in range(count)]
        state = [_row_times_state(row, state) for row in rows]
    reached = torch.stack([state[b][0].square() + state[b][1].square() for b in finals], dim=1)
    return reached.flatten(0, 1)


def _row_times_state(row: _Amplitude, state: list[_Amplitude]) -> _Amplitude:
    real: Tensor | None = None
    imaginary: Tensor | None = None
    for a, (u, v) in enumerate(state):
        c, s = row[0][a], row[1][a]
        if real is None or imaginary is None:
            real, imaginary = c * u - s * v, c * v + s * u
        else:
            real = torch.addcmul(torch.addcmul(real, c, u), s, v, value=-1.0)
            imaginary = torch.addcmul(torch.addcmul(imaginary, c, v), s, u)
    assert real is not None and imaginary is not None
    return real, imaginary


def _with_axes(channels: Tensor, initial: str | None, final: str | None, count: int) -> Tensor:
    """(C, *) as (*), (*, N) or (*, N, N): an axis for each flavor that is not named."""
    axes = [count] * ((initial is None) + (final is None))
    return channels.movedim(0, -1).reshape((*channels.shape[1:], *axes))
