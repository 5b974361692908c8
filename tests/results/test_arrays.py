"""Arrays that are read when needed, entry by entry."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import xarray as xr

from nuppl.results import arrays
from nuppl.results.arrays import entries, is_long, lazy, thin


class Counting(dict):
    """Values that count how often they are asked for."""

    asked = 0

    def __getitem__(self, name):
        self.asked += 1
        return super().__getitem__(name)


@pytest.fixture
def values():
    generator = torch.Generator().manual_seed(1)
    return Counting(x=torch.randn(2, 30, 3, 4, generator=generator, dtype=torch.float64))


@pytest.fixture
def array(values):
    return xr.DataArray(lazy(values, "x"), dims=("chain", "draw", "near", "far"))


def test_nothing_is_read_before_it_is_needed(values, array):
    before = values.asked
    part = xr.Dataset({"x": array})["x"].isel(near=1)[:, ::7].copy(deep=False)
    assert part.shape == (2, 5, 4) and values.asked == before
    np.testing.assert_array_equal(part.values, values["x"][:, ::7, 1].numpy())
    np.testing.assert_array_equal(copy.deepcopy(array).isel(draw=[3, 1, 1]).values, values["x"][:, [3, 1, 1]].numpy())


def test_what_is_read_is_a_copy(values, array):
    array.values[:] = 0.0
    assert bool((values["x"] != 0.0).any())


@pytest.mark.parametrize("long", [False, True])
def test_entries_are_those_of_the_array(values, array, long, monkeypatch):
    if long:
        monkeypatch.setattr(arrays, "WHOLE", 100)
        monkeypatch.setattr(arrays, "HISTORY", 10)
    assert is_long(array) == long
    before = values.asked
    found = dict(entries(array))
    assert values.asked - before == (12 if long else 1)
    assert len(found) == 12
    for place, entry in found.items():
        np.testing.assert_array_equal(entry, values["x"][(..., *place)].numpy())


def test_a_thinned_picture_has_evenly_spaced_draws_of_every_chain(values, array):
    np.testing.assert_array_equal(thin(array, 20).values, values["x"][:, ::3].numpy())
    assert thin(array, 60).sizes["draw"] == 30 and thin(array, 1).sizes["draw"] == 1
