"""Lepton mixing: from mixing angles, phases and squared masses to the PMNS matrix.

    U = R34 R24(delta_24) R14(delta_14) R23 R13(delta_cp) R12,   R_ij(d)[i, j] = sin(theta_ij) e^{-i d}

which for three flavors is the standard parametrisation (Particle Data Group, Review of Particle Physics 2024, sec. 14).
Parameters are floats or tensors of any shapes that broadcast to a common batch shape (*).

Gradients. Everything is smooth in sin^2(theta) inside (0, 1). At 0 (and alike at 1) the interference of two mixing
paths grows like sqrt(sin2_theta): its gradient is infinite by the mathematics, and comes out finite, signed and very
large (5e14), never NaN. What has a finite gradient there, such as survival of electron flavor, keeps it. A parameter
that is a float is a constant: its zero is exact and leaves the gradients of the others alone. (Interference of two
angles that are both tensors and both zero has no gradient at all, as sqrt(x y) has none.)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from nuppl.errors import InputError

__all__ = ["Mixing", "NFlavor", "Rotation", "Value", "check_fraction", "double", "stack"]

Value: TypeAlias = float | Tensor
"""A parameter: a float, or a tensor with any shape that broadcasts with the others."""

_ROUNDING = 1e-12  # how far a transform's rounding may carry a mixing parameter past its boundary
_SQRT_FLOOR = 1e-30  # keeps sqrt differentiable at 0; moves sin(theta) there by 1e-15


class Mixing(ABC):
    """Mixing of N flavors: what oscillation needs to know.

    To add a parametrisation, define `factors` and `squared_masses`; the rest follows from the matrix.
    """

    @abstractmethod
    def factors(self) -> Sequence[Rotation]:
        """Rotations in the order in which they act on the mass states: the rightmost factor of U first."""

    @property
    @abstractmethod
    def squared_masses(self) -> Tensor:
        """m_k^2 - m_1^2 with shape (*, N), in eV^2; the first is zero."""

    @property
    def flavors(self) -> tuple[str, ...]:
        """Names of the N flavors in the order of the rows of U: e, mu, tau, then s or s1, s2, ..."""
        count = self.squared_masses.shape[-1]
        sterile = ("s",) if count == 4 else tuple(f"s{k}" for k in range(1, count - 2))
        return ("e", "mu", "tau")[:count] + sterile

    @property
    def pmns(self) -> Tensor:
        """U with shape (*, N, N), complex128: flavors in rows, mass states in columns."""
        count = self.squared_masses.shape[-1]
        rows = list(torch.eye(count, dtype=torch.complex128))
        for rotation in self.factors():
            i, j = rotation.first - 1, rotation.second - 1
            cosine, sine = (part.unsqueeze(-1) for part in rotation.elements())
            rows[i], rows[j] = cosine * rows[i] + sine * rows[j], cosine * rows[j] - sine.conj() * rows[i]
        return torch.stack(_broadcast(rows), dim=-2)

    @property
    def splittings(self) -> Tensor:
        """dm2_ij = m_i^2 - m_j^2 with shape (*, P), in eV^2, for the pairs 21, 31, 32, 41, 42, 43, ..."""
        masses = self.squared_masses.unbind(-1)
        return torch.stack([masses[i] - masses[j] for i in range(len(masses)) for j in range(i)], dim=-1)

    @property
    def electron_weights(self) -> Tensor:
        """|U_ei|^2 with shape (*, N)."""
        return _modulus_squared(self.pmns[..., 0, :])

    def survival_weights(self, flavor: int = 0) -> Tensor:
        """4 |U_ai|^2 |U_aj|^2 with shape (*, P), pairs as in `splittings`; `flavor` is the row a of U."""
        weights = _modulus_squared(self.pmns[..., flavor, :]).unbind(-1)
        return torch.stack([4.0 * weights[i] * weights[j] for i in range(len(weights)) for j in range(i)], dim=-1)


@dataclass(frozen=True, eq=False)
class Rotation:
    """R_ij(delta), mixing the states `first` < `second`, counted from 1.

    Raises InputError (a ValueError) where the states are not in order.
    """

    first: int
    second: int
    sin2_theta: Value
    delta: Value = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.first < self.second:
            raise InputError(f"first, second: expected 1 <= first < second, got {self.first}, {self.second}")

    def elements(self) -> tuple[Tensor, Tensor]:
        """cos(theta), real, and sin(theta) e^{-i delta}, complex, each with shape (*)."""
        sin2 = double(self.sin2_theta).clamp(0.0, 1.0)
        floor = _SQRT_FLOOR if isinstance(self.sin2_theta, Tensor) else 0.0
        sine, cosine = (sin2 + floor).sqrt(), (1.0 - sin2 + floor).sqrt()
        sine, delta = _broadcast([sine, double(self.delta)])
        return cosine, torch.complex(sine * delta.cos(), -sine * delta.sin())


@dataclass(frozen=True, eq=False, kw_only=True)
class NFlavor(Mixing):
    """Any number of flavors: U is the product of `rotations`, the first in the list acting first (rightmost).

    `dm2_k1` are dm2_21, dm2_31, ..., dm2_N1 in eV^2. Raises InputError (a ValueError) without any splitting, for
    a rotation of a state beyond N, and for sin2_theta outside [0, 1].

    >>> two = NFlavor(rotations=[Rotation(1, 2, sin2_theta=0.25)], dm2_k1=[2.5e-3])
    >>> [round(weight, 12) for weight in two.electron_weights.tolist()]
    [0.75, 0.25]
    """

    rotations: Sequence[Rotation]
    dm2_k1: Sequence[Value]

    def __post_init__(self) -> None:
        count = len(self.dm2_k1) + 1
        if count < 2:
            raise InputError("dm2_k1: expected dm2_21, dm2_31, ... for at least two flavors, got none")
        for rotation in self.rotations:
            name = f"R{rotation.first}{rotation.second}"
            if rotation.second > count:
                raise InputError(f"rotations: {name} needs {rotation.second} states, dm2_k1 defines {count}")
            check_fraction(f"sin2_theta of {name}", rotation.sin2_theta)

    def factors(self) -> Sequence[Rotation]:
        return self.rotations

    @property
    def squared_masses(self) -> Tensor:
        return stack([0.0, *self.dm2_k1])


def double(value: Value) -> Tensor:
    """A parameter as a float64 tensor with shape (*)."""
    return torch.as_tensor(value, dtype=torch.float64)


def stack(values: Sequence[Value]) -> Tensor:
    """Values with shapes (*) as one tensor with shape (*, len(values))."""
    return torch.stack(_broadcast(list(map(double, values))), dim=-1)


def _broadcast(tensors: Sequence[Tensor]) -> list[Tensor]:
    broadcast: list[Tensor] = list(torch.broadcast_tensors(*tensors))
    return broadcast


def _modulus_squared(amplitude: Tensor) -> Tensor:
    return amplitude.real.square() + amplitude.imag.square()


def check_fraction(name: str, value: Value | None) -> None:
    """Refuse a mixing value outside [0, 1]; a NaN passes, so that one bad lane does not stop a batch."""
    if value is None:
        return
    if not isinstance(value, Tensor) and -_ROUNDING <= value <= 1.0 + _ROUNDING:
        return
    values = double(value).detach()
    outside = (values - 0.5).abs() > 0.5 + _ROUNDING
    if bool(outside.any()):
        given = values[outside].flatten()[0].item()
        raise InputError(f"{name}: expected values in [0, 1], got {given:g}: it is a squared sine, not an angle")
