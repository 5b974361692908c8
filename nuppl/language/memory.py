"""How the C library keeps memory between evaluations.

A batch of densities frees and takes back the same megabytes hundreds of times a second. glibc returns them to the
system each time by default, and every page that comes back costs a fault: half of the time of a density. What is kept
is memory that was in use before, so the peak does not grow.
"""

from __future__ import annotations

import ctypes
import functools
import os

__all__ = ["keep_freed_memory"]

_TRIM, _MAP = -1, -3
"""glibc's names, M_TRIM_THRESHOLD and M_MMAP_THRESHOLD, for mallopt(3)."""

_KEPT, _MAPPED = 1 << 29, 1 << 25
"""Bytes that are kept at most, and from which size blocks are returned at once: the greatest that glibc takes."""


@functools.cache
def keep_freed_memory() -> bool:
    """Ask the C library to keep what is freed; whether it does. Does nothing where the user's MALLOC_* decide."""
    if any(name.startswith("MALLOC_") for name in os.environ):
        return False
    set_option = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    return set_option is not None and all(set_option(name, size) for name, size in ((_MAP, _MAPPED), (_TRIM, _KEPT)))
