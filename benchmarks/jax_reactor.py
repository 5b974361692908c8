"""The expected counts of models/reactor.py in JAX: the template path of `nuppl.experiments`, one point at a time.

Constants come from `templates(release)`, `chain(release)` and the release; the arithmetic is that of `dayabay_folded`
and `dayabay_chain`. XLA fuses it, so nothing is chunked, and JAX's own vmap gives batches.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from jax_density import Binned, Values
from jax_oscillation import coefficients, survival_terms
from torch import Tensor

from nuppl.experiments import dayabay
from nuppl.experiments.dayabay_chain import WIDTHS, Chain, chain
from nuppl.experiments.dayabay_sources import WITH_NONEQUILIBRIUM
from nuppl.experiments.dayabay_systematics import axes
from nuppl.experiments.dayabay_templates import COUNT, LIMIT, Templates, templates


def reactor() -> Binned:
    """The model, with constants from the release."""
    release = dayabay.load()
    return Binned(_priors(release), detected(release, _signal(release)), jnp.asarray(release.counts.numpy()))


def detected(release: dayabay.Release, signal: Callable[[Values, Array], Array]) -> Callable[[Values], Array]:
    """Expected counts from a signal that is a function of the systematics and the energy scales."""
    backgrounds = _backgrounds(release)
    mixture = jnp.asarray(release.correlations["detector_relative"].numpy())

    def expected(values: Values) -> Array:
        normal = jnp.stack([values["efficiency"], values["energy_scale"]], axis=-1)
        efficiency, scale = (1.0 + normal @ mixture.T).T
        return efficiency[:, None] * signal(values, scale) + backgrounds(values)

    return expected


def _priors(release: dayabay.Release) -> dict[str, Any]:
    systematics = {
        name: dist.Normal(jnp.zeros([len(axis.coords) for axis in plates]), 1.0)
        for name, plates in axes(release).items()
    }
    width = jnp.where(jnp.asarray(release.correction_energy.numpy()) <= 8.0, 0.1, 0.5)
    return {
        "sin2_2theta13": dist.Uniform(0.0, 0.2),
        "dm2_32": dist.Uniform(2.0e-3, 3.0e-3),
        "sin2_2theta12": dist.Normal(*release.solar["sin2_2theta12"]),
        "dm2_21": dist.Normal(*release.solar["dm2_21"]),
        **systematics,
        "spectrum_correction": dist.Normal(jnp.zeros_like(width), width),
    }


def _signal(release: dayabay.Release) -> Callable[[Values, Array], Array]:
    """Expected signal before efficiency with shape (8, 26), from values and energy scales."""
    deposited, response = _deposited(release), _response(release)

    def signal(values: Values, scale: Array) -> Array:
        return response(deposited(values), values, scale)

    return signal


def _deposited(release: dayabay.Release) -> Callable[[Values], Array]:
    """Events in fine bins of deposited energy with shape (8, 240)."""
    fold, errors = _arrays(templates(release)), release.relative_errors
    fissions, isotope_errors = _fissions(release), _isotope_errors(release)

    def deposited(values: Values) -> Array:
        sin2_theta12 = 0.5 * (1.0 - jnp.sqrt(jnp.maximum(1.0 - values["sin2_2theta12"], 1e-12)))
        terms = survival_terms(values["sin2_2theta13"], values["dm2_32"], sin2_theta12, values["dm2_21"])
        polynomials = coefficients(*terms, LIMIT, COUNT)
        burned = fissions(values) / fold.fissions
        change = jnp.tensordot((burned - 1.0).reshape(-1), fold.reactors, 1)
        correction = 1.0 + values["spectrum_correction"] @ fold.correction
        share = jnp.einsum("dir,ri->di", fold.mean_reactors, burned)
        spectra = share @ ((isotope_errors(values) - 1.0) @ fold.knots * fold.isotopes)
        excess = burned[:, WITH_NONEQUILIBRIUM] * (1.0 + errors["nonequilibrium"] * values["nonequilibrium"].T)
        sources = jnp.concatenate([(excess - 1.0).reshape(-1), errors["spent_fuel"] * values["spent_fuel"]])
        return (
            jnp.tensordot(polynomials, fold.equilibrium, 1) * (correction * (1.0 + change) + spectra)
            + jnp.tensordot(polynomials, fold.remainder, 1)
            + jnp.tensordot(sources, fold.sources, 1)
        )

    return deposited


def _fissions(release: dayabay.Release) -> Callable[[Values], Array]:
    """Fissions of each isotope per MeV of each reactor, with shape (6, 4)."""
    factor = jnp.asarray(release.correlations["fission_fractions_scale"].numpy())
    nominal = jnp.asarray(release.fission_fractions.numpy())
    mean, deviation = jnp.asarray(release.energy_per_fission.numpy()).T

    def fissions(values: Values) -> Array:
        fractions = jnp.abs((1.0 + (factor @ values["fission_fractions"]).T) * nominal)
        energy = mean + deviation * values["energy_per_fission"]
        power = 1.0 + release.relative_errors["thermal_power"] * values["thermal_power"]
        return power[:, None] * fractions / (fractions * energy).sum(-1, keepdims=True)

    return fissions


def _isotope_errors(release: dayabay.Release) -> Callable[[Values], Array]:
    uncorrelated, correlated = (
        jnp.asarray(part.numpy()) for part in (release.spectra_uncorrelated, release.spectra_correlated)
    )

    def isotope_errors(values: Values) -> Array:
        own = 1.0 + uncorrelated * values["spectrum_uncorrelated"]
        return own * (1.0 + correlated * values["spectrum_correlated"])

    return isotope_errors


def _response(release: dayabay.Release) -> Callable[[Array, Values, Array], Array]:
    """Fine bins of deposited energy (8, 240) to the bins of the analysis (8, 26)."""
    constants, edges = _arrays(chain(release)), jnp.asarray(release.fine_edges.numpy())
    loss_error, first = release.relative_errors["energy_loss"], float(release.scintillator_energy[0])
    errors = jnp.asarray(release.resolution[:, 1].numpy())

    def response(events: Array, values: Values, scale: Array) -> Array:
        loss = (1.0 + loss_error * values["energy_loss"])[:, None]
        total = constants.kept + loss * constants.lost
        shares = events / jnp.where(total == 0.0, 1.0, total)
        events = constants.kept * shares + loss * (shares @ constants.migrations)
        events = _bend(constants, edges, first, events, scale, values["nonlinearity"])
        x = _sharpness(constants.shares, errors, values["resolution"])
        powers = jnp.cumprod(jnp.stack([jnp.ones_like(x)] + [x] * (len(constants.smearing) - 1)), axis=0)
        return events @ (powers[..., None] * constants.smearing).sum(0)

    return response


def _bend(constants: Any, edges: Array, first: float, events: Array, scale: Array, pulls: Array) -> Array:
    """Fine bins of visible energy with shape (8, 240)."""
    steepness = constants.slope + pulls @ constants.deviation_slope
    step = (edges / scale[:, None] - edges - pulls @ constants.deviation) / steepness
    source = jnp.clip(constants.inverse + step - constants.bend * step**2 / steepness, first, edges[-1])
    below = jnp.pad(jnp.cumsum(events, axis=-1), ((0, 0), (1, 0)))
    position = source / (edges[1] - edges[0])
    left = jnp.clip(jnp.floor(position), 0, len(edges) - 2).astype(int)
    lower, upper = jnp.take_along_axis(below, left, -1), jnp.take_along_axis(below, left + 1, -1)
    return jnp.diff(lower + (position - left) * (upper - lower), axis=-1)


def _sharpness(shares: Array, errors: Array, pulls: Array) -> Array:
    """sigma^(-1/2) of each fine bin with shape (240,), from -1 at the widest resolution to 1 at the narrowest."""
    narrow, wide = (width**-0.5 for width in WIDTHS)
    variance = shares @ (1.0 + errors * pulls) ** 2
    return (2.0 * jnp.clip(variance, WIDTHS[0] ** 2, WIDTHS[1] ** 2) ** -0.25 - narrow - wide) / (narrow - wide)


def _backgrounds(release: dayabay.Release) -> Callable[[Values], Array]:
    """Expected background with shape (8, 26)."""
    counts = {kind: jnp.asarray(part.numpy()) for kind, part in release.backgrounds.items()}
    errors = {kind: jnp.asarray(part.numpy()) for kind, part in release.background_errors.items()}
    active, halls = release.active.nonzero().T.numpy(), jnp.asarray(release.halls)

    def per_run(kind: str, value: Array) -> Array:
        if kind in ("accidentals", "alpha_neutron"):
            return jnp.zeros(release.active.shape).at[tuple(active)].set(value)
        return value if kind == "amc" else value[:, halls]

    def backgrounds(values: Values) -> Array:
        factors = {kind: 1.0 + errors[kind] * per_run(kind, values[kind]) for kind in counts}
        parts = [(factors[kind][..., None] * part).sum(0) for kind, part in counts.items()]
        return jnp.stack(parts).sum(0)

    return backgrounds


def _arrays(constants: Templates | Chain) -> Any:
    """The same dataclass with arrays of JAX."""
    converted = {field.name: _array(getattr(constants, field.name)) for field in fields(constants)}
    return type(constants)(**converted)  # type: ignore[arg-type]


def _array(value: Tensor) -> Array:
    return jnp.asarray(value.numpy())
