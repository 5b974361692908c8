"""Daya Bay with a fourth neutrino: theta14 and dm2_41, beside theta13 and dm2_32.

Data: Daya Bay Collaboration, Full Data Release, Zenodo 17587229 (2025), CC-BY-4.0. Earlier search in these detectors:
Phys. Rev. Lett. 133, 051801 (2024), arXiv:2404.01687. Where dm2_41 comes near dm2_31 the two angles trade places.
"""

import pyro.distributions as dist

import nuppl
from nuppl.errors import unknown
from nuppl.experiments import dayabay
from nuppl.physics import oscillation

release = dayabay.load()
PRIORS = {"uniform": dist.Uniform(0.0, 1.0), "log": nuppl.LogUniform(1e-4, 1.0)}
# Above 0.3 eV^2 near and far detectors see the same average, which a free spectrum hides at any mixing.
SPLITTINGS = {"wide": nuppl.LogUniform(1e-3, 10.0), "relative": nuppl.LogUniform(1e-3, 0.3)}


@nuppl.model(
    interest=("sin2_2theta14", "dm2_41"),
    reference={"sin2_2theta14": 0.0},
    panels={"near": dayabay.NEAR, "far": dayabay.FAR},
    sources=dayabay.SOURCES,
    # At dm2_41 = dm2_31 the fourth state can take theta13's place.
    starts=[{"sin2_2theta13": 0.005, "sin2_2theta14": 0.085, "dm2_41": 2.5e-3}],
)
def reactor_sterile(mixing_prior: str = "uniform", splittings: str = "wide", response: str = "templates") -> None:
    """Normal ordering, dm2_41 > 0.

    Options: `mixing_prior`, "uniform" on [0, 1] or "log" from 1e-4, for sin2_2theta14; `splittings`, "wide" up to
    10 eV^2 or "relative" up to 0.3; `response`, "templates", or "exact" for the non-linear reference.
    """
    if mixing_prior not in PRIORS:
        raise unknown("mixing_prior", mixing_prior, PRIORS)
    if splittings not in SPLITTINGS:
        raise unknown("splittings", splittings, SPLITTINGS)
    mixing = oscillation.FourFlavor(
        sin2_2theta13=nuppl.parameter("sin2_2theta13", dist.Uniform(0.0, 0.2), label=r"\sin^2 2\theta_{13}"),
        dm2_32=nuppl.parameter("dm2_32", dist.Uniform(2.0e-3, 3.0e-3), unit="eV^2", label=r"\Delta m^2_{32}"),
        sin2_2theta14=nuppl.parameter("sin2_2theta14", PRIORS[mixing_prior], label=r"\sin^2 2\theta_{14}"),
        dm2_41=nuppl.parameter("dm2_41", SPLITTINGS[splittings], unit="eV^2", label=r"\Delta m^2_{41}"),
        **dayabay.solar(release),
    )
    expected = dayabay.expected(release, mixing, dayabay.pulls(release), response=response)
    with (
        nuppl.plate("detector", release.detectors, dim=-2),
        nuppl.plate("prompt_energy", release.centers, dim=-1, unit="MeV"),
    ):
        nuppl.observe("counts", dist.Poisson(expected), release.counts, unit="events")
