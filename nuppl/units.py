"""Constants of nature, as plain Python floats.

Energies are in MeV and lengths in metres for reactors and sources, in GeV and km for beams and the atmosphere. Their
ratio L/E is the same number in both: 1 km/GeV = 1 m/MeV. The defining constants of the SI are exact (2019 revision,
hence CODATA 2018 and 2022 alike; BIPM, The International System of Units, 9th edition).
"""

from __future__ import annotations

import math

__all__ = [
    "ELEMENTARY_CHARGE",
    "HBAR_C",
    "OSCILLATION_PHASE",
    "PLANCK",
    "SPEED_OF_LIGHT",
]

SPEED_OF_LIGHT = 299_792_458.0
"""c in m/s, exact."""

PLANCK = 6.626_070_15e-34
"""h in J s, exact."""

ELEMENTARY_CHARGE = 1.602_176_634e-19
"""e in C, exact; the joules in one eV."""

HBAR_C = PLANCK * SPEED_OF_LIGHT / (2.0 * math.pi * ELEMENTARY_CHARGE)
"""hbar c in eV m: 1.973269804...e-7."""

OSCILLATION_PHASE = 1e-6 / (4.0 * HBAR_C)
"""1/(4 hbar c) in MeV/(eV^2 m), which is also GeV/(eV^2 km): phase = 1.2669327 dm2 L/E, in rad."""
