"""Random numbers of a root seed and a stream: the same whatever was drawn before, so nothing has to be remembered."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

__all__ = ["apart", "derived", "generator"]


def derived(seed: int, *stream: int) -> int:
    """A seed of 32 bits for one stream of a root seed.

    >>> derived(1, 2) == derived(1, 2), derived(1, 2) == derived(2, 1)
    (True, False)
    """
    return int(np.random.SeedSequence((seed, *stream)).generate_state(1)[0])


def generator(seed: int, *stream: int) -> torch.Generator:
    """A generator for one stream of a root seed."""
    return torch.Generator().manual_seed(derived(seed, *stream))


@contextmanager
def apart(seed: int, *stream: int) -> Iterator[None]:
    """Run code that draws from torch's global state (initial weights, dropout) with a seed, and put the state back.

    >>> before = torch.get_rng_state()
    >>> with apart(3): a = torch.rand(2)
    >>> with apart(3): b = torch.rand(2)
    >>> bool((a == b).all()), bool((torch.get_rng_state() == before).all())
    (True, True)
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derived(seed, *stream))
        yield
