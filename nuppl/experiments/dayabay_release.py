"""The public data release of Daya Bay, read and brought into the shape in which the prediction needs it.

Data: Daya Bay Collaboration, Full Data Release of the Daya Bay Reactor Neutrino Experiment, Zenodo 17587229 (2025),
CC-BY-4.0, the PyPI package `dayabay-data-official`; analysis: Phys. Rev. Lett. 130, 161802 (2023). Daily livetimes meet
weekly reactor data here once: what remains is the energy that each reactor released while each detector was live.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from torch import Tensor

from nuppl.experiments.dayabay_files import Files
from nuppl.physics import response
from nuppl.units import ELEMENTARY_CHARGE

__all__ = ["DETECTORS", "HALLS", "ISOTOPES", "NONEQUILIBRIUM", "PERIODS", "REACTORS", "Release", "load"]

DETECTORS = ("AD11", "AD12", "AD21", "AD22", "AD31", "AD32", "AD33", "AD34")
REACTORS = ("R1", "R2", "R3", "R4", "R5", "R6")
ISOTOPES = ("U235", "U238", "Pu239", "Pu241")
NONEQUILIBRIUM = ("U235", "Pu239", "Pu241")
HALLS = ("EH1", "EH2", "EH3")
PERIODS = ("6AD", "8AD", "7AD")
_PERIOD_BIT = {"6AD": 0b001, "8AD": 0b010, "7AD": 0b100}
_DAY = 86_400.0
_GIGAWATT = 1e3 / ELEMENTARY_CHARGE  # in MeV/s


@dataclass(frozen=True, eq=False)
class Release:
    """Everything the prediction needs; float64 tensors, energies in MeV, lengths in m, times in s.

    Axes: D detectors (8), R reactors (6), I isotopes (4), P periods (3), E prompt-energy bins (26), F fine bins (240).
    """

    detectors: tuple[str, ...]
    edges: Tensor  # (E + 1,)
    centers: Tensor  # (E,)
    counts: Tensor  # (D, E), all periods together
    fine_edges: Tensor  # (F + 1,)
    active: Tensor  # (P, D), bool
    live_seconds: Tensor  # (P, D), livetime times efficiency of vetoes
    thermal_energy: Tensor  # (D, R), MeV released while the detector was live
    baselines: Tensor  # (D, R)
    protons: Tensor  # (D,)
    efficiency: float
    fission_fractions: Tensor  # (I,)
    energy_per_fission: Tensor  # (I, 2): mean and standard deviation
    nominal_power: float  # MeV/s of one reactor
    spectrum_energy: Tensor  # (K,), knots of spectra and their errors
    spectra: Tensor  # (I, K), Huber-Mueller, per MeV and fission
    spectra_correlated: Tensor  # (I, K), relative errors
    spectra_uncorrelated: Tensor  # (I, K), relative errors
    nonequilibrium_energy: Tensor  # (*,)
    nonequilibrium: Tensor  # (3, *), relative to the spectra of U235, Pu239, Pu241
    spent_fuel_energy: Tensor  # (*,)
    spent_fuel: Tensor  # (R, *), relative to a reactor at nominal power
    correction_energy: Tensor  # (19,), knots of the free spectrum correction
    vessel: Tensor  # (F, F), energy loss in the inner acrylic vessel
    scintillator_energy: Tensor  # (*,)
    visible_energy: Tensor  # (5, *): nominal, then four deviations of one standard deviation
    resolution: Tensor  # (3, 2): a, b, c and their relative errors
    backgrounds: Mapping[str, Tensor]  # kind: counts (P, D, E)
    background_errors: Mapping[str, Tensor]  # kind: relative errors (P, D)
    correlations: Mapping[str, Tensor]  # Cholesky factors of covariances
    relative_errors: Mapping[str, float]  # thermal_power, spent_fuel, nonequilibrium, energy_loss
    solar: Mapping[str, tuple[float, float]]  # sin2_2theta12, dm2_21: mean and standard deviation

    @property
    def halls(self) -> tuple[int, ...]:
        """The hall of each detector, as an index into HALLS."""
        return tuple(int(name[2]) - 1 for name in self.detectors)


@functools.cache
def load() -> Release:
    """Read the release once.

    Raises:
        InputError: the data package is not installed.
    """
    files = Files()
    edges = files.column("final_erec_bin_edges.tsv")
    fine = torch.linspace(0.0, 12.0, 241, dtype=torch.float64)
    rebin = response.rebinning(fine, edges)
    active, live, thermal, accidentals = _exposure(files)
    counts, errors = _backgrounds(files, rebin, live, accidentals)
    spectrum_energy, spectra = files.table("reactor_antineutrino_spectra_hm", ISOTOPES)
    return Release(
        detectors=DETECTORS,
        edges=edges,
        centers=0.5 * (edges[1:] + edges[:-1]),
        counts=_counts(files, active) @ rebin.T,
        fine_edges=fine,
        active=active,
        live_seconds=live,
        thermal_energy=thermal,
        baselines=files.grid("baselines", "baseline", DETECTORS, REACTORS),
        protons=files.value("detector_n_protons_nominal", "n_protons_nominal_ad")
        * files.vector("detector_n_protons_correction", "n_protons_correction", DETECTORS),
        efficiency=files.value("detector_efficiency", "efficiency"),
        fission_fractions=files.vector("reactor_fission_fractions", "fission_fractions", ISOTOPES),
        energy_per_fission=files.vector("reactor_energy_per_fission", "energy_per_fission", ISOTOPES),
        nominal_power=files.value("reactor_thermal_power_nominal", "nominal_thermal_power") * _GIGAWATT,
        spectrum_energy=spectrum_energy,
        spectra=spectra,
        spectra_correlated=files.table("reactor_antineutrino_spectra_hm_uncertainties", ISOTOPES, "corr_")[1],
        spectra_uncorrelated=files.table("reactor_antineutrino_spectra_hm_uncertainties", ISOTOPES, "uncorr_")[1],
        **_named("nonequilibrium", files.table("nonequilibrium_correction", NONEQUILIBRIUM)),
        **_named("spent_fuel", files.table("snf_correction", REACTORS)),
        correction_energy=files.column("reactor_antineutrino_spectrum_edges.tsv"),
        vessel=torch.from_numpy(files.arrays("detector_iav_matrix")["iav_matrix"].copy()),
        **_scintillator(files),
        resolution=_resolution(files),
        backgrounds=counts,
        background_errors=errors,
        correlations=_correlations(files),
        relative_errors=_relative_errors(files),
        solar={
            "sin2_2theta12": files.pair("survival_probability_solar", "SinSq2Theta12"),
            "dm2_21": files.pair("survival_probability_solar", "DeltaMSq21"),
        },
    )


def _named(name: str, table: tuple[Tensor, Tensor]) -> dict[str, Any]:
    return {f"{name}_energy": table[0], name: table[1]}


def _counts(files: Files, active: Tensor) -> Tensor:
    """Candidates per detector and fine bin, all periods together, with shape (D, F)."""
    total = torch.zeros(len(DETECTORS), 240, dtype=torch.float64)
    for p, period in enumerate(PERIODS):
        spectra = files.arrays(f"dayabay_dataset/dayabay_ibd_spectra_{period}")
        for d, detector in enumerate(DETECTORS):
            if active[p, d]:
                total[d] += torch.from_numpy(spectra[f"ibd_spectrum_{detector}"]["N"])
    return total


def _exposure(files: Files) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Active detectors, live seconds and accidentals with shape (P, D), and thermal energy with shape (D, R)."""
    daily = files.arrays("dayabay_dataset/dayabay_daily_detector_data")
    weekly = files.arrays("neutrino_rate")
    per_energy = _neutrinos_per_energy(files)
    live = torch.zeros(len(PERIODS), len(DETECTORS), dtype=torch.float64)
    accidentals, thermal = torch.zeros_like(live), torch.zeros(len(DETECTORS), len(REACTORS), dtype=torch.float64)
    power = {period: _daily_power(weekly, period) / per_energy for period in PERIODS}
    for p, period in enumerate(PERIODS):
        for d, detector in enumerate(DETECTORS):
            table = daily[detector][daily[detector]["n_det"] == int(period[0])]
            seconds = table["eff_livetime"]
            live[p, d] = float(seconds.sum())
            accidentals[p, d] = float((seconds * table["rate_accidentals"]).sum()) / _DAY
            thermal[d] += torch.from_numpy(power[period][:, table["day"]] @ seconds)
    return live > 0.0, live, thermal, accidentals


def _daily_power(weekly: Any, period: str) -> Any:
    """Antineutrinos per second and reactor on each day since the first, with shape (R, days)."""
    rows = []
    for reactor in REACTORS:
        table = weekly[reactor][(weekly[reactor]["n_det_mask"] & _PERIOD_BIT[period]) > 0]
        row = np.full(int(weekly[reactor]["day"][-1]) + int(weekly[reactor]["n_days"][-1]), np.nan)
        for first, days, rate in zip(table["day"], table["n_days"], table["neutrino_rate_per_s"], strict=True):
            row[int(first) : int(first) + int(days)] = rate
        rows.append(row)
    return np.stack(rows)


def _neutrinos_per_energy(files: Files) -> float:
    """Antineutrinos per MeV of thermal energy at nominal fission fractions, as the rates of the release assume."""
    fractions = files.vector("reactor_fission_fractions", "fission_fractions", ISOTOPES)
    neutrinos = files.vector("antineutrinos_per_fission_huber_mueller", "antineutrinos_per_fission", ISOTOPES)
    energy = files.vector("reactor_energy_per_fission", "energy_per_fission", ISOTOPES)[:, 0]
    return float((fractions * neutrinos).sum() / (fractions * energy).sum())


def _scintillator(files: Files) -> dict[str, Tensor]:
    """Visible against scintillation energy on a four times finer grid, continued linearly to 0.5 and 12.1 MeV."""
    energy, relative = files.table("detector_lsnl_curves", ("nominal", "pull0", "pull1", "pull2", "pull3"))
    coarse, curves = energy.numpy(), (relative * energy).numpy()
    fine = np.linspace(coarse[0], coarse[-1], 4 * (len(coarse) - 1) + 1)
    curves = CubicSpline(coarse, curves, axis=-1)(fine)
    step = fine[1] - fine[0]
    below, above = np.arange(0.5, fine[0], step), np.arange(fine[-1] + step, 12.1 + 1e-6 * step, step)
    left = curves[:, :1] + (curves[:, 1:2] - curves[:, :1]) * (below - fine[0]) / step
    right = curves[:, -1:] + (curves[:, -1:] - curves[:, -2:-1]) * (above - fine[-1]) / step
    full = np.concatenate([left, curves, right], axis=1)
    full[1:] -= full[:1]
    return {
        "scintillator_energy": torch.from_numpy(np.concatenate([below, fine, above])),
        "visible_energy": torch.from_numpy(full),
    }


def _resolution(files: Files) -> Tensor:
    values = files.vector("detector_eres", "eres", ("a_nonuniform", "b_stat", "c_noise"))
    values[:, 1] /= 100.0
    return values


def _backgrounds(
    files: Files, rebin: Tensor, live: Tensor, accidentals: Tensor
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Counts (P, D, E) and relative errors (P, D) by kind."""
    counts, errors = {}, {}
    rates = {kind: _rates(files, kind) for kind in ("alpha_neutron", "amc", "fast_neutrons", "lithium_helium")}
    for kind in ("accidentals", *rates):
        if kind == "accidentals":
            total = accidentals
            errors[kind] = torch.full_like(live, files.pair("background_rate_scale_accidentals", kind)[1] / 100.0)
        else:
            total = rates[kind][..., 0] * live / _DAY
            errors[kind] = torch.where(live > 0.0, rates[kind][..., 1] / rates[kind][..., 0], 0.0)
        counts[kind] = total[..., None] * (_shapes(files, kind, live > 0.0) @ rebin.T)
    return counts, errors


def _rates(files: Files, kind: str) -> Tensor:
    """Rate and its error per day, with shape (P, D, 2); one for detectors that were off."""
    file = "background_rates_uncorrelated" if kind == "alpha_neutron" else "background_rates_correlated"
    entries = files.parameters(file)["parameters"][kind]
    off = (1.0, 0.0)
    rows = [[entries[period].get(detector, off) for detector in DETECTORS] for period in PERIODS]
    return torch.tensor(rows, dtype=torch.float64)


def _shapes(files: Files, kind: str, active: Tensor) -> Tensor:
    """Spectra normalised over the fine bins, with shape (P, D, F); zero for detectors that were off."""
    shapes = torch.zeros(*active.shape, 240, dtype=torch.float64)
    for p, period in enumerate(PERIODS):
        arrays = files.arrays(f"dayabay_dataset/dayabay_background_spectra_{period}")
        for d, detector in enumerate(DETECTORS):
            if active[p, d]:
                shapes[p, d] = torch.from_numpy(arrays[f"spectrum_shape_{kind}_{detector}"]["N"])
    return shapes / shapes.sum(-1, keepdim=True).clamp_min(1e-300)


def _correlations(files: Files) -> dict[str, Tensor]:
    """Lower Cholesky factors: relative efficiency and energy scale (2, 2), fission fractions (I, I)."""
    factors = {}
    for name, file in (
        ("detector_relative", "detector_relative"),
        ("fission_fractions_scale", "reactor_fission_fractions_scale"),
    ):
        content = files.parameters(file)
        order = content["correlations"][name]["names"]
        deviations = torch.tensor([content["parameters"][name][key][1] for key in order], dtype=torch.float64) / 100.0
        matrix = torch.tensor(content["correlations"][name]["matrix"], dtype=torch.float64)
        factors[name] = torch.linalg.cholesky(deviations[:, None] * matrix * deviations)
    return factors


def _relative_errors(files: Files) -> dict[str, float]:
    return {
        "thermal_power": files.pair("reactor_thermal_power_uncertainty", "thermal_power_scale")[1] / 100.0,
        "spent_fuel": files.pair("reactor_snf", "snf_scale")[1] / 100.0,
        "nonequilibrium": files.pair("reactor_nonequilibrium_correction", "nonequilibrium_scale")[1] / 100.0,
        "energy_loss": files.pair("detector_iav_offdiag_scale", "iav_offdiag_scale_factor")[1],
    }
