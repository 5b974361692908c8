"""What the reactors emit: fissions per reactor and isotope, and antineutrinos per energy.

    dN_d/dE = sum_r n_d eps / (4 pi L_dr^2) [W_dr sum_i a_ri phi_i(E) (S(E) + u_i(E) + c_ri eta_i(E)) + T_d w_r(E)]
    a_ri = (1 + p_r) f_ri / sum_k e_k f_rk        fissions of isotope i per MeV of reactor r

with the thermal energy W that reactor r released while detector d was live (live time T), baselines L, fission
fractions f, energies per fission e, non-equilibrium correction eta and spent fuel w. The spectrum phi is the release's
Huber-Mueller table. Its errors u and the free correction S move the equilibrium spectrum only.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from nuppl.experiments.dayabay_release import ISOTOPES, NONEQUILIBRIUM, Release
from nuppl.physics import fluxes, ibd

__all__ = ["WITH_NONEQUILIBRIUM", "Tables", "fissions", "flux", "isotope_errors", "tables"]

WITH_NONEQUILIBRIUM = [ISOTOPES.index(isotope) for isotope in NONEQUILIBRIUM]
_M2_PER_CM2 = 1e-4


@dataclass(frozen=True)
class Tables:
    """The release at the nodes of a quadrature of n energies; exposures in protons per cm^2 times MeV or s."""

    quadrature: ibd.Quadrature
    spectra: Tensor  # (I, n)
    nonequilibrium: Tensor  # (3, n), antineutrinos per MeV and fission
    spent_fuel: Tensor  # (R, n), antineutrinos per MeV and s
    knots: Tensor  # (n, K), weights of the knots of the spectrum errors
    correction: Tensor  # (n, 19), weights of the knots of the free correction
    exposure: Tensor  # (D, R), to thermal energy
    exposure_time: Tensor  # (D, R), to a second of each reactor


@functools.cache
def tables(release: Release, order: int | tuple[int, int] = 3) -> Tables:
    """Tables on `order` nodes per segment, or on a product rule (per bin in energy, in the cosine) for comparison."""
    kinks = (
        release.spectrum_energy,
        release.nonequilibrium_energy,
        release.spent_fuel_energy,
        release.correction_energy,
    )
    if isinstance(order, tuple):
        quadrature = ibd.product_rule(release.fine_edges, order)
    else:
        quadrature = ibd.segments(release.fine_edges, torch.cat(kinks), order)
    energy = quadrature.energy
    spectra = fluxes.exponential(energy, release.spectrum_energy, release.spectra)
    excess = fluxes.linear(energy, release.nonequilibrium_energy, release.nonequilibrium, "zero")
    spent = fluxes.linear(energy, release.spent_fuel_energy, release.spent_fuel, "zero")
    fractions = release.fission_fractions
    fission_rate = release.nominal_power * fractions / (fractions @ release.energy_per_fission[:, 0])
    solid_angle = _M2_PER_CM2 / (4.0 * math.pi * release.baselines**2)
    targets = release.efficiency * release.protons[:, None] * solid_angle
    return Tables(
        quadrature=quadrature,
        spectra=spectra,
        nonequilibrium=spectra[WITH_NONEQUILIBRIUM] * excess,
        spent_fuel=(fission_rate @ spectra) * spent,
        knots=fluxes.hats(energy, release.spectrum_energy),
        correction=fluxes.hats(energy, release.correction_energy, "constant"),
        exposure=targets * release.thermal_energy,
        exposure_time=targets * release.live_seconds.sum(0)[:, None],
    )


def fissions(release: Release, pulls: Mapping[str, Tensor]) -> Tensor:
    """Fissions of each isotope per MeV of each reactor, with shape (*, R, I)."""
    factor = release.correlations["fission_fractions_scale"]
    relative = 1.0 + torch.einsum("ij,...jr->...ri", factor, pulls["fission_fractions"])
    fractions = (relative * release.fission_fractions).abs()
    mean, deviation = release.energy_per_fission.unbind(-1)
    energy = (mean + deviation * pulls["energy_per_fission"])[..., None, :]
    power = 1.0 + release.relative_errors["thermal_power"] * pulls["thermal_power"]
    return power[..., None] * fractions / (fractions * energy).sum(-1, keepdim=True)


def isotope_errors(release: Release, pulls: Mapping[str, Tensor]) -> Tensor:
    """u: relative change of the spectrum of each isotope at the knots, (1 + own) (1 + common) - 1, shape (*, I, K)."""
    common = release.spectra_correlated * pulls["spectrum_correlated"][..., None, None]
    own = torch.addcmul(release.spectra_uncorrelated, release.spectra_uncorrelated, common)
    return torch.addcmul(common, own, pulls["spectrum_uncorrelated"])


def flux(release: Release, at: Tables, pulls: Mapping[str, Tensor]) -> Tensor:
    """Antineutrinos per MeV that reactor r sends through the protons of detector d, without oscillation.

    Returns:
        with shape (*, D, R, n), per MeV and cm^2, times protons.
    """
    burned = fissions(release, pulls)
    correction = pulls["spectrum_correction"] @ at.correction.T
    errors = 1.0 + isotope_errors(release, pulls) @ at.knots.T
    equilibrium = torch.einsum("...ri,...in->...rn", burned, at.spectra * (errors + correction[..., None, :]))
    scale = 1.0 + release.relative_errors["nonequilibrium"] * pulls["nonequilibrium"]
    excess = torch.einsum("...ri,...ir,in->...rn", burned[..., WITH_NONEQUILIBRIUM], scale, at.nonequilibrium)
    spent = (1.0 + release.relative_errors["spent_fuel"] * pulls["spent_fuel"])[..., None] * at.spent_fuel
    running = at.exposure[..., None] * (equilibrium + excess)[..., None, :, :]
    return running + at.exposure_time[..., None] * spent[..., None, :, :]
