"""What a prior must be: continuous, made from valid arguments, and proper, which means that it integrates to one.

Draws from the prior, whitened coordinates and the evidence all rest on that. An improper prior would still give
numbers, and some of them a posterior, but an evidence that means nothing.
"""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch

from nuppl.errors import InputError
from nuppl.language.arguments import arguments, describe_arguments, innermost, invalid
from nuppl.language.transport import transport

__all__ = ["refuse_discrete", "refuse_improper"]


def refuse_discrete(name: str, kind: str, fn: Any) -> None:
    """Raise InputError for a latent that is discrete."""
    inner = innermost(fn)
    if inner.support.is_discrete:
        raise InputError(
            f"{kind} {name!r}: expected a continuous prior, got the discrete {type(inner).__name__}: posteriors and "
            "fits need gradients; sum it out in the likelihood, or draw it inside a nuppl.Simulator"
        )


def refuse_improper(name: str, kind: str, fn: Any) -> None:
    """Raise InputError for a prior whose arguments are invalid, or that does not integrate to one.

    A flat prior without an end shows in its quantiles: those at -1, 0 and 1 standard deviation are not finite.
    """
    made_of = f"{type(innermost(fn)).__name__} with {describe_arguments(fn)}"
    wrong = [said for name, value, constraint in arguments(fn) if (said := invalid(value, constraint))]
    if wrong:
        raise InputError(f"{kind} {name!r}: expected valid arguments of its prior, got {made_of}")
    if isinstance(innermost(fn), dist.ImproperUniform):
        made_of = f"ImproperUniform over {innermost(fn).support}"
    elif _is_finite(fn):
        return
    raise InputError(
        f"{kind} {name!r}: expected a proper prior, which integrates to one, got {made_of}; give it finite bounds or a "
        "finite width, such as dist.Uniform(low, high); a fit uses the bounds alone, so wide ones cost it nothing"
    )


def _is_finite(fn: Any) -> bool:
    white = transport(fn)
    with torch.no_grad():
        for deviations in (-1.0, 0.0, 1.0):
            u = torch.full((*fn.batch_shape, *white.event_shape), deviations, dtype=torch.float64)
            value = white.forward(u)
            if not bool(value.isfinite().all() and white.log_density(u, value).isfinite().all()):
                return False
    return True
