"""Arguments that the functions of oscillation share: checked once, refused by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from nuppl.errors import InputError, unknown
from nuppl.physics.mixing import Value

__all__ = ["Values", "flavor_index", "not_negative", "positive", "within"]


Values: TypeAlias = Value | Sequence[float]
"""A float, a list of floats, or a tensor."""


def positive(name: str, value: Values) -> Tensor:
    """A value above 0 as a float64 tensor. Raises InputError (a ValueError) naming the argument."""
    values = torch.as_tensor(value, dtype=torch.float64)
    return values if _lowest(values) > 0.0 else _refuse(name, "above 0", values, values <= 0.0)


def not_negative(name: str, value: Values) -> Tensor:
    """A value from 0 as a float64 tensor. Raises InputError (a ValueError) naming the argument."""
    values = torch.as_tensor(value, dtype=torch.float64)
    return values if _lowest(values) >= 0.0 else _refuse(name, "from 0", values, values < 0.0)


def within(name: str, value: Values, low: float, high: float) -> Tensor:
    """A value in [low, high] as a float64 tensor. Raises InputError (a ValueError) naming the argument."""
    values = torch.as_tensor(value, dtype=torch.float64)
    return _refuse(name, f"in [{low:g}, {high:g}]", values, (values < low) | (values > high))


def _lowest(values: Tensor) -> float:
    """The lowest value, which costs a tenth of a comparison of all; NaN if there is one."""
    return float(values.detach().amin()) if values.numel() else 0.0


def _refuse(name: str, expected: str, values: Tensor, bad: Tensor) -> Tensor:
    # NaN passes, so that one bad lane does not stop a batch
    if bool(bad.any()):
        given = values.detach()[bad][0].item()
        raise InputError(f"{name}: expected values {expected}, got {given:g}: cut the range that is given")
    return values


def flavor_index(argument: str, flavor: str, names: tuple[str, ...]) -> int:
    """Row of a flavor in U. Raises InputError (a ValueError) for an unknown one."""
    if flavor not in names:
        raise unknown(f"{argument} flavor", flavor, names)
    return names.index(flavor)
