"""Pieces of broadcasting tensors that fit the cache: larger intermediates cost up to four times as much."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import repeat

import torch
from torch import Tensor

__all__ = ["longest", "pieces", "side_by_side"]


def pieces(tensors: Sequence[Tensor], leading: Sequence[int], points: int) -> Iterator[list[Tensor]]:
    """Pieces of all tensors along the longest axis (*) of their common shape, of at most about `points` points each.

    The first `leading[i]` axes of tensor i do not take part. A tensor that broadcasts along the longest axis is in
    every piece as it is. The pieces lie along the axis `longest(...)`, counted from the right.
    """
    shape = torch.broadcast_shapes(*(tensor.shape[n:] for tensor, n in zip(tensors, leading, strict=True)))
    axis = longest(shape)
    if math.prod(shape) <= points or axis is None:
        yield list(tensors)
        return
    size = max(1, points * shape[axis] // math.prod(shape))
    split = [_split(tensor, n, axis, size) for tensor, n in zip(tensors, leading, strict=True)]
    starts = range(0, shape[axis], size)
    for _, *piece in zip(starts, *split, strict=False):  # those that repeat never end
        yield list(piece)


def longest(shape: Sequence[int]) -> int | None:
    """The longest axis counted from the right, or None without axes."""
    return max(range(-len(shape), 0), key=lambda axis: shape[axis], default=None)


def side_by_side(parts: list[Tensor], shape: Sequence[int], points: int | None = None) -> Tensor:
    """The results of pieces as one tensor with the given shape, of which the last `points` axes (or all) are (*)."""
    axis = longest(shape[len(shape) - points :] if points is not None else shape)
    whole = parts[0] if len(parts) == 1 or axis is None else torch.cat(parts, dim=axis)
    return whole.expand(tuple(shape))


def _split(tensor: Tensor, leading: int, axis: int, size: int) -> Iterator[Tensor]:
    if tensor.ndim - leading < -axis or tensor.shape[axis] == 1:
        return repeat(tensor)
    return iter(torch.split(tensor, size, dim=axis))
