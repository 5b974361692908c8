"""Daya Bay: 5.5 million reactor antineutrinos in eight detectors, with every systematic uncertainty of the analysis.

    release = dayabay.load()                                      # data, exposures, tables
    expected = dayabay.expected(release, mixing, dayabay.pulls(release))      # (8, 26), inside a model

Data: Zenodo 17587229 (CC-BY-4.0), package dayabay-data-official; analysis: Phys. Rev. Lett. 130, 161802 (2023).

| file                | what it holds                                                       |
|---------------------|---------------------------------------------------------------------|
| dayabay_files       | readers of the release                                              |
| dayabay_release     | the release: counts, exposures, tables, errors                      |
| dayabay_systematics | pulls, their plates                                                 |
| dayabay_sources     | fissions, spectra, flux at the detectors                            |
| dayabay_exact       | the prediction with every systematic as it is: the reference        |
| dayabay_chain       | the response for many points at once                                |
| dayabay_templates   | flux and cross section folded in fine bins                          |
| dayabay_folded      | the prediction from templates                                       |
| dayabay_waves       | fast oscillations folded in fine bins, for each reactor             |
| dayabay_sterile     | templates for a fourth neutrino                                     |

Differences from the official model (dayabay-model 1.7.1): the quadrature is converged; the free spectrum correction is
linear in its values and constant beyond its last knot, and contains the normalisation; errors of the rates of AmC,
lithium-helium and fast-neutron backgrounds are taken as the release states them, in events per day, where that model
applies the same figures as relative errors.
"""

from __future__ import annotations

from torch import Tensor

from nuppl.errors import unknown
from nuppl.experiments import dayabay_exact, dayabay_folded
from nuppl.experiments.dayabay_release import DETECTORS, Release, load
from nuppl.experiments.dayabay_systematics import Pulls, pulls, solar
from nuppl.physics.oscillation import Mixing

__all__ = ["FAR", "NEAR", "SOURCES", "Pulls", "Release", "expected", "load", "pulls", "solar"]

NEAR, FAR = DETECTORS[:4], DETECTORS[4:]
"""The detectors of the near halls, about 500 m from the nearest cores, and of the far hall, about 1600 m."""

SOURCES = (
    "Daya Bay Collaboration, Full Data Release of the Daya Bay Reactor Neutrino Experiment, Zenodo (2025), CC-BY-4.0, "
    "doi:10.5281/zenodo.17587229; package dayabay-data-official",
    "F. P. An et al. (Daya Bay Collaboration), Precision Measurement of Reactor Antineutrino Oscillation at "
    "Kilometer-Scale Baselines by Daya Bay, Phys. Rev. Lett. 130, 161802 (2023), "
    "doi:10.1103/PhysRevLett.130.161802, arXiv:2211.14988",
)
"""What the release asks its users to cite."""


def expected(release: Release, mixing: Mixing, pulls: Pulls, response: str = "templates") -> Tensor:
    """Expected counts per detector and bin of prompt energy.

    Arguments:
        release: what `load` returns.
        mixing: three flavors, or four.
        pulls: what `pulls` returns, or values of ones own.
        response: "templates" for speed; "exact" for the non-linear reference, some hundred times slower.

    Returns:
        with shape (*batch, 1, 1, 8, 26), or (8, 26) without batch. Points beyond the templates (|dm2_31| or |dm2_32|
        above 5e-3 eV^2, a sterile splitting above 12 eV^2) are computed exactly when single, and NaN in a batch.

    Raises:
        InputError: an unknown `response`.
    """
    if response == "exact":
        return dayabay_exact.expected(release, mixing, pulls)
    if response != "templates":
        raise unknown("response", response, ("templates", "exact"))
    counts = dayabay_folded.expected(release, mixing, pulls)
    if counts.ndim == 2 and bool(counts.isnan().any()):
        return dayabay_exact.expected(release, mixing, pulls)
    return counts
