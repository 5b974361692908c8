"""Names for the shapes that travel between the floors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from torch import Tensor

__all__ = ["Density", "Progress", "Values", "silent"]

Values: TypeAlias = Mapping[str, Tensor]
"""Sites by name, each a tensor with shape (*site) or (n, *site)."""

Density: TypeAlias = Callable[[Tensor], Tensor]
"""A batched log density: points with shape (n, D) to values with shape (n,)."""

Progress: TypeAlias = Callable[[int, int, str], None]
"""Told of each finished step: (done, total, what)."""


def silent(done: int, total: int, what: str) -> None:
    """Progress that nobody watches."""
