"""The expected counts of models/reactor_sterile.py in JAX: `jax_reactor` less what a fourth neutrino takes away.

    n = c14^4 n(three flavors) + (1 - c14^4) n(none) - n(none) sum_j w_4j [g(dm2_4j) + sum_m e_m g_m(dm2_4j)] - shift

Tables come from `dayabay_sterile` and stay in single precision; sums over their rows are rounded as in nuppl's, and not
in the same order. The events are linear in the survival probability, which lets those of `jax_reactor` be used twice.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
import torch
from jax import Array
from jax_density import Binned, Values
from jax_oscillation import survival_terms
from jax_reactor import _deposited, _fissions, _isotope_errors, _priors, _response, detected

from nuppl.experiments import dayabay
from nuppl.experiments.dayabay_sources import WITH_NONEQUILIBRIUM
from nuppl.experiments.dayabay_sterile import sterile_tables
from nuppl.experiments.dayabay_templates import basis, default_mixing, templates
from nuppl.physics.oscillation import survival_terms as terms_of
from nuppl.physics.templates import SplineTable

__all__ = ["sterile", "without_log_uniform"]

MIXING_PRIORS = {"uniform": (dist.Uniform, 0.0, 1.0), "log": (dist.LogUniform, 1e-4, 1.0)}
NO_MIXING = {"sin2_2theta13": 0.0, "sin2_2theta12": 0.0}
NEAR = 4  # detectors in which spectra vary within a turn


def sterile(mixing_prior: str = "uniform") -> Binned:
    """The model, with constants from the release."""
    release = dayabay.load()
    shared = _priors(release)
    law, low, high = MIXING_PRIORS[mixing_prior]
    own = {"sin2_2theta14": law(low, high), "dm2_41": dist.LogUniform(1e-3, 10.0)}
    first = {name: shared.pop(name) for name in ("sin2_2theta13", "dm2_32")}
    return Binned({**first, **own, **shared}, detected(release, _signal(release)), jnp.asarray(release.counts.numpy()))


def without_log_uniform(model: Binned) -> Binned:
    """The same model with the logarithm as parameter, uniform, where a prior is LogUniform: for `log_density`."""
    logarithmic = [name for name, prior in model.priors.items() if isinstance(prior, dist.LogUniform)]

    def expected(values: Values) -> Array:
        return model.expected({**values, **{name: jnp.exp(values[name]) for name in logarithmic}})

    bases = {name: model.priors[name].base_dist for name in logarithmic}
    return Binned({**model.priors, **bases}, expected, model.counts)


def _signal(release: dayabay.Release) -> Callable[[Values, Array], Array]:
    """Expected signal before efficiency with shape (8, 26), from values and energy scales."""
    deposited, response, changes = _deposited(release), _response(release), _changes(release)
    taken, shift, lost = _taken(release), _shift(release), _lost(release)

    def signal(values: Values, scale: Array) -> Array:
        cos4, weights, splittings = fourth(values)
        moved = changes(values)
        unmixed = deposited({**values, **{name: jnp.asarray(zero) for name, zero in NO_MIXING.items()}})
        three = cos4 * deposited(values) + (1.0 - cos4) * unmixed
        unoscillated = unmixed + jnp.tensordot(moved[-len(lost) :], lost, 1)
        events = three - taken(weights, splittings, values) * unoscillated
        return response(events, values, scale) - shift(weights, splittings, moved)

    return signal


def fourth(values: Values) -> tuple[Array, Array, Array]:
    """cos^4 theta14, then weights and splittings (eV^2) of the pairs 41, 42 and 43, each with shape (3,)."""
    sin2_theta12 = 0.5 * (1.0 - jnp.sqrt(jnp.maximum(1.0 - values["sin2_2theta12"], 1e-12)))
    sin2_theta13 = 0.5 * (1.0 - jnp.sqrt(1.0 - values["sin2_2theta13"]))
    cos2_theta14 = 0.5 * (1.0 + jnp.sqrt(1.0 - values["sin2_2theta14"]))
    electron = jnp.stack(
        [(1.0 - sin2_theta12) * (1.0 - sin2_theta13), sin2_theta12 * (1.0 - sin2_theta13), sin2_theta13]
    )
    _, (dm2_21, dm2_31, _) = survival_terms(values["sin2_2theta13"], values["dm2_32"], sin2_theta12, values["dm2_21"])
    splittings = values["dm2_41"] - jnp.stack([jnp.zeros_like(dm2_21), dm2_21, dm2_31])
    return cos2_theta14**2, values["sin2_2theta14"] * electron, jnp.abs(splittings)


def _changes(release: dayabay.Release) -> Callable[[Values], Array]:
    """Relative changes of fissions, of the non-equilibrium part and of spent fuel, in one row."""
    fissions, central, errors = (
        _fissions(release),
        jnp.asarray(templates(release).fissions.numpy()),
        release.relative_errors,
    )

    def changes(values: Values) -> Array:
        burned = fissions(values) / central
        excess = burned[:, WITH_NONEQUILIBRIUM] * (1.0 + errors["nonequilibrium"] * values["nonequilibrium"].T)
        spent = errors["spent_fuel"] * values["spent_fuel"]
        return jnp.concatenate([(burned - 1.0).reshape(-1), (excess - 1.0).reshape(-1), spent])

    return changes


def _lost(release: dayabay.Release) -> Array:
    """What sources send in fine bins, that without oscillation less that at the default one, with shape (L, 8, 240)."""
    fold = templates(release)
    default = torch.tensordot(basis(*terms_of(default_mixing(release))), fold.equilibrium, dims=1)
    survival = torch.where(default == 0.0, 1.0, default / fold.equilibrium[0])
    return jnp.asarray((fold.sources / survival - fold.sources).numpy())


def _taken(release: dayabay.Release) -> Callable[[Array, Array, Values], Array]:
    """sum_j w_4j [g + sum_m e_m g_m] with shape (8, 240)."""
    at, isotope_errors = sterile_tables(release), _isotope_errors(release)
    share, bent = _spline(at.share), _spline(at.bent)
    isotopes = jnp.asarray(at.isotopes.numpy())
    slopes = jnp.asarray(at.slopes(torch.eye(len(isotopes.T), dtype=torch.float64)).numpy())
    bins = len(release.fine_edges) - 1

    def taken(weights: Array, splittings: Array, values: Values) -> Array:
        plain = (share(splittings, weights) + 0.5 * weights.sum()).reshape(8, -1)
        moments = bent(splittings[:1], weights.sum()[None]).reshape(NEAR, 2, -1)
        error = ((isotope_errors(values) - 1.0) * isotopes).sum(0)
        near = (moments * (error @ slopes).reshape(2, -1)).sum(1)
        # nuppl's bins: those that can be seen, between two empty ones.
        return jnp.pad((plain.at[:NEAR].add(near))[:, 1:-1], ((0, 0), (bins + 2 - plain.shape[1], 0)))

    return taken


def _shift(release: dayabay.Release) -> Callable[[Array, Array, Array], Array]:
    """Counts that the fourth neutrino takes away because reactors moved apart, with shape (8, 26)."""
    at = sterile_tables(release)
    reactors, matrix = _spline(at.reactors), jnp.asarray(at.changes.numpy())

    def shift(weights: Array, splittings: Array, changes: Array) -> Array:
        counts = reactors(splittings[:1], weights.sum()[None]).reshape(8, 6, -1)
        return (counts * (changes @ matrix).reshape(6, -1)).sum(1)

    return shift


def _spline(table: SplineTable) -> Callable[[Array, Array], Array]:
    """sum_p w_p f(x_p) with shape (outputs,), for x and w with shape (P,) and x inside the table."""
    at, rows = table.spacing, jnp.asarray(table.coefficients.numpy())

    def spline(x: Array, weights: Array) -> Array:
        excess = (1.0 / at.fine - 1.0 / at.coarse) * at.turn
        place = x / at.coarse + excess * jnp.arcsinh(x / at.turn)
        left = jax.lax.stop_gradient(jnp.floor(place))
        t = (place - left)[:, None]
        parts = [(1.0 - t) ** 3, 4.0 - 6.0 * t**2 + 3.0 * t**3, 1.0 + 3.0 * t + 3.0 * t**2 - 3.0 * t**3, t**3]
        spread = weights[:, None] * jnp.concatenate(parts, axis=-1) / 6.0
        index = left.astype(int)[:, None] + jnp.arange(4)
        return (spread.reshape(-1).astype(rows.dtype) @ rows[index.reshape(-1)]).astype(x.dtype)

    return spline
