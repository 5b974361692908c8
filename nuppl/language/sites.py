"""The statements of a model file: parameter, pull, random_effect, auxiliary, observe.

Each is a Pyro sample site that also says what it is. The kind decides in which reading of the likelihood its density
counts:

| kind          | Bayesian           | frequentist                                  |
|---------------|--------------------|----------------------------------------------|
| parameter     | prior              | dropped: free within the support             |
| pull          | constraint         | constraint; its centre fluctuates in toys    |
| random effect | conditional prior  | stays in the likelihood                      |
| data          | likelihood         | likelihood; fluctuates in toys               |

An `auxiliary` measurement is a free parameter together with a data site that measures it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.poutine.runtime import am_i_wrapped
from torch import Tensor

from nuppl.errors import InputError

__all__ = ["Declared", "auxiliary", "observe", "parameter", "pull", "random_effect"]


@dataclass(frozen=True)
class Declared:
    """What a model file says of a site beyond its distribution; travels in the site's `infer` dictionary."""

    kind: str
    unit: str = ""
    label: str = ""
    nominal: float | Tensor | None = None
    auxiliary: bool = False


def _sample(name: str, distribution: Any, declared: Declared, **kwargs: Any) -> Tensor:
    if not isinstance(name, str) or not name.isidentifier():
        raise InputError(f"site name: expected letters, digits and '_', got {name!r}")
    return pyro.sample(name, distribution, infer={"nuppl": declared}, **kwargs)  # type: ignore[no-any-return]


def parameter(
    name: str, prior: Any, *, unit: str = "", label: str = "", nominal: float | Tensor | None = None
) -> Tensor:
    """A quantity to infer.

    Arguments:
        name: the site's name.
        prior: its distribution, used in the Bayesian reading; its support gives the bounds of fits.
        unit: as printed, "eV^2".
        label: LaTeX without dollar signs.
        nominal: the value for Asimov data and the first start of fits; the prior's median unless given.
    """
    return _sample(name, prior, Declared("parameter", unit, label, nominal))


def pull(name: str, constraint: Any = None, *, unit: str = "", label: str = "") -> Tensor:
    """A nuisance that an auxiliary measurement constrains, Normal(0, 1) unless another Gaussian is given.

    Its density counts in both readings; in frequentist toys its centre fluctuates around the true value.
    For a measurement that is not Gaussian use `auxiliary`.

    Raises:
        InputError: a constraint that is not a (multivariate) Normal.
    """
    constraint = dist.Normal(0.0, 1.0) if constraint is None else constraint
    base = constraint
    while isinstance(base, torch.distributions.Independent):
        base = base.base_dist
    if not isinstance(base, torch.distributions.Normal | torch.distributions.MultivariateNormal):
        raise InputError(
            f"pull {name!r}: expected a Normal or MultivariateNormal constraint, got {type(base).__name__}; "
            "use nuppl.auxiliary(name, prior, measurement, observed) for any other measurement"
        )
    return _sample(name, constraint, Declared("pull", unit, label))


def random_effect(name: str, distribution: Any, *, unit: str = "", label: str = "") -> Tensor:
    """A latent whose distribution depends on other latents; its density stays in the frequentist likelihood."""
    return _sample(name, distribution, Declared("random_effect", unit, label))


def auxiliary(
    name: str,
    prior: Any,
    measurement: Callable[[Tensor], Any],
    observed: Tensor | float,
    *,
    unit: str = "",
    label: str = "",
    nominal: float | Tensor | None = None,
) -> Tensor:
    """A nuisance measured elsewhere, by a measurement of any kind.

    Arguments:
        name: the nuisance's site; the measurement becomes the data site `<name>_measured`.
        prior: the Bayesian prior before that measurement.
        measurement: the distribution of the measured value given the nuisance.
        observed: what was measured.

    A background measured by counting (pyhf's `shapesys`):

    >>> with pyro.poutine.trace() as trace:
    ...     gamma = auxiliary("gamma", dist.Gamma(1.0, 1e-3), lambda g: dist.Poisson(100.0 * g), torch.tensor(97.0))
    >>> sorted(trace.trace.nodes)
    ['gamma', 'gamma_measured']
    """
    value = _sample(name, prior, Declared("parameter", unit, label, nominal))
    _observe(f"{name}_measured", measurement(value), observed, Declared("data", unit, auxiliary=True))
    return value


def observe(name: str, distribution: Any, data: Any = None, *, unit: str = "", label: str = "") -> Tensor:
    """A data site: conditioned on `data` in inference, drawn in simulation.

    Arguments:
        name: the site's name.
        distribution: of the data given the latents; a `Simulator` if it can only be drawn.
        data: what was measured, with the shape of the site's plates and event; None where only simulation is wanted.
    """
    return _observe(name, distribution, data, Declared("data", unit, label))


def _observe(name: str, distribution: Any, data: Any, declared: Declared) -> Tensor:
    if data is not None:
        data = torch.as_tensor(data, dtype=torch.float64)
        if not am_i_wrapped():
            return data  # type: ignore[no-any-return]
    return _sample(name, distribution, declared, obs=data)
