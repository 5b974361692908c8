"""Axes with names and coordinates (plates), and prefixes for joint programs (scopes).

A plate of nuppl differs from Pyro's in three ways: it carries coordinates, it leaves no site of its own in the trace,
and it may be entered again under the same name. Its explicit negative `dim` says where its axis lives; -8 and beyond
belong to the experiment batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import torch
from pyro.poutine.broadcast_messenger import BroadcastMessenger
from pyro.poutine.indep_messenger import CondIndepStackFrame, IndepMessenger
from pyro.poutine.messenger import Messenger

from nuppl.errors import InputError

__all__ = ["BATCH_DIM", "PLATE_DIMS", "Frame", "lanes", "plate", "scope"]

BATCH_DIM = -8
"""Where the experiment batch lives: left of every plate."""
PLATE_DIMS = -BATCH_DIM - 1
"""How many axes plates may use."""


class Frame(CondIndepStackFrame):  # type: ignore[misc]
    """An entered plate, with its coordinates riding along."""

    coords: tuple[Any, ...] | None = None
    unit: str = ""

    def renamed(self, name: str) -> Frame:
        """The same axis under another name."""
        frame = Frame(name, self.dim, self.size, self.counter)
        frame.coords, frame.unit = self.coords, self.unit
        return frame


class _Plate(IndepMessenger):  # type: ignore[misc]
    def __init__(self, name: str, size: int, dim: int, coords: tuple[Any, ...] | None = None, unit: str = "") -> None:
        super().__init__(name, size, dim)
        self.coords, self.unit = coords, unit

    def _process_message(self, msg: Any) -> None:
        frame = Frame(self.name, self.dim, self.size, self.counter)
        frame.coords, frame.unit = self.coords, self.unit
        msg["cond_indep_stack"] = (frame, *msg["cond_indep_stack"])
        BroadcastMessenger._pyro_sample(msg)


def plate(name: str, coords: int | Sequence[Any] | torch.Tensor, *, dim: int, unit: str = "") -> _Plate:
    """An axis of independent sites.

    Arguments:
        name: becomes a dimension of the results.
        coords: a size, or one coordinate (number or string) per entry.
        dim: the axis, counted from the right, -1 to -7.
        unit: of the coordinates.

    Raises:
        InputError: an empty axis, or a `dim` outside -7..-1.

    >>> import pyro, pyro.distributions as dist
    >>> with pyro.poutine.trace() as trace, plate("detector", ["near", "far"], dim=-1):
    ...     rate = pyro.sample("rate", dist.Normal(0.0, 1.0))
    >>> tuple(rate.shape)
    (2,)
    """
    if not BATCH_DIM < dim < 0:
        raise InputError(f"plate {name!r}: expected dim between -7 and -1 (the batch lives at -8), got {dim}")
    if isinstance(coords, int | Integral):
        size, labels = int(coords), None
    else:
        labels = tuple(coords.tolist() if hasattr(coords, "tolist") else coords)
        size = len(labels)
    if size < 1:
        raise InputError(f"plate {name!r}: expected at least one entry, got {size}")
    return _Plate(name, size, dim, labels, unit)


def lanes(size: int) -> _Plate:
    """The experiment batch: `size` independent runs of one program."""
    return _Plate("_lane", size, BATCH_DIM)


class scope(Messenger):  # type: ignore[misc]
    """Prefix the sites and plates of a block, so that one experiment can enter a joint program twice.

    >>> import pyro, pyro.distributions as dist
    >>> with pyro.poutine.trace() as trace, scope("danss"):
    ...     _ = pyro.sample("scale", dist.Normal(0.0, 1.0))
    >>> list(trace.trace.nodes)
    ['danss_scale']
    """

    def __init__(self, prefix: str) -> None:
        super().__init__()
        if not prefix.isidentifier():
            raise InputError(f"scope: expected a name made of letters, digits and '_', got {prefix!r}")
        self.prefix = prefix

    def _pyro_sample(self, msg: Any) -> None:
        msg["name"] = f"{self.prefix}_{msg['name']}"
        frames = msg["cond_indep_stack"]
        msg["cond_indep_stack"] = tuple(
            frame.renamed(f"{self.prefix}_{frame.name}") if isinstance(frame, Frame) else frame for frame in frames
        )
