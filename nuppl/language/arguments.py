"""The arguments of a live distribution in words, and which of them are invalid."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.utils import lazy_property

__all__ = ["arguments", "describe_arguments", "innermost", "invalid", "outside_support"]


def innermost(fn: Any) -> Any:
    """The distribution inside wrappers that only reinterpret its axes."""
    while isinstance(fn, torch.distributions.Independent | dist.MaskedDistribution):
        fn = fn.base_dist
    return fn


def arguments(fn: Any) -> Iterator[tuple[str, Tensor, Any]]:
    """(name, value, constraint) of what a distribution was made from; of the base, where it is a transformed one."""
    inner = innermost(fn)
    for name, constraint in inner.arg_constraints.items():
        if name not in vars(inner) and isinstance(getattr(type(inner), name, None), lazy_property):
            continue  # the other parametrisation, probs for logits: not what the user gave
        value = getattr(inner, name, None)
        if isinstance(value, Tensor):
            yield name, value, constraint
    if isinstance(inner, torch.distributions.TransformedDistribution) and not inner.arg_constraints:
        yield from arguments(inner.base_dist)


def invalid(value: Tensor, constraint: Any) -> str:
    """Why an argument cannot be used, or "" where it can: "expected at least 0"."""
    if bool(value.isnan().any()):
        return "expected a number"
    if constraints.is_dependent(constraint):
        return ""
    return "" if bool(constraint.check(value).all()) else f"expected {_wanted(constraint)}"


def describe_arguments(fn: Any, index: tuple[int, ...] | None = None) -> str:
    """The arguments: "rate = -3.2 (expected at least 0)".

    Arguments:
        index: lane and plates of one entry, then the axes that `to_event` took; all entries unless given.
    """
    parts = []
    for name, value, constraint in arguments(fn):
        here = value if index is None else _at(value, index, constraint)
        wrong = invalid(here, constraint)
        parts.append(f"{name} = {_text(here)}" + (f" ({wrong})" if wrong else ""))
    return " and ".join(parts) or "no arguments that can be told"


def outside_support(fn: Any, value: Tensor, index: tuple[int, ...]) -> str | None:
    """ "outside the support of its Uniform, 0 to 0.7", where a value lies there."""
    inner = innermost(fn)
    support = inner.support
    ends = []
    for name in ("lower_bound", "upper_bound"):
        end = getattr(support, name, None)
        if end is None:
            return None
        ends.append(_at(torch.as_tensor(end), index))
    if bool(((value >= ends[0]) & (value <= ends[1])).all()):
        return None
    return f"outside the support of its {type(inner).__name__}, {_text(ends[0])} to {_text(ends[1])}"


def _at(value: Tensor, index: tuple[int, ...], constraint: Any = constraints.real) -> Tensor:
    """One entry of an argument whose axes are lanes, plates, axes that `to_event` took, and those of the argument."""
    try:
        own = constraint.event_dim
    except NotImplementedError:
        own = 0
    shape = (1,) * (len(index) + own - value.dim()) + tuple(value.shape)
    picked = tuple(i if size > 1 else 0 for i, size in zip(index, shape, strict=False))
    return value.reshape(shape)[picked]


def _wanted(constraint: Any) -> str:
    lower, upper = (getattr(constraint, name, None) for name in ("lower_bound", "upper_bound"))
    if lower is None and upper is None:
        return str(constraint)
    strict = isinstance(constraint, constraints.greater_than | constraints.less_than)
    least = [] if lower is None else [f"{'more than' if strict else 'at least'} {float(lower):g}"]
    most = [] if upper is None else [f"{'less than' if strict else 'at most'} {float(upper):g}"]
    return " and ".join(least + most)


def _text(value: Tensor) -> str:
    if value.numel() == 1:
        return f"{float(value):.6g}"
    low, high = float(value.min()), float(value.max())
    return "nan in some entries" if low != low else f"{low:.6g} to {high:.6g}"
