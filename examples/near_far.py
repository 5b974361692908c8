"""A near and a far detector at a reactor: theta13 and dm2_32 with 22 systematic uncertainties, as a small analysis.

    mu_db = f_d (1 + sum_k h_kb y_k) sum_c w_dc int dE K(E) phi(E) P_ee(L_dc / E) R_b(E; s_d) + B_db

Six cores in a row, detectors at 300 m and 1400 m from the middle of the row, 35 bins of prompt energy each. Flux: Huber
and Mueller; cross section: inverse beta decay to order 1/M; resolution 7 % / sqrt(E / MeV); vacuum oscillation with
solar parameters of NuFIT 6.0. The energy scale s enters the response R to second order: at one prior deviation that
is right to 2e-4 in every bin. Spectrum errors y live at knots of prompt energy, common to both detectors.

The counts are pseudo-data, drawn once from this program with sin2_2theta13 = 0.085, dm2_32 = 2.45e-3 eV^2 and the pulls
from their N(0, 1): `simulate(near_far.bind(fixed=TRUTH), 1, seed=1)`.
"""

import math

import pyro.distributions as dist
import torch

import nuppl
from nuppl.physics import fluxes, ibd, oscillation
from nuppl.physics.templates import chebyshev_coefficients, chebyshev_nodes, even_chebyshev
from nuppl.units import OSCILLATION_PHASE

TRUTH = {"sin2_2theta13": 0.085, "dm2_32": 2.45e-3}

DETECTORS = ("near", "far")
CORES = 260.0 * (torch.arange(6.0) - 2.5)  # along the row, in m
DISTANCES = torch.tensor([[300.0], [1400.0]])  # of the detectors from the row, in m
SIGNAL = torch.tensor([800_000.0, 90_000.0])  # events without oscillation
BACKGROUND = {"accidental": torch.tensor([6_000.0, 900.0]), "lithium_helium": torch.tensor([10_000.0, 2_500.0])}
FISSIONS = {"U235": 0.57, "U238": 0.07, "Pu239": 0.30, "Pu241": 0.06}

DEPOSITED = 0.9 + 0.05 * torch.arange(184.0)  # edges of fine bins, in MeV
PROMPT = torch.linspace(1.0, 8.0, 36)  # edges of the analysis, in MeV
CENTERS = 0.5 * (PROMPT[1:] + PROMPT[:-1])
KNOTS = torch.linspace(1.0, 8.0, 15)  # of the spectrum errors, in MeV
LIMIT, COUNT = 4e-3, 14  # greatest splitting of the templates in eV^2, and how many polynomials

RESOLUTION = 0.07  # at 1 MeV
FLUX, EFFICIENCY, SCALE, SCALE_RATIO, SPECTRUM, TILT = 0.025, 0.002, 0.005, 0.0015, 0.03, 0.2  # prior deviations
BACKGROUND_RATE = torch.tensor([[0.05], [0.08]])  # prior deviation in the near and far detector

FAR = torch.tensor([[0.0], [1.0]])  # marks the far detector
HATS = fluxes.hats(CENTERS, KNOTS).T.contiguous()  # (15, 35)

# fmt: off
COUNTS = torch.tensor([
    [6542, 13629, 20432, 27808, 34681, 41097, 45432, 48396, 49415, 48664, 47108, 46024, 43615, 40848, 38020, 34648,
     30901, 27501, 25026, 22261, 19364, 16489, 13487, 11949, 10316, 8561, 6928, 5489, 4020, 2850, 1958, 1492, 1036,
     757, 543],
    [812, 1554, 2267, 2974, 3652, 4211, 4724, 5163, 5153, 5126, 5201, 4787, 4615, 4436, 3996, 3758, 3350, 2916,
     2772, 2472, 2110, 1767, 1479, 1384, 1220, 1019, 810, 653, 482, 375, 268, 225, 146, 128, 99],
], dtype=torch.float64)
# fmt: on


def response():
    """Fine bins of deposited energy to prompt energy with shape (3, 35, fine): powers 0, 1, 2 of the energy scale."""
    energy = 0.5 * (DEPOSITED[1:] + DEPOSITED[:-1])
    sigma = RESOLUTION * energy.sqrt()
    distance, rate = (PROMPT[:, None] - energy) / sigma, -energy / sigma
    density = (-0.5 * distance**2).exp() / math.sqrt(2.0 * math.pi)
    powers = [torch.special.ndtr(distance), rate * density, -0.5 * rate**2 * distance * density]
    return torch.stack(powers).diff(dim=1)


def templates():
    """Events with shape (1 + 14, 3, 2, 35): unoscillated, then even Chebyshev polynomials of a splitting."""
    nodes = ibd.segments(DEPOSITED, torch.empty(0))
    flux = sum(share * fluxes.huber_mueller(isotope, nodes.energy) for isotope, share in FISSIONS.items())
    baselines = (DISTANCES**2 + CORES**2).sqrt()
    phase = OSCILLATION_PHASE * chebyshev_nodes(LIMIT, COUNT)[:, None, None, None] * baselines[..., None] / nodes.energy
    waves = chebyshev_coefficients(phase.sin() ** 2)
    near_cores = baselines**-2 / (baselines**-2).sum(-1, keepdim=True)
    seen = torch.cat([torch.ones_like(waves[:1]), waves]).mul(near_cores[..., None]).sum(-2) * flux
    events = torch.einsum("kbf,fn,mdn->mkdb", response(), nodes.kernel, seen)
    return events * (SIGNAL / events[0, 0].sum(-1))[:, None]


def backgrounds():
    """Expected background events with shape (2, 35): accidental coincidences, and decays of lithium and helium."""
    shapes = {"accidental": (-CENTERS / 0.6).exp(), "lithium_helium": CENTERS * (-((CENTERS - 4.5) ** 2) / 14.0).exp()}
    return sum(BACKGROUND[kind][:, None] * shape / shape.sum() for kind, shape in shapes.items())


TEMPLATES, BACKGROUNDS = templates(), backgrounds()


def oscillated(mixing, scale):
    """Signal with shape (*batch, 2, 35); relative change of the energy scale with shape (*batch, 2, 1)."""
    weights, splittings = oscillation.survival_terms(mixing)
    polynomials = (weights[..., None] * even_chebyshev(splittings, LIMIT, COUNT)).sum(-2)
    coefficients = torch.cat([torch.ones_like(polynomials[..., :1]), -polynomials], dim=-1)
    series = (coefficients @ TEMPLATES.flatten(1)).reshape(*coefficients.shape[:-3], *TEMPLATES.shape[1:])
    return series[..., 0, :, :] + scale * (series[..., 1, :, :] + scale * series[..., 2, :, :])


@nuppl.model(
    interest=("sin2_2theta13", "dm2_32"),
    reference={"sin2_2theta13": 0.0},
    panels={"near": ("near",), "far": ("far",)},
)
def near_far():
    """Normal ordering; errors of efficiency and energy scale split into a common part and far over near."""
    mixing = oscillation.ThreeFlavor(
        sin2_2theta13=nuppl.parameter("sin2_2theta13", dist.Uniform(0.0, 0.3), label=r"\sin^2 2\theta_{13}"),
        dm2_32=nuppl.parameter("dm2_32", dist.Uniform(1.5e-3, 3.5e-3), unit="eV^2", label=r"\Delta m^2_{32}"),
    )
    flux = FLUX * nuppl.pull("flux", label=r"\delta\phi")
    efficiency = EFFICIENCY * nuppl.pull("efficiency_ratio", label=r"\delta\epsilon")
    scale = SCALE * nuppl.pull("energy_scale", label=r"\delta E")
    scale_ratio = SCALE_RATIO * nuppl.pull("energy_scale_ratio", label=r"\delta E_\mathrm{far/near}")
    tilt = TILT * nuppl.pull("background_shape", label=r"\delta_\mathrm{tilt}")
    with nuppl.plate("knot", KNOTS, dim=-3, unit="MeV"):
        spectrum = SPECTRUM * nuppl.pull("spectrum", label=r"\delta S")
    with nuppl.plate("detector", DETECTORS, dim=-2):
        rate = BACKGROUND_RATE * nuppl.pull("background", label=r"\delta_\mathrm{bkg}")
    signal = oscillated(mixing, scale + FAR * scale_ratio) * (1.0 + spectrum.transpose(-3, -1) @ HATS)
    background = BACKGROUNDS * (1.0 + rate) * (1.0 + tilt * (CENTERS - 4.0) / 4.0)
    expected = (1.0 + flux) * (1.0 + FAR * efficiency) * signal + background
    with (
        nuppl.plate("detector", DETECTORS, dim=-2),
        nuppl.plate("prompt_energy", CENTERS, dim=-1, unit="MeV"),
    ):
        nuppl.observe("counts", dist.Poisson(expected), COUNTS, unit="events")
