"""Published values of the oscillation parameters, each with edition and source, and conversions of splittings.

Values are checked when they are loaded: sin^2 in (0, 1), dm2_21 > 0, and the sign of dm2_31 that of the ordering.
"""

from __future__ import annotations

import math

from nuppl.errors import InputError
from nuppl.physics.mixing import Value
from nuppl.physics.parametrisation import NUFIT_6_0, GlobalFit

__all__ = ["REFERENCES", "dm2_31_from_dm2_32", "dm2_31_from_dm2_ee", "dm2_32_from_dm2_31", "dm2_ee_from_dm2_31"]


def dm2_31_from_dm2_32(dm2_32: Value, dm2_21: Value) -> Value:
    """dm2_31 = dm2_32 + dm2_21, in either ordering (dm2_32 < 0 is inverted).

    >>> round(dm2_31_from_dm2_32(-2.484e-3, 7.49e-5), 9)
    -0.0024091
    """
    return dm2_32 + dm2_21


def dm2_32_from_dm2_31(dm2_31: Value, dm2_21: Value) -> Value:
    """dm2_32 = dm2_31 - dm2_21."""
    return dm2_31 - dm2_21


def dm2_ee_from_dm2_31(dm2_31: Value, dm2_21: Value, sin2_theta12: Value) -> Value:
    """dm2_ee = c12^2 dm2_31 + s12^2 dm2_32 (Nunokawa, Parke, Zukanovich Funchal, Phys. Rev. D 72, 013009).

    >>> round(dm2_ee_from_dm2_31(2.5e-3, 7.5e-5, 0.3), 9)
    0.0024775
    """
    return dm2_31 - sin2_theta12 * dm2_21


def dm2_31_from_dm2_ee(dm2_ee: Value, dm2_21: Value, sin2_theta12: Value) -> Value:
    """The inverse of `dm2_ee_from_dm2_31`."""
    return dm2_ee + sin2_theta12 * dm2_21


def _checked(fits: dict[str, GlobalFit]) -> dict[str, GlobalFit]:
    for name, fit in fits.items():
        sines = (fit.sin2_theta12, fit.sin2_theta13, fit.sin2_theta23)
        inverted = "inverted" in fit.edition
        if not all(0.0 < sine < 1.0 for sine in sines) or fit.dm2_21 <= 0.0 or (fit.dm2_31 < 0.0) != inverted:
            raise InputError(
                f"{name}: expected sin^2 in (0, 1), dm2_21 > 0, dm2_31 with the sign of its ordering: {fit}"
            )
    return fits


_NUFIT_6_0_INVERTED = GlobalFit(
    edition=NUFIT_6_0.edition.replace("normal", "inverted"),
    sin2_theta12=0.308,
    sin2_theta13=0.02231,
    sin2_theta23=0.550,
    delta_cp=math.radians(274.0),
    dm2_21=7.49e-5,
    dm2_31=-2.484e-3 + 7.49e-5,  # NuFIT quotes dm2_32 in this ordering
)

REFERENCES = _checked({"nufit-6.0-normal": NUFIT_6_0, "nufit-6.0-inverted": _NUFIT_6_0_INVERTED})
"""Global fits by name."""
