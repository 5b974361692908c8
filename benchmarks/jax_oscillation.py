"""Survival of electron antineutrinos, and Chebyshev templates of it, in JAX as in `nuppl.physics`."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

__all__ = ["coefficients", "survival_terms"]


def survival_terms(sin2_2theta13: Array, dm2_32: Array, sin2_theta12: Array, dm2_21: Array) -> tuple[Array, Array]:
    """Weights and splittings (eV^2) of the pairs 21, 31 and 32, each with shape (3,)."""
    cos4 = (0.5 * (1.0 + jnp.sqrt(1.0 - sin2_2theta13))) ** 2
    solar = 4.0 * sin2_theta12 * (1.0 - sin2_theta12)
    weights = jnp.stack([solar * cos4, sin2_2theta13 * (1.0 - sin2_theta12), sin2_2theta13 * sin2_theta12])
    return weights, jnp.stack([dm2_21 + 0.0 * dm2_32, dm2_32 + dm2_21, dm2_32])


def coefficients(weights: Array, splittings: Array, limit: float, count: int) -> Array:
    """(1, -sum_p w_p T_2m(dm2_p / limit)) with shape (1 + count,)."""
    argument = 2.0 * (splittings / limit) ** 2 - 1.0
    values = [jnp.ones_like(argument), argument]
    for _ in range(count - 2):
        values.append(2.0 * argument * values[-1] - values[-2])
    return jnp.concatenate([jnp.ones(1), -(weights @ jnp.stack(values, axis=-1))])
