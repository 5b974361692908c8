"""Whitening: every latent as a function of standard coordinates, value = T(u).

T comes from the site's own live distribution, so priors may depend on other latents. Where T is the exact transport,
the density of u is the standard normal whatever the prior, and no probability can leak outside the support:

    p(u) = p(T(u)) |dT/du| = N(u; 0, 1).

Rules, first match wins: Normal and MultivariateNormal are affine; a TransformedDistribution with bijective transforms
carries its base along; a distribution with cdf and icdf uses icdf(Phi(u)); all others use torch's `biject_to(support)`
with the Jacobian. Phi(u) saturates at |u| = 8.3.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import biject_to

from nuppl.errors import InputError

__all__ = ["Transport", "transport"]

_LOG_SQRT_2PI = 0.5 * math.log(2.0 * math.pi)


class Transport(NamedTuple):
    """A whitening map of one site; u has shape (*batch, *event) unless the support is constrained in dimension."""

    forward: Callable[[Tensor], Tensor]
    """u to the site's value."""
    inverse: Callable[[Tensor], Tensor]
    """The site's value to u."""
    log_density: Callable[[Tensor, Tensor], Tensor]
    """(u, value) to log p(value) + log |dT/du| with shape (*batch)."""
    event_shape: torch.Size
    """The event shape of u."""
    exact: bool = True
    """Whether u is standard normal before data."""


def transport(fn: Any) -> Transport:
    """The whitening map of a distribution.

    Raises:
        InputError: a discrete distribution, or one whose support torch cannot map to the reals.

    >>> uniform = transport(dist.Uniform(torch.zeros(2, dtype=torch.float64), 3.0))
    >>> uniform.forward(torch.zeros(2, dtype=torch.float64)).tolist()
    [1.5, 1.5]
    """
    event_dim = len(fn.event_shape)
    base = _unwrap(fn)
    if base.support.is_discrete:
        raise InputError(
            f"a latent with the discrete distribution {type(base).__name__} cannot be whitened: expected a continuous "
            "one; sum the discrete latent out, or move it into a nuppl.Simulator"
        )
    pair = _exact(base)
    if pair is None:
        return _bijected(fn)
    return Transport(*pair, lambda u, value: _standard_normal(u, event_dim), fn.event_shape)


def _unwrap(fn: Any) -> Any:
    while isinstance(fn, torch.distributions.Independent | dist.MaskedDistribution):
        fn = fn.base_dist
    return fn


def _standard_normal(u: Tensor, event_dim: int) -> Tensor:
    log_density = -0.5 * u * u - _LOG_SQRT_2PI
    return log_density.sum(tuple(range(-event_dim, 0))) if event_dim else log_density


Pair = tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]


def _exact(fn: Any) -> Pair | None:
    fn = _unwrap(fn)
    for rule in (_affine, _multivariate, _uniform, _transformed, _quantile):
        pair = rule(fn)
        if pair is not None:
            return pair
    return None


def _affine(fn: Any) -> Pair | None:
    if not isinstance(fn, torch.distributions.Normal):
        return None
    return (lambda u: fn.loc + fn.scale * u), (lambda value: (value - fn.loc) / fn.scale)


def _multivariate(fn: Any) -> Pair | None:
    if not isinstance(fn, torch.distributions.MultivariateNormal):
        return None

    def forward(u: Tensor) -> Tensor:
        return fn.loc + (fn.scale_tril @ u[..., None])[..., 0]

    def inverse(value: Tensor) -> Tensor:
        centred = (value - fn.loc)[..., None]
        return torch.linalg.solve_triangular(fn.scale_tril, centred, upper=False)[..., 0]  # type: ignore[no-any-return]

    return forward, inverse


def _uniform(fn: Any) -> Pair | None:
    if not isinstance(fn, torch.distributions.Uniform):
        return None
    width = fn.high - fn.low
    return (
        lambda u: fn.low + width * torch.special.ndtr(u),
        lambda value: torch.special.ndtri((value - fn.low) / width),
    )


def _transformed(fn: Any) -> Pair | None:
    if not isinstance(fn, torch.distributions.TransformedDistribution):
        return None
    chain = torch.distributions.ComposeTransform(fn.transforms)
    if not chain.bijective or fn.event_shape != fn.base_dist.event_shape:
        return None
    base = _exact(fn.base_dist)
    if base is None:
        return None
    return (lambda u: chain(base[0](u))), (lambda value: base[1](chain.inv(value)))


def _quantile(fn: Any) -> Pair | None:
    try:
        fn.cdf(fn.icdf(torch.full(fn.batch_shape, 0.5, dtype=torch.float64)))
    except (NotImplementedError, AttributeError):
        return None
    return (
        lambda u: fn.icdf(torch.special.ndtr(u)),
        lambda value: torch.special.ndtri(fn.cdf(value)),
    )


def _bijected(fn: Any) -> Transport:
    try:
        bijection = biject_to(fn.support)
    except NotImplementedError as error:
        raise InputError(f"the support {fn.support} of {type(fn).__name__} cannot be mapped to the reals") from error

    def log_density(u: Tensor, value: Tensor) -> Tensor:
        # The support knows the event, so its map has summed the event's axes.
        return fn.log_prob(value) + bijection.log_abs_det_jacobian(u, value)  # type: ignore[no-any-return]

    shape = bijection.inverse_shape(fn.batch_shape + fn.event_shape)[len(fn.batch_shape) :]
    return Transport(bijection, bijection.inv, log_density, torch.Size(shape), exact=False)
