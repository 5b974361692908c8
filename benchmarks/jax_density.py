"""A binned Poisson model in JAX, once as nuppl's whitened density and once as a NumPyro program.

    log p(u) = sum_i log N(u_i; 0, 1) + sum_b log Poisson(n_b; mu_b(T(u)))

T is affine for normal priors and low + (high - low) Phi(u) for uniform ones, as in `nuppl.language.transport`. Both
read the same table of priors and the same function of expected counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax import Array
from jax.scipy.special import gammaln, ndtr

__all__ = ["Binned", "blocks", "log_density", "program", "values_of"]

jax.config.update("jax_enable_x64", True)
numpyro.set_host_device_count(2)  # before JAX starts: parallel chains take one core each

Values = Mapping[str, Array]


class Binned(NamedTuple):
    """A model of binned counts.

    Attributes:
        priors: Normal or Uniform per site, with the shape of the site, in nuppl's order.
        expected: {site: value} to counts with the shape of `counts`.
        counts: the data.
    """

    priors: dict[str, Any]
    expected: Callable[[Values], Array]
    counts: Array

    @property
    def dim(self) -> int:
        """The number of scalar parameters."""
        return sum(math.prod(prior.batch_shape) for prior in self.priors.values())


def blocks(model: Binned, u: Array) -> dict[str, Array]:
    """The flat u with shape (D,) by site."""
    parts, start = {}, 0
    for name, prior in model.priors.items():
        size = math.prod(prior.batch_shape)
        parts[name] = u[start : start + size].reshape(prior.batch_shape)
        start += size
    return parts


def values_of(model: Binned, whitened: Values) -> dict[str, Array]:
    """The sites at whitened coordinates, both by site."""
    return {name: _transport(prior, whitened[name]) for name, prior in model.priors.items()}


def log_density(model: Binned) -> Callable[[Values], Array]:
    """The log posterior density of whitened coordinates by site, with the constant of `Whitened.log_prob`."""
    constant = -0.5 * model.dim * math.log(2.0 * math.pi) - gammaln(model.counts + 1.0).sum()

    def density(whitened: Values) -> Array:
        expected = model.expected(values_of(model, whitened))
        likelihood = (model.counts * jnp.log(expected) - expected).sum()
        return constant - 0.5 * sum((u * u).sum() for u in whitened.values()) + likelihood

    return density


def program(model: Binned) -> Callable[[], None]:
    """The model as a NumPyro user would write it: NumPyro takes the priors to the reals by itself."""

    def run() -> None:
        values = {
            name: numpyro.sample(name, prior.to_event(len(prior.batch_shape))) for name, prior in model.priors.items()
        }
        expected = model.expected(values)
        numpyro.sample("counts", dist.Poisson(expected).to_event(expected.ndim), obs=model.counts)

    return run


def _transport(prior: Any, u: Array) -> Array:
    if isinstance(prior, dist.Uniform):
        return prior.low + (prior.high - prior.low) * ndtr(u)
    return prior.loc + prior.scale * u
