r"""The potential of neutrinos in matter, relative to that of electron neutrinos on electrons.

    V_CC = sqrt(2) G_F N_e = 7.6324662e-14 eV x density [g/cm^3] x Y_e

(Wolfenstein, Phys. Rev. D 17, 2369; G_F/(hbar c)^3 = 1.1663787e-5 GeV^-2, CODATA 2018, and one gram per mole of
nucleons). Active flavors share the neutral-current potential -sqrt(2) G_F N_n / 2 of neutrons, which sterile states
lack. As a common phase is not seen, they have +V_CC (1 - Y_e) / (2 Y_e) instead. Non-standard interactions add V_CC
eps_ab among active flavors, eps Hermitian and relative to electrons (Farzan, Tortola, Front. Phys. 6, 10).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from nuppl.errors import InputError
from nuppl.physics.arguments import flavor_index, within
from nuppl.physics.mixing import Value

__all__ = ["MATTER_POTENTIAL", "nonstandard", "relative_potential"]

MATTER_POTENTIAL = 7.632_466_2e-14
"""V_CC in eV at 1 g/cm^3 and Y_e = 1: sqrt(2) G_F (hbar c)^3 N_A in these units, rounded at 3e-9 of itself."""


def relative_potential(
    flavors: tuple[str, ...], electron_fraction: Value = 0.5, epsilon: Tensor | None = None
) -> Tensor:
    """V / V_CC in the basis of flavors with shape (*, N, N), complex128; electron_fraction has the shape (*).

    `epsilon` with shape (*, 3, 3) are non-standard interactions, as `nonstandard` builds them. Raises InputError (a
    ValueError) where electron_fraction leaves (0, 1] or epsilon is not Hermitian.
    """
    fraction = within("electron_fraction", electron_fraction, 1e-6, 1.0)
    count, active = len(flavors), min(3, len(flavors))
    charged = torch.ones_like(fraction)
    others = [torch.zeros_like(fraction)] * (active - 1)
    sterile = [(1.0 - fraction) / (2.0 * fraction)] * (count - active)
    potential = torch.diag_embed(torch.stack([charged, *others, *sterile], dim=-1)).to(torch.complex128)
    if epsilon is None:
        return potential
    _check_hermitian(epsilon, active)
    return potential + torch.nn.functional.pad(epsilon.to(torch.complex128), (0, count - active, 0, count - active))


def _check_hermitian(epsilon: Tensor, active: int) -> None:
    if epsilon.shape[-2:] != (active, active):
        raise InputError(f"epsilon: expected shape (*, {active}, {active}), got {tuple(epsilon.shape)}")
    with torch.no_grad():
        asymmetry = float((epsilon - epsilon.mH).abs().nan_to_num().amax())
    if asymmetry > 1e-12:
        raise InputError(f"epsilon: expected a Hermitian matrix, got one with eps_ab - eps_ba* = {asymmetry:g}")


def nonstandard(elements: Mapping[str, Value]) -> Tensor:
    """Non-standard interactions eps with shape (*, 3, 3), complex128, from their elements relative to electrons.

    The keys name elements on and above the diagonal (`ee`, `emu`, `etau`, `mumu`, `mutau`, `tautau`); values are floats
    or tensors with shape (*), off the diagonal also complex. Raises InputError (a ValueError) for another key and for a
    diagonal element that is not real.

    >>> nonstandard({"emu": 0.1j})[0, 1].item(), nonstandard({"emu": 0.1j})[1, 0].item()
    (0.1j, -0.1j)
    """
    names = ("e", "mu", "tau")
    given = {_element(key, names): torch.as_tensor(value, dtype=torch.complex128) for key, value in elements.items()}
    shape = torch.broadcast_shapes(*(value.shape for value in given.values()))
    epsilon = torch.zeros(*shape, 3, 3, dtype=torch.complex128)
    for (a, b), value in given.items():
        if a == b and bool((value.imag != 0.0).any()):
            raise InputError(f"{names[a]}{names[b]}: expected a real diagonal element, got {value.flatten()[0].item()}")
        place = torch.zeros(3, 3, dtype=torch.complex128)
        place[a, b] = 1.0
        upper = value[..., None, None] * place
        epsilon = epsilon + (upper if a == b else upper + upper.mH)
    return epsilon


def _element(key: str, names: tuple[str, ...]) -> tuple[int, int]:
    known = {names[a] + names[b]: (a, b) for a in range(3) for b in range(a, 3)}
    flavor_index("element", key, tuple(known))
    return known[key]
