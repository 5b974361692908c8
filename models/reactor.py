"""Daya Bay: theta13 and dm2_32 from 5.5 million reactor antineutrinos in eight detectors.

Data: Daya Bay Collaboration, Full Data Release, Zenodo 17587229 (2025), CC-BY-4.0; published result
sin2_2theta13 = 0.0851 +- 0.0024, dm2_32 = (2.466 +- 0.060)e-3 eV^2, Phys. Rev. Lett. 130, 161802 (2023).
"""

import pyro.distributions as dist

import nuppl
from nuppl.experiments import dayabay
from nuppl.physics import oscillation

release = dayabay.load()


@nuppl.model(
    interest=("sin2_2theta13", "dm2_32"),
    reference={"sin2_2theta13": 0.0},
    panels={"near": dayabay.NEAR, "far": dayabay.FAR},
    sources=dayabay.SOURCES,
)
def reactor(response: str = "templates") -> None:
    """Normal ordering. Option `response`: "templates", or "exact" for the non-linear reference."""
    mixing = oscillation.ThreeFlavor(
        sin2_2theta13=nuppl.parameter("sin2_2theta13", dist.Uniform(0.0, 0.2), label=r"\sin^2 2\theta_{13}"),
        dm2_32=nuppl.parameter("dm2_32", dist.Uniform(2.0e-3, 3.0e-3), unit="eV^2", label=r"\Delta m^2_{32}"),
        **dayabay.solar(release),
    )
    expected = dayabay.expected(release, mixing, dayabay.pulls(release), response=response)
    with (
        nuppl.plate("detector", release.detectors, dim=-2),
        nuppl.plate("prompt_energy", release.centers, dim=-1, unit="MeV"),
    ):
        nuppl.observe("counts", dist.Poisson(expected), release.counts, unit="events")
