"""Constant matrices that are mostly zero in contiguous ranges: banded, triangular, multiplied block by block.

    y_c = x_r(c) M_r(c)c    for groups of columns c, each with the rows r(c) from its first to its last entry

The derivative of a product with M is a product with its transpose, so that derivatives of any order exist.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["BlockMatrix"]

_Parts = list[tuple[slice, slice, Tensor]]


class BlockMatrix:
    """A matrix with shape (n, m), cut into groups of columns.

    >>> double = BlockMatrix(2.0 * torch.eye(4, dtype=torch.float64), groups=2)
    >>> double(torch.ones(1, 4, dtype=torch.float64)).tolist()
    [[2.0, 2.0, 2.0, 2.0]]
    """

    def __init__(self, matrix: Tensor, groups: int) -> None:
        self.shape = matrix.shape
        self.parts, self.transposed = _parts(matrix, groups), _parts(matrix.T, groups)

    def __call__(self, x: Tensor) -> Tensor:
        """x times the matrix, for x with shape (*, n): shape (*, m)."""
        product: Tensor = _Product.apply(x, self.parts, self.transposed)  # type: ignore[no-untyped-call]
        return product


def _parts(matrix: Tensor, groups: int) -> _Parts:
    """(rows, columns, block) of each group of columns."""
    parts, start = [], 0
    for block in matrix.tensor_split(groups, dim=1):
        filled = block.count_nonzero(1).nonzero()[:, 0].tolist()
        rows = slice(filled[0], filled[-1] + 1) if filled else slice(0, 0)
        columns = slice(start, start + block.shape[1])
        parts.append((rows, columns, block[rows].contiguous()))
        start = columns.stop
    return parts


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, parts: _Parts, transposed: _Parts) -> Tensor:
        ctx.parts = parts, transposed
        flat = x.reshape(-1, x.shape[-1])
        product = flat.new_empty(len(flat), parts[-1][1].stop)
        for rows, columns, block in parts:
            torch.mm(flat[:, rows], block, out=product[:, columns])
        return product.reshape(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        parts, transposed = ctx.parts
        return _Product.apply(gradient, transposed, parts), None, None  # type: ignore[no-untyped-call]
