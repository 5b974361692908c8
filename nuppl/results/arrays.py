"""Arrays of draws that may be larger than memory: read when asked for, one scalar entry at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor
from xarray.backends import BackendArray
from xarray.core import indexing

__all__ = ["entries", "is_long", "lazy", "thin"]

WHOLE = 1 << 26
"""Bytes up to which an array is taken as one."""
HISTORY = 1 << 13
"""Draws of one entry below which it is not worth a trip of its own."""


class Kept(BackendArray):
    """One tensor of a mapping, looked up at every access; what is handed out is a copy."""

    def __init__(self, values: Mapping[str, Tensor], name: str) -> None:
        self._values, self._name = values, name
        array = self._array()
        self.shape = array.shape
        self.dtype = np.dtype(np.float64) if array.dtype.kind == "f" else array.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.BASIC, self._read)

    def __deepcopy__(self, memo: Any) -> Kept:
        return self

    def _array(self) -> NDArray[Any]:
        array: NDArray[Any] = self._values[self._name].detach().numpy()
        return array

    def _read(self, key: Any) -> NDArray[Any]:
        return np.array(self._array()[key], dtype=self.dtype, order="C")


def lazy(values: Mapping[str, Tensor], name: str) -> Any:
    """`values[name]` as data of an xarray variable: looked up whenever it is read, and let go of after that.

    >>> import torch
    >>> variable = xr.Variable(("chain", "draw"), lazy({"x": torch.tensor([[1.0, 2.0]])}, "x"))
    >>> variable[:, 1].values
    array([2.])
    """
    return indexing.LazilyIndexedArray(Kept(values, name))


def is_long(draws: xr.DataArray) -> bool:
    """Whether an array (chain, draw, ...) is to be taken entry by entry."""
    return draws.nbytes > WHOLE and draws.shape[0] * draws.shape[1] > HISTORY


def entries(draws: xr.DataArray) -> Iterator[tuple[tuple[int, ...], NDArray[np.float64]]]:
    """The place of each scalar entry of draws (chain, draw, ...), and its values with shape (chain, draw).

    >>> [place for place, _ in entries(xr.DataArray(np.zeros((2, 5, 3)), dims=("chain", "draw", "core")))]
    [(0,), (1,), (2,)]
    """
    # The copy shares the data, but keeps nothing of what it reads from a file.
    draws = draws.transpose("chain", "draw", ...).copy(deep=False)
    source = draws if is_long(draws) else draws.values
    for place in np.ndindex(draws.shape[2:]):
        yield place, np.asarray(source[(slice(None), slice(None), *place)], dtype=np.float64)


def thin(draws: xr.DataArray, most: int) -> xr.DataArray:
    """At most that many draws (or one of each chain), evenly spaced: for pictures."""
    step = -(-draws.sizes["chain"] * draws.sizes["draw"] // most)
    return draws.isel(draw=slice(None, None, max(1, step)))
