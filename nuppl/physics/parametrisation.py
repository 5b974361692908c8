"""Parametrisations of the mixing of three flavors and of three and a sterile one, with published default values.

    |U_e1|^2 = c12^2 c13^2 c14^2,  |U_e2|^2 = s12^2 c13^2 c14^2,  |U_e3|^2 = s13^2 c14^2,  |U_e4|^2 = s14^2

Survival of electron flavor needs these alone, so it is computed from them in closed form, without the matrix.
Where theta is given as sin2_2theta, it is at most 45 degrees and goes like sqrt(1 - sin2_2theta) at maximal mixing. The
gradient of that part is infinite there and is left out (taken as zero), so it is never NaN; the terms linear in
sin2_2theta, as the leading ones of electron survival are, keep theirs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from nuppl.errors import InputError
from nuppl.physics.mixing import Mixing, Rotation, Value, check_fraction, double, stack

__all__ = ["NUFIT_6_0", "FourFlavor", "GlobalFit", "ThreeFlavor"]

_COS_FLOOR = 1e-40  # below any nonzero 1 - sin2_2theta, so it acts at exactly 1 alone


class GlobalFit(NamedTuple):
    """Best-fit values of a published global fit: angles as sin^2, dm2 in eV^2, delta_cp in rad."""

    edition: str
    sin2_theta12: float
    sin2_theta13: float
    sin2_theta23: float
    delta_cp: float
    dm2_21: float
    dm2_31: float


NUFIT_6_0 = GlobalFit(
    edition="NuFIT 6.0 (2024), normal ordering, with Super-Kamiokande and IceCube atmospheric tables; arXiv:2410.05380",
    sin2_theta12=0.308,
    sin2_theta13=0.02215,
    sin2_theta23=0.470,
    delta_cp=math.radians(212.0),
    dm2_21=7.49e-5,
    dm2_31=2.513e-3,
)
"""Source of the default values below."""


@dataclass(frozen=True, eq=False, kw_only=True)
class ThreeFlavor(Mixing):
    """Three flavors: theta13 from exactly one of sin2_2theta13 (theta13 up to 45 degrees) and sin2_theta13, the
    atmospheric splitting from exactly one of dm2_31 and dm2_32.

    dm2 in eV^2, delta_cp in rad; the sign of dm2_31 is the mass ordering (give dm2_32 < 0 for inverted ordering, as
    NuFIT quotes it). What is not given comes from `NUFIT_6_0`. Raises InputError (a ValueError) where both or neither
    of a pair are given, or a mixing value leaves [0, 1].

    >>> mixing = ThreeFlavor(sin2_2theta13=0.085, dm2_32=2.47e-3, dm2_21=7.5e-5)
    >>> round(mixing.squared_masses[2].item(), 9)
    0.002545
    """

    sin2_2theta13: Value | None = None
    sin2_theta13: Value | None = None
    dm2_31: Value | None = None
    dm2_32: Value | None = None
    sin2_theta12: Value = NUFIT_6_0.sin2_theta12
    sin2_theta23: Value = NUFIT_6_0.sin2_theta23
    delta_cp: Value = NUFIT_6_0.delta_cp
    dm2_21: Value = NUFIT_6_0.dm2_21

    def __post_init__(self) -> None:
        _check_one_of(sin2_2theta13=self.sin2_2theta13, sin2_theta13=self.sin2_theta13)
        _check_one_of(dm2_31=self.dm2_31, dm2_32=self.dm2_32)
        for name in ("sin2_2theta13", "sin2_theta13", "sin2_theta12", "sin2_theta23"):
            check_fraction(name, getattr(self, name))

    def factors(self) -> tuple[Rotation, ...]:
        return (
            Rotation(1, 2, self.sin2_theta12),
            Rotation(1, 3, _sin2(self.sin2_theta13, self.sin2_2theta13), self.delta_cp),
            Rotation(2, 3, self.sin2_theta23),
        )

    @property
    def squared_masses(self) -> Tensor:
        return stack(self._squared_masses())

    @property
    def electron_weights(self) -> Tensor:
        """|U_ei|^2 with shape (*, N) in closed form: c12^2 c13^2, s12^2 c13^2, s13^2, times c14^2; then s14^2."""
        weights = [double(1.0)]
        for angle in self._electron_angles():
            weights = [weight * (1.0 - angle.sin2) for weight in weights] + [angle.sin2]
        return stack(weights)

    def survival_weights(self, flavor: int = 0) -> Tensor:
        """4 |U_ai|^2 |U_aj|^2 with shape (*, P), for electrons in closed form and linear in sin2_2theta_1j."""
        if flavor != 0:
            return super().survival_weights(flavor)
        pairs: list[Tensor] = []
        weights = [double(1.0)]
        for angle in self._electron_angles():
            cos2 = 1.0 - angle.sin2
            pairs = [pair * cos2.square() for pair in pairs] + [angle.sin2_2theta * weight for weight in weights]
            weights = [weight * cos2 for weight in weights] + [angle.sin2]
        return stack(pairs)

    def _electron_angles(self) -> list[_Angle]:
        """theta_12, theta_13, ...: the angles in the electron's row of U."""
        return [_angle(self.sin2_theta12, None), _angle(self.sin2_theta13, self.sin2_2theta13)]

    def _squared_masses(self) -> list[Value]:
        if self.dm2_31 is not None:
            return [0.0, self.dm2_21, self.dm2_31]
        assert self.dm2_32 is not None  # __post_init__ saw to it
        return [0.0, self.dm2_21, self.dm2_32 + self.dm2_21]


@dataclass(frozen=True, eq=False, kw_only=True)
class FourFlavor(ThreeFlavor):
    """Three active flavors and a sterile one (3+1): `ThreeFlavor` and dm2_41 = m_4^2 - m_1^2 in eV^2, theta14 from
    exactly one of sin2_2theta14 (theta14 up to 45 degrees) and sin2_theta14, and the phases delta_14 and delta_24 in
    rad. theta24 and theta34 are zero unless given. Raises as `ThreeFlavor` does.

    >>> mixing = FourFlavor(sin2_2theta13=0.085, dm2_32=2.47e-3, sin2_2theta14=1.0, dm2_41=0.1)
    >>> round(mixing.electron_weights[3].item(), 12)
    0.5
    """

    dm2_41: Value
    sin2_2theta14: Value | None = None
    sin2_theta14: Value | None = None
    sin2_theta24: Value = 0.0
    sin2_theta34: Value = 0.0
    delta_14: Value = 0.0
    delta_24: Value = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_one_of(sin2_2theta14=self.sin2_2theta14, sin2_theta14=self.sin2_theta14)
        for name in ("sin2_2theta14", "sin2_theta14", "sin2_theta24", "sin2_theta34"):
            check_fraction(name, getattr(self, name))

    def factors(self) -> tuple[Rotation, ...]:
        return (
            *super().factors(),
            Rotation(1, 4, _sin2(self.sin2_theta14, self.sin2_2theta14), self.delta_14),
            Rotation(2, 4, self.sin2_theta24, self.delta_24),
            Rotation(3, 4, self.sin2_theta34),
        )

    def _electron_angles(self) -> list[_Angle]:
        return [*super()._electron_angles(), _angle(self.sin2_theta14, self.sin2_2theta14)]

    def _squared_masses(self) -> list[Value]:
        return [*super()._squared_masses(), self.dm2_41]


class _Angle(NamedTuple):
    sin2: Tensor
    sin2_2theta: Tensor


def _angle(sin2_theta: Value | None, sin2_2theta: Value | None) -> _Angle:
    """Both functions of an angle from the one that is given; theta <= 45 degrees where that is sin2_2theta."""
    if sin2_theta is not None:
        sin2 = double(sin2_theta).clamp(0.0, 1.0)
        return _Angle(sin2, 4.0 * sin2 * (1.0 - sin2))
    assert sin2_2theta is not None  # __post_init__ saw to it
    doubled = double(sin2_2theta).clamp(0.0, 1.0)
    cosine = (1.0 - doubled).clamp(min=_COS_FLOOR).sqrt()  # of 2 theta; at the floor its gradient is zero
    return _Angle(doubled / (2.0 * (1.0 + cosine)), doubled)  # (1 - cos 2 theta)/2 without its cancellation


def _sin2(sin2_theta: Value | None, sin2_2theta: Value | None) -> Value:
    """sin^2(theta), as a float where the given one is a float, which `Rotation` takes for a constant."""
    sin2 = _angle(sin2_theta, sin2_2theta).sin2
    return sin2 if isinstance(sin2_theta, Tensor) or isinstance(sin2_2theta, Tensor) else sin2.item()


def _check_one_of(**given: Value | None) -> None:
    names = list(given)
    present = [name for name in names if given[name] is not None]
    if len(present) != 1:
        raise InputError(f"{' and '.join(names)}: expected exactly one of them, got {len(present)}: give one")
