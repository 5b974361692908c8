r"""Vacuum oscillation with damped phases: energy resolution, regions of production, decoherence, invisible decay,
and mixing that is not unitary.

    P(a -> b) = sum_ij N*_ai N_bi N_aj N*_bj exp(-2 i phi_ij) D_ij exp(-(G_i + G_j)/2),   phi_ij = 1.2669... dm2_ij L/E
    D_ij = exp(-2 (s phi_ij)^2) exp(-g_ij L)

A Gaussian relative spread s of L/E (resolution, or the extent of source and detector) damps by the first factor of D
(Giunti, Kim, Fundamentals of Neutrino Physics and Astrophysics, sec. 7.6); quantum decoherence at rates g_ij (in 1/km)
by the second (Lisi, Marrone, Montanino, Phys. Rev. Lett. 85, 1166). Decay to what is not seen has
G_i = 4 * 1.2669... a_i L/E with a_i = m_i / tau_i in eV^2 (Gomes, Gomes, Peres, Phys. Lett. B 740, 345). N = T U
with a lower triangular T is mixing with heavy states beyond reach (Escrihuela et al., Phys. Rev. D 92, 053009); the
probability is not divided by that at L = 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nuppl.errors import InputError
from nuppl.physics.arguments import Values, flavor_index, not_negative, positive
from nuppl.physics.mixing import Mixing
from nuppl.units import OSCILLATION_PHASE

__all__ = ["damped_probability"]


def damped_probability(
    mixing: Mixing,
    energy: Values,
    baseline: Values,
    *,
    initial: str | None = None,
    final: str | None = None,
    antineutrino: bool = False,
    spread: Values = 0.0,
    decoherence: Values | None = None,
    decay: Values | None = None,
    nonunitarity: Tensor | None = None,
) -> Tensor:
    """Probability P(initial -> final) in vacuum with damped phases.

    `energy` (above 0, in GeV), `baseline` (from 0, in km) and `spread` (from 0, the relative standard deviation of L/E)
    broadcast with the parameters of `mixing` to the shape (*). `decoherence` (from 0, in 1/km) has the shape (*, P) for
    the pairs 21, 31, 32, ..., `decay` (from 0, in eV^2) the shape (*, N), `nonunitarity` the shape (*, N, N), lower
    triangular. Trailing axes as in `probability`. Raises InputError (a ValueError) naming the argument.

    >>> from nuppl.physics.oscillation import ThreeFlavor
    >>> mixing = ThreeFlavor(sin2_theta13=0.0, dm2_31=2.5e-3, sin2_theta12=0.5, sin2_theta23=0.0)
    >>> [round(damped_probability(mixing, 1.0, 1e5, spread=s, initial="e", final="e").item(), 3) for s in (0.0, 1.0)]
    [0.996, 0.5]
    """
    ratio = not_negative("baseline", baseline) / positive("energy", energy)
    length = torch.as_tensor(baseline, dtype=torch.float64)
    matrix = mixing.pmns.conj() if antineutrino else mixing.pmns
    if nonunitarity is not None:
        _check_triangular(nonunitarity, matrix.shape[-1])
        lower = nonunitarity.to(torch.complex128)
        matrix = (lower.conj() if antineutrino else lower) @ matrix
    names, masses = mixing.flavors, mixing.squared_masses
    rows = list(range(len(names))) if initial is None else [flavor_index("initial", initial, names)]
    columns = list(range(len(names))) if final is None else [flavor_index("final", final, names)]
    losses = _losses(decay, ratio, len(names))
    rates = _rates(decoherence, len(names))
    width = not_negative("spread", spread)
    terms: dict[tuple[int, int], Tensor | float] = {(a, b): 0.0 for a in rows for b in columns}
    for i in range(len(names)):
        for j in range(i + 1):
            phase = OSCILLATION_PHASE * (masses[..., i] - masses[..., j]) * ratio
            damping = torch.exp(-2.0 * (width * phase).square() - rates[i, j] * length - 0.5 * (losses[i] + losses[j]))
            reduced = (phase / torch.pi).frac() * (2.0 * torch.pi)
            cosine, sine = damping * reduced.cos(), damping * reduced.sin()
            for a, b in terms:
                quartic = matrix[..., a, i].conj() * matrix[..., b, i] * matrix[..., a, j] * matrix[..., b, j].conj()
                part = quartic.real * cosine + quartic.imag * sine
                terms[a, b] = terms[a, b] + (part if i == j else 2.0 * part)
    tensors = torch.broadcast_tensors(*(torch.as_tensor(terms[a, b]) for a in rows for b in columns))
    axes = [len(names)] * ((initial is None) + (final is None))
    return torch.stack(tensors, dim=-1).reshape((*tensors[0].shape, *axes))


def _check_triangular(matrix: Tensor, count: int) -> None:
    if matrix.shape[-2:] != (count, count) or bool((matrix.triu(1) != 0.0).any()):
        shape = f"(*, {count}, {count})"
        raise InputError(
            f"nonunitarity: expected lower triangular {shape}, got shape {tuple(matrix.shape)} or an upper part"
        )


def _losses(decay: Values | None, ratio: Tensor, count: int) -> list[Tensor]:
    """m_i L / (tau_i E), dimensionless: 1/(hbar c) is four times the constant of the phase."""
    if decay is None:
        return [torch.zeros(())] * count
    rates = not_negative("decay", decay)
    if rates.shape[-1:] != (count,):
        raise InputError(f"decay: expected shape (*, {count}), one for each mass state, got {tuple(rates.shape)}")
    return [4.0 * OSCILLATION_PHASE * rate * ratio for rate in rates.unbind(-1)]


def _rates(decoherence: Values | None, count: int) -> dict[tuple[int, int], Tensor]:
    pairs = [(i, j) for i in range(count) for j in range(i)]
    zero = torch.zeros((), dtype=torch.float64)
    if decoherence is None:
        return {(i, j): zero for i in range(count) for j in range(i + 1)}
    rates = not_negative("decoherence", decoherence)
    if rates.shape[-1:] != (len(pairs),):
        raise InputError(f"decoherence: expected shape (*, {len(pairs)}), one for each pair, got {tuple(rates.shape)}")
    return {(i, i): zero for i in range(count)} | dict(zip(pairs, rates.unbind(-1), strict=True))
