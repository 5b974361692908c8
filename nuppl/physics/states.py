r"""Neutrinos that arrive as mass states: adiabatic conversion in the Sun or a supernova, and averaged oscillation.

A state born in dense matter is a mixture of the eigenstates of the Hamiltonian there, with weights
w_k = |U^m_ak|^2 = K_aa(z_k) / chi'(z_k). Where the density falls slowly each follows its level and leaves as the mass
state of the same rank (Mikheyev, Smirnov, Sov. J. Nucl. Phys. 42, 913; Parke, Phys. Rev. Lett. 57, 1275):

    P(a -> b) = sum_k w_k |U_bk|^2.

Phases of different mass states average out on the way. With w_k = |U_ak|^2 it is fully averaged oscillation.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nuppl.errors import InputError
from nuppl.physics.arguments import Values, flavor_index, not_negative, positive
from nuppl.physics.hamiltonian import Hamiltonian, potential_scale
from nuppl.physics.mixing import Mixing

__all__ = ["adiabatic_weights", "arriving", "averaged_probability"]


def adiabatic_weights(
    mixing: Mixing,
    energy: Values,
    density: Values,
    *,
    initial: str = "e",
    electron_fraction: Values = 0.5,
    antineutrino: bool = False,
    epsilon: Tensor | None = None,
) -> Tensor:
    """Probability to leave matter as each mass state, with shape (*, N), when born at a density as a flavor.

    `energy` (above 0, in GeV: 0.01 is 10 MeV), `density` (from 0, in g/cm^3) and `electron_fraction` broadcast with the
    parameters of `mixing` to the shape (*). Conversion is adiabatic: no jumps between levels. For a region of
    production, average over densities. Raises InputError (a ValueError) naming the argument.

    >>> from nuppl.physics.oscillation import ThreeFlavor
    >>> mixing = ThreeFlavor(sin2_theta13=0.0222, dm2_31=2.5e-3)
    >>> weights = adiabatic_weights(mixing, [1e-4, 0.1], 100.0, electron_fraction=0.67)
    >>> [[round(w, 2) for w in row] for row in weights.tolist()]
    [[0.67, 0.31, 0.02], [0.0, 0.94, 0.06]]
    """
    energies, densities = positive("energy", energy), not_negative("density", density)
    fractions = torch.as_tensor(electron_fraction, dtype=torch.float64)
    hamiltonian = Hamiltonian.of(mixing, antineutrino, fractions, epsilon)
    x = potential_scale(energies, densities, fractions, antineutrino)
    row = flavor_index("initial", initial, mixing.flavors)
    vacuum = (hamiltonian.pmns * hamiltonian.squared_masses.unsqueeze(-2)) @ hamiltonian.pmns.mH
    levels = _Levels.apply(vacuum + x[..., None, None] * hamiltonian.potential, row)  # type: ignore[no-untyped-call]
    masses = hamiltonian.squared_masses.detach()
    ranks = masses.argsort(dim=-1).argsort(dim=-1).expand(levels.shape)
    weights: Tensor = levels.gather(-1, ranks)
    return weights


class _Levels(torch.autograd.Function):
    """|V_ak|^2 of the eigenvectors by ascending eigenvalue.

    d|V_ak|^2 = 2 Re sum_{j != k} V_aj (V^+ dH V)_jk conj(V_ak) / (E_k - E_j); pairs that coincide have no such weights,
    and no derivative.
    """

    @staticmethod
    def forward(ctx: object, hamiltonian: Tensor, row: int) -> Tensor:
        values, vectors = torch.linalg.eigh(hamiltonian)
        ctx.save_for_backward(values, vectors)  # type: ignore[attr-defined]
        ctx.row = row  # type: ignore[attr-defined]
        weights: Tensor = vectors[..., row, :].abs().square()
        return weights

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: object, gradient: Tensor) -> tuple[Tensor, None]:
        values, vectors = ctx.saved_tensors  # type: ignore[attr-defined]
        gaps = values.unsqueeze(-2) - values.unsqueeze(-1)  # E_k - E_j at [j, k]
        inverse = torch.where(gaps == 0.0, 0.0, 1.0 / torch.where(gaps == 0.0, 1.0, gaps))
        amplitude = vectors[..., ctx.row, :]  # type: ignore[attr-defined]
        inner = 2.0 * amplitude.conj().unsqueeze(-1) * (gradient * amplitude).unsqueeze(-2) * inverse
        matrix = vectors @ inner @ vectors.mH
        return 0.5 * (matrix + matrix.mH), None


def arriving(mixing: Mixing, weights: Tensor, *, final: str | None = None) -> Tensor:
    """Probability to be seen as a flavor, with shape (*) or (*, N), of mass states with `weights` of shape (*, N).

    >>> from nuppl.physics.oscillation import ThreeFlavor
    >>> mixing = ThreeFlavor(sin2_theta13=0.0222, dm2_31=2.5e-3)
    >>> day = arriving(mixing, adiabatic_weights(mixing, [3e-4, 0.01], 100.0, electron_fraction=0.67), final="e")
    >>> [round(p, 2) for p in day.tolist()]
    [0.54, 0.35]
    """
    count = mixing.squared_masses.shape[-1]
    if weights.shape[-1:] != (count,):
        raise InputError(f"weights: expected shape (*, {count}), one for each mass state, got {tuple(weights.shape)}")
    matrix = mixing.pmns
    seen: Tensor = ((matrix.real.square() + matrix.imag.square()) * weights.unsqueeze(-2)).sum(-1)
    return seen if final is None else seen[..., flavor_index("final", final, mixing.flavors)]


def averaged_probability(mixing: Mixing, *, initial: str | None = None, final: str | None = None) -> Tensor:
    """P(a -> b) = sum_k |U_ak|^2 |U_bk|^2: oscillation in vacuum whose phases are all averaged out.

    The shape is (*), (*, N) or (*, N, N), as in `probability`.

    >>> from nuppl.physics.oscillation import ThreeFlavor
    >>> mixing = ThreeFlavor(sin2_theta13=0.0, dm2_31=2.5e-3, sin2_theta12=0.5)
    >>> round(averaged_probability(mixing, initial="e", final="e").item(), 12)
    0.5
    """
    matrix = mixing.pmns
    weights = matrix.real.square() + matrix.imag.square()
    rows = weights if initial is None else weights[..., flavor_index("initial", initial, mixing.flavors), :]
    columns = weights if final is None else weights[..., flavor_index("final", final, mixing.flavors), :]
    if initial is None and final is None:
        return rows @ columns.mT
    if initial is None:
        return (rows * columns.unsqueeze(-2)).sum(-1)
    return (rows * columns).sum(-1) if final is not None else (rows.unsqueeze(-2) * columns).sum(-1)
