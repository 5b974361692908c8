"""Neutrino oscillation: mixing, probabilities in vacuum, in matter and through the Earth, initial states, averages.

    from nuppl.physics import oscillation

Everything is in float64 and differentiable in every parameter. Parameters, energies and baselines broadcast from the
right. In vacuum energies and baselines are in MeV and m or in GeV and km, which is the same; in matter in GeV and km.
"""

from __future__ import annotations

from nuppl.physics.damping import damped_probability
from nuppl.physics.earth import PREM, Earth, Shell, earth_probability, path_length, profile_probability, profile_slabs
from nuppl.physics.matter import matter_probability, slabs_probability
from nuppl.physics.mixing import Mixing, NFlavor, Rotation
from nuppl.physics.parametrisation import NUFIT_6_0, FourFlavor, ThreeFlavor
from nuppl.physics.potentials import MATTER_POTENTIAL, nonstandard
from nuppl.physics.reference import (
    REFERENCES,
    dm2_31_from_dm2_32,
    dm2_31_from_dm2_ee,
    dm2_32_from_dm2_31,
    dm2_ee_from_dm2_31,
)
from nuppl.physics.states import adiabatic_weights, arriving, averaged_probability
from nuppl.physics.vacuum import probability, survival_terms

__all__ = [
    "MATTER_POTENTIAL",
    "NUFIT_6_0",
    "PREM",
    "REFERENCES",
    "Earth",
    "FourFlavor",
    "Mixing",
    "NFlavor",
    "Rotation",
    "Shell",
    "ThreeFlavor",
    "adiabatic_weights",
    "arriving",
    "averaged_probability",
    "damped_probability",
    "dm2_31_from_dm2_32",
    "dm2_31_from_dm2_ee",
    "dm2_32_from_dm2_31",
    "dm2_ee_from_dm2_31",
    "earth_probability",
    "matter_probability",
    "nonstandard",
    "path_length",
    "probability",
    "profile_probability",
    "profile_slabs",
    "slabs_probability",
    "survival_terms",
]
