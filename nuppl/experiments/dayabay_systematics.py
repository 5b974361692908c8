"""The systematic uncertainties of Daya Bay: which there are, on which axes they live, and how they are correlated.

Each entry is a standard normal pull, except the free spectrum correction. Correlated quantities are Cholesky factor
times independent pulls: relative efficiency with energy scale per detector, fission fractions between isotopes. Sizes
and correlations come with the release; the analysis is Phys. Rev. Lett. 130, 161802 (2023).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, fields
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor

import nuppl
from nuppl.errors import InputError
from nuppl.experiments.dayabay_release import DETECTORS, HALLS, ISOTOPES, NONEQUILIBRIUM, PERIODS, REACTORS, Release

__all__ = ["Axis", "Pulls", "axes", "by_lane", "lanes_of", "pulls", "sin2_theta", "solar"]

_ZERO = torch.zeros((), dtype=torch.float64)


@dataclass(frozen=True)
class Axis:
    """A plate: its name, coordinates and dim."""

    name: str
    coords: tuple[Any, ...]
    dim: int


@dataclass(frozen=True)
class Pulls:
    """Values of all systematics, zero where not given; shapes are those of sites in the plates of `axes`.

    In the fast path batch axes stand left of dim -4.
    """

    spectrum_correction: Tensor = _ZERO  # free: S(E) = 1 + value at 19 knots, linear in between
    spectrum_uncorrelated: Tensor = _ZERO  # Huber-Mueller errors, per isotope and knot
    spectrum_correlated: Tensor = _ZERO
    thermal_power: Tensor = _ZERO
    energy_per_fission: Tensor = _ZERO
    fission_fractions: Tensor = _ZERO
    nonequilibrium: Tensor = _ZERO
    spent_fuel: Tensor = _ZERO
    efficiency: Tensor = _ZERO
    energy_scale: Tensor = _ZERO
    energy_loss: Tensor = _ZERO
    nonlinearity: Tensor = _ZERO
    resolution: Tensor = _ZERO
    accidentals: Tensor = _ZERO
    alpha_neutron: Tensor = _ZERO
    amc: Tensor = _ZERO
    lithium_helium: Tensor = _ZERO
    fast_neutrons: Tensor = _ZERO


_LABELS = {
    "spectrum_correction": r"S",
    "spectrum_uncorrelated": r"\delta\phi^\mathrm{unc}",
    "spectrum_correlated": r"\delta\phi^\mathrm{cor}",
    "thermal_power": r"\delta W",
    "energy_per_fission": r"\delta e",
    "fission_fractions": r"\delta f",
    "nonequilibrium": r"\delta_\mathrm{NEQ}",
    "spent_fuel": r"\delta_\mathrm{SNF}",
    "efficiency": r"\delta\epsilon",
    "energy_scale": r"\delta E",
    "energy_loss": r"\delta_\mathrm{IAV}",
    "nonlinearity": r"\delta_\mathrm{LSNL}",
    "resolution": r"\delta\sigma_E",
    "accidentals": r"\delta_\mathrm{acc}",
    "alpha_neutron": r"\delta_{\alpha n}",
    "amc": r"\delta_\mathrm{AmC}",
    "lithium_helium": r"\delta_\mathrm{Li/He}",
    "fast_neutrons": r"\delta_\mathrm{fast\,n}",
}


@functools.cache
def axes(release: Release) -> dict[str, tuple[Axis, ...]]:
    """The plates of each systematic, outermost first; empty for one number."""
    reactor, isotope = Axis("reactor", REACTORS, -3), Axis("isotope", ISOTOPES, -4)
    detector = Axis("detector", DETECTORS, -2)
    hall, period = Axis("hall", HALLS, -3), Axis("period", PERIODS, -4)
    runs = tuple(
        f"{DETECTORS[d]}_{PERIODS[p]}" for p, d in release.active.nonzero().tolist()
    )  # two detectors came later, one left early
    run = Axis("detector_period", runs, -3)
    return {
        "spectrum_correction": (Axis("correction_energy", _floats(release.correction_energy), -3),),
        "spectrum_uncorrelated": (isotope, Axis("spectrum_energy", _floats(release.spectrum_energy), -3)),
        "spectrum_correlated": (),
        "thermal_power": (reactor,),
        "energy_per_fission": (isotope,),
        "fission_fractions": (isotope, reactor),
        "nonequilibrium": (Axis("nonequilibrium_isotope", NONEQUILIBRIUM, -4), reactor),
        "spent_fuel": (reactor,),
        "efficiency": (detector,),
        "energy_scale": (detector,),
        "energy_loss": (detector,),
        "nonlinearity": (Axis("nonlinearity_curve", ("pull0", "pull1", "pull2", "pull3"), -3),),
        "resolution": (Axis("resolution_term", ("nonuniformity", "statistics", "noise"), -3),),
        "accidentals": (run,),
        "alpha_neutron": (run,),
        "amc": (),
        "lithium_helium": (period, hall),
        "fast_neutrons": (period, hall),
    }


def _floats(values: Tensor) -> tuple[float, ...]:
    return tuple(round(value, 6) for value in values.tolist())


def pulls(release: Release) -> Pulls:
    """Sample every systematic in its plates.

    The spectrum correction is a free parameter: with it the measurement of oscillation rests on the comparison of
    detectors. Its prior matters to a posterior, not to a fit: a flat one gives weight to wide resolutions, under which
    more spectra describe the data, and moves dm2_32 up by a third of its error. A change common to all knots is the
    normalisation of the flux, which therefore has no parameter of its own.
    """
    values = {}
    for name, plates in axes(release).items():
        with ExitStack() as stack:
            for axis in plates:
                stack.enter_context(nuppl.plate(axis.name, axis.coords, dim=axis.dim))
            if name == "spectrum_correction":
                values[name] = nuppl.parameter(name, dist.Normal(0.0, _correction_width(release)), label=_LABELS[name])
            else:
                values[name] = nuppl.pull(name, label=_LABELS[name])
    return Pulls(**values)


def _correction_width(release: Release) -> Tensor:
    """Prior deviation of the spectrum correction per knot, with shape (19, 1, 1).

    Measured spectra differ from Huber-Mueller by up to 10 % (the shoulder at 6 MeV, arXiv:1508.04233); above 8 MeV the
    tables are extrapolations and may be wrong by half.
    """
    return torch.where(release.correction_energy <= 8.0, 0.1, 0.5).to(torch.float64)[:, None, None]


def solar(release: Release) -> dict[str, Tensor]:
    """sin2_theta12 and dm2_21 (eV^2), from pulls on sin2_2theta12 and dm2_21 with the errors of the release."""
    double_angle = nuppl.pull(
        "sin2_2theta12", dist.Normal(*release.solar["sin2_2theta12"]), label=r"\sin^2 2\theta_{12}"
    )
    splitting = nuppl.pull("dm2_21", dist.Normal(*release.solar["dm2_21"]), unit="eV^2", label=r"\Delta m^2_{21}")
    return {"sin2_theta12": sin2_theta(double_angle), "dm2_21": splitting}


def sin2_theta(sin2_2theta: Tensor) -> Tensor:
    """sin^2 of an angle up to 45 degrees from sin^2 of its double; values above 1 are taken as 1, below 0 as NaN."""
    angle = 0.5 * (1.0 - (1.0 - sin2_2theta).clamp_min(1e-12).sqrt())
    return torch.where(sin2_2theta < 0.0, torch.nan, angle)


def by_lane(value: Tensor, sizes: Mapping[int, int], name: str) -> Tensor:
    """Bring a site to shape (*batch, *sizes): its plates become plain axes, in order of their dims.

    Arguments:
        value: with shape (*batch, 1 or size at dims -4 to -1), shorter where the left axes are absent.
        sizes: the size at each dim, outermost first; the other dims up to -4 must be 1.

    Raises:
        InputError: a size that does not fit.
    """
    padded = value.reshape((1,) * (4 - value.ndim) + value.shape)
    block = [sizes.get(dim, 1) for dim in range(-4, 0)]
    if any(have not in (1, want) for have, want in zip(padded.shape[-4:], block, strict=True)):
        raise InputError(
            f"{name}: expected shape (*batch, {', '.join(map(str, block))}), got {tuple(value.shape)}: "
            "put batch axes left of dim -4"
        )
    outer = padded.shape[:-4]
    return padded.expand(*outer, *block).reshape([*outer, *sizes.values()])


def lanes_of(release: Release, pulls: Pulls) -> dict[str, Tensor]:
    """All systematics with shape (*batch, *sizes of their axes)."""
    plates = axes(release)
    return {
        field.name: by_lane(
            getattr(pulls, field.name), {axis.dim: len(axis.coords) for axis in plates[field.name]}, field.name
        )
        for field in fields(pulls)
    }
