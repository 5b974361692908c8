"""The one place that sets, and restores, the numerical settings under which programs run.

Likelihoods need float64 (`dist.Uniform(0.0, 0.2)` follows torch's default dtype), and densities run without argument
validation: with it, one bad particle would raise for its whole batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyro
import torch

__all__ = ["double_precision", "program_settings", "seeded"]


@contextmanager
def double_precision() -> Iterator[None]:
    """float64 as torch's default dtype inside the block."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def program_settings(validate: bool = False) -> Iterator[None]:
    """float64, and argument validation off (or on, for `nuppl check`)."""
    with double_precision(), pyro.validation_enabled(validate):
        yield


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """torch's generator seeded inside the block and restored after it, so that no result depends on order."""
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed also queues a call, with its stack, for every kind of accelerator: slow, and never freed.
        torch.default_generator.manual_seed(seed)
        yield
