"""Constants of nature and unit converters, as plain Python floats.

Energies are in MeV and lengths in metres for reactors and sources, in GeV and km for beams and the atmosphere. Their
ratio L/E is the same number in both: 1 km/GeV = 1 m/MeV. The defining constants of the SI are exact (2019 revision,
hence CODATA 2018 and 2022 alike; BIPM, The International System of Units, 9th edition).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "ELEMENTARY_CHARGE",
    "HBARC_MEV_CM",
    "HBAR_C",
    "HBAR_MEV_S",
    "OSCILLATION_PHASE",
    "PLANCK",
    "SPEED_OF_LIGHT",
    "gev_to_mev",
    "km_to_m",
    "m_to_km",
    "mev_to_gev",
]

SPEED_OF_LIGHT = 299_792_458.0
"""c in m/s, exact."""

PLANCK = 6.626_070_15e-34
"""h in J s, exact."""

ELEMENTARY_CHARGE = 1.602_176_634e-19
"""e in C, exact; the joules in one eV."""

HBAR_C = PLANCK * SPEED_OF_LIGHT / (2.0 * math.pi * ELEMENTARY_CHARGE)
"""hbar c in eV m: 1.973269804...e-7."""

HBAR_MEV_S = 1e-6 * HBAR_C / SPEED_OF_LIGHT
"""hbar in MeV s: 6.582119569...e-22."""

HBARC_MEV_CM = 1e-4 * HBAR_C
"""hbar c in MeV cm: 1.973269804...e-11."""

OSCILLATION_PHASE = 1e-6 / (4.0 * HBAR_C)
"""1/(4 hbar c) in MeV/(eV^2 m), which is also GeV/(eV^2 km): phase = 1.2669327 dm2 L/E, in rad."""

_Quantity = TypeVar("_Quantity", float, "Tensor")


def gev_to_mev(energy: _Quantity) -> _Quantity:
    """Energy in MeV from GeV.

    >>> gev_to_mev(2.5)
    2500.0
    """
    return energy * 1e3


def mev_to_gev(energy: _Quantity) -> _Quantity:
    """Energy in GeV from MeV.

    >>> mev_to_gev(2500.0)
    2.5
    """
    return energy / 1e3


def km_to_m(length: _Quantity) -> _Quantity:
    """Length in metres from km.

    >>> km_to_m(1.6)
    1600.0
    """
    return length * 1e3


def m_to_km(length: _Quantity) -> _Quantity:
    """Length in km from metres.

    >>> m_to_km(1600.0)
    1.6
    """
    return length / 1e3
