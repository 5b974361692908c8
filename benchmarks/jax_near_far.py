"""The expected counts of examples/near_far.py in JAX."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from jax_density import Binned, Values
from jax_oscillation import coefficients, survival_terms

from nuppl.language.loading import load_models
from nuppl.physics.parametrisation import NUFIT_6_0

FILE = Path(__file__).parents[1] / "examples" / "near_far.py"


def near_far() -> Binned:
    """The model, with constants from the model file."""
    source = _module()
    folded, hats, backgrounds = (
        jnp.asarray(part.numpy()) for part in (source.TEMPLATES, source.HATS, source.BACKGROUNDS)
    )
    tilt = source.TILT * (jnp.asarray(source.CENTERS.numpy()) - 4.0) / 4.0
    rates = jnp.asarray(source.BACKGROUND_RATE.numpy())[:, 0]
    far = jnp.array([0.0, 1.0])

    def expected(values: Values) -> Array:
        terms = survival_terms(values["sin2_2theta13"], values["dm2_32"], NUFIT_6_0.sin2_theta12, NUFIT_6_0.dm2_21)
        series = jnp.tensordot(coefficients(*terms, source.LIMIT, source.COUNT), folded, 1)
        scale = source.SCALE * values["energy_scale"] + source.SCALE_RATIO * far * values["energy_scale_ratio"]
        signal = series[0] + scale[:, None] * (series[1] + scale[:, None] * series[2])
        efficiency = (1.0 + source.FLUX * values["flux"]) * (1.0 + source.EFFICIENCY * far * values["efficiency_ratio"])
        spectrum = 1.0 + source.SPECTRUM * values["spectrum"] @ hats
        background = (1.0 + rates * values["background"])[:, None] * (1.0 + tilt * values["background_shape"])
        return efficiency[:, None] * signal * spectrum + backgrounds * background

    normal = dist.Normal(0.0, 1.0)
    pulls = ("flux", "efficiency_ratio", "energy_scale", "energy_scale_ratio", "background_shape")
    priors = {
        "sin2_2theta13": dist.Uniform(0.0, 0.3),
        "dm2_32": dist.Uniform(1.5e-3, 3.5e-3),
        **{name: normal for name in pulls},
        "spectrum": dist.Normal(jnp.zeros(len(hats)), 1.0),
        "background": dist.Normal(jnp.zeros(2), 1.0),
    }
    return Binned(priors, expected, jnp.asarray(source.COUNTS.numpy()))


def _module() -> ModuleType:
    return sys.modules[load_models(FILE)["near_far"].function.__module__]
