r"""What a fast oscillation becomes in fine bins of deposited energy, at any splitting and for each reactor.

Within a fine bin f the events of all reactors have one spectrum. With averages < > over it and y = dm2 L,

    <p_m(E) cos(c y / E)>_f = Re[e^{i c y u_f} A_mf(y)],   A_mf(y) = <p_m(E) e^{i c y (1/E - u_f)}>_f,   u_f = <1/E>_f

with c = 2 * 1.2669... The amplitudes A are smooth in y, so that one short table serves all baselines and splittings.
The p_m are polynomials in E, orthonormal in the bin: one, and two more for spectra that vary within it.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import torch
from torch import Tensor

from nuppl.experiments.dayabay_chain import visible
from nuppl.experiments.dayabay_exact import background, response_matrix
from nuppl.experiments.dayabay_release import Release
from nuppl.experiments.dayabay_sources import tables
from nuppl.experiments.dayabay_systematics import Pulls, lanes_of
from nuppl.experiments.dayabay_templates import basis, default_mixing, emitted, templates
from nuppl.physics.filon import node_phases
from nuppl.physics.oscillation import survival_terms
from nuppl.physics.templates import Spacing, SplineTable, spline_tables
from nuppl.units import OSCILLATION_PHASE

__all__ = ["GREATEST", "Emission", "central_correction", "central_response", "emission", "near_detectors", "waves"]

GREATEST = 12.0
"""Greatest splitting of the tables, in eV^2."""

_STEP = 10.0  # m eV^2: in the widest bin the phase moves by a sixth of a radian
_TURNS = OSCILLATION_PHASE / math.pi


class Emission(NamedTuple):
    """What would be seen without oscillation at the central systematics, in n nodes and F `visible` bins."""

    events: Tensor  # (D, R, F)
    equilibrium: Tensor  # (I, n), events of each isotope per fission, times the spectrum correction
    moments: Tensor  # (3, F, n), weights of <p_m ...>
    inverse_energy: Tensor  # (F,), u_f


@functools.cache
def emission(release: Release) -> Emission:
    """At the spectrum correction that describes the counts best."""
    at, fold = tables(release), templates(release)
    equilibrium, remainder = emitted(at, fold.fissions)
    correction = 1.0 + at.correction @ central_correction(release)
    flux, kernel = equilibrium * correction + remainder, visible(release, at.quadrature.kernel.T)
    weight = kernel.T * flux.sum((0, 1))
    weight = weight / _filled(weight.sum(-1, keepdim=True))
    return Emission(
        events=flux @ kernel,
        equilibrium=at.spectra * correction,
        moments=torch.stack([weight * p for p in _polynomials(weight, at.quadrature.energy)]),
        inverse_energy=weight @ (1.0 / at.quadrature.energy),
    )


def _filled(total: Tensor) -> Tensor:
    """One in place of zero: bins in which nothing happens."""
    return torch.where(total == 0.0, 1.0, total)


def _polynomials(weight: Tensor, energy: Tensor) -> list[Tensor]:
    """p_0, p_1, p_2, each with shape (F, n)."""
    found = [torch.ones_like(weight)]
    offset = energy - (weight @ energy)[:, None]
    for power in (1, 2):
        new = offset**power
        for old in found:
            new = new - old * (weight * old * new).sum(-1, keepdim=True)
        found.append(new / _filled((weight * new**2).sum(-1, keepdim=True)).sqrt())
    return found


def waves(release: Release, splitting: Tensor) -> tuple[Tensor, Tensor]:
    """cos of twice the phase in the bins, for splittings with shape (k,), in single precision.

    Returns:
        averages with shape (k, D, R, F), and those times p_1 and p_2 with shape (k, N, R, 2, F) for N near detectors.
    """
    length, near = splitting.abs()[:, None, None] * release.baselines, near_detectors(release)
    turns = _TURNS * length[..., None] * emission(release).inverse_energy
    phase = (2.0 * math.pi * turns.frac()).float()
    cosine, sine = phase.cos(), phase.sin()
    plain, bent = _amplitudes(release)
    average = _turned(_at(plain, length), cosine[..., None, :], sine[..., None, :])[..., 0, :]
    moments = _turned(_at(bent, length[:, near]), cosine[:, near, :, None, :], sine[:, near, :, None, :])
    return average, moments


def _at(table: SplineTable, length: Tensor) -> Tensor:
    amplitude = table(length[..., None], torch.ones(1, dtype=torch.float64))
    return amplitude.float()


def _turned(amplitude: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Re[e^{i phase} A] with shape (*, moments, F)."""
    parts = amplitude.reshape(*amplitude.shape[:-1], -1, 2, cosine.shape[-1])
    return cosine * parts[..., 0, :] - sine * parts[..., 1, :]


def near_detectors(release: Release) -> slice:
    """Those in the first two halls, whose turns at a few eV^2 are as wide as a fine bin."""
    return slice(0, sum(hall < 2 for hall in release.halls))


@functools.cache
def _amplitudes(release: Release) -> tuple[SplineTable, ...]:
    longest = float(release.baselines.max())
    tabulated = functools.partial(_amplitude, release)
    return spline_tables(tabulated, Spacing(_STEP, _STEP, 1.0), 1.01 * GREATEST * longest)


def _amplitude(release: Release, length: Tensor) -> tuple[Tensor, Tensor]:
    """A_0, and A_1 with A_2, as real and imaginary parts: with shapes (k, 2 F) and (k, 4 F)."""
    quadrature, source = tables(release).quadrature, emission(release)
    order = len(quadrature.energy) // (len(quadrature.borders) - 1)
    cosine, sine = node_phases(quadrature.borders, order, length, torch.ones((), dtype=torch.float64))
    weights = source.moments.flatten(0, 1).T
    real, imaginary = ((part @ weights).unflatten(-1, (3, -1)) for part in (cosine, sine))
    phase = (2.0 * math.pi * (_TURNS * length[:, None] * source.inverse_energy).frac())[:, None]
    turned = torch.stack(
        [real * phase.cos() + imaginary * phase.sin(), imaginary * phase.cos() - real * phase.sin()], dim=-2
    )
    return turned[:, 0].flatten(1), turned[:, 1:].flatten(1)


@functools.cache
def central_response(release: Release) -> Tensor:
    """From fine bins to the bins of the analysis with all pulls at their centres, with shape (E, 240)."""
    zeros = torch.zeros(8, dtype=torch.float64)
    return response_matrix(release, 1.0 + zeros[0], zeros[0], zeros[:4], zeros[:3])


@functools.cache
def central_correction(release: Release) -> Tensor:
    """S - 1 at the knots that describes the counts best at the default oscillation, with shape (19,)."""
    fold, matrix = templates(release), central_response(release)
    default = basis(*survival_terms(default_mixing(release)))
    equilibrium, remainder = (torch.tensordot(default, part, dims=1) for part in (fold.equilibrium, fold.remainder))
    rest = release.counts - background(release, lanes_of(release, Pulls())) - (equilibrium + remainder) @ matrix.T
    weight = release.counts.rsqrt()
    design = torch.einsum("cf,df,ef,de->cde", fold.correction, equilibrium, matrix, weight).flatten(1)
    solution: Tensor = torch.linalg.lstsq(design.T, (rest * weight).reshape(-1, 1)).solution
    return solution[:, 0]
