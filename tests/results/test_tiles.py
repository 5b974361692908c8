"""Tiles of a simulation store: what goes in comes out, and what is damaged says so."""

from __future__ import annotations

import errno
import os

import netCDF4
import numpy as np
import pytest
import torch

from nuppl.errors import InputError, RunFolderError
from nuppl.results.simulations import SimulationStore
from nuppl.results.tiles import Tile, read_tile, tile_rows, write_tile

SHAPES = {"counts": (2, 3), "flux": (), "failed": (2,)}
LATENTS = 20


def tile(rows: int = 700, seed: int = 0) -> Tile:
    """Latents, counts, numbers far outside single precision, and two kinds of failures."""
    generator = torch.Generator().manual_seed(seed)
    u = torch.randn(rows, LATENTS, generator=generator)
    counts = torch.poisson(torch.full((rows, 6), 9.0), generator=generator).double()
    flux = torch.randn(rows, 1, generator=generator, dtype=torch.float64) * 1e-44
    other = torch.randn(rows, 2, generator=generator, dtype=torch.float64) * 1e40
    data, code = torch.cat([counts, flux, other], 1), torch.zeros(rows, dtype=torch.int64)
    data[3], code[3] = torch.nan, 2
    data[5, 7], code[5] = torch.inf, 1
    u[9, 4:], data[9], code[9] = torch.nan, torch.nan, 2
    return Tile(u, data, code, ("infinite", "raised"))


def same(one: Tile, other: Tile) -> bool:
    pairs = zip(one[:3], other[:3], strict=True)
    equal = all(torch.equal(a.isnan(), b.isnan()) and torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in pairs)
    return equal and one.reasons == other.reasons


@pytest.fixture
def file(tmp_path):
    write_tile(tmp_path / "0-000000.nc", tile(), SHAPES)
    return tmp_path / "0-000000.nc"


def test_what_goes_in_comes_out(file):
    there = read_tile(file, LATENTS, SHAPES)
    assert there.u.dtype == torch.float32 and there.data.dtype == torch.float64
    assert same(there, Tile(*tile()[:3], ("raised", "infinite"))._replace(code=there.code))
    assert there.counts() == {"raised": 2, "infinite": 1} == tile().counts()
    assert there.failed.nonzero().flatten().tolist() == [3, 5, 9]
    assert tile_rows(file) == (700, {"raised": 2, "infinite": 1})
    assert [entry.name for entry in file.parent.iterdir()] == [file.name]


@pytest.mark.parametrize("columns", [[3], [7, 2, 19], list(range(19, -1, -1)), []])
def test_some_latents(file, columns):
    there = read_tile(file, LATENTS, SHAPES, torch.tensor(columns, dtype=torch.int64))
    assert torch.equal(there.u.nan_to_num(), tile().u[:, columns].nan_to_num())


def test_data_are_single_precision_only_where_that_is_exact(file):
    with netCDF4.Dataset(file) as found:
        kinds = {name: variable.dtype for name, variable in found.variables.items()}
    assert kinds == {"u": np.float32, "failed": np.int8, "counts": np.float32, "flux": float, "data_failed": float}


def test_tiles_join_and_are_cut():
    first, second = tile(300), tile(50, seed=1)
    second = second._replace(reasons=("raised", "something else"))
    joined = Tile.joined([first, second])
    assert joined.reasons == ("infinite", "raised", "something else")
    assert joined.counts() == {"infinite": 1, "raised": 3, "something else": 2}
    assert same(joined.first(300), first._replace(reasons=joined.reasons))
    assert joined.first(4).counts() == {"raised": 1}


def test_rare_reasons_are_put_together(tmp_path):
    rows = 300
    code = torch.arange(rows) % 100 + 1
    code[:100] = 1
    many = Tile(torch.zeros(rows, 0), torch.zeros(rows, 1).double(), code, tuple(f"at {i}" for i in range(100)))
    write_tile(tmp_path / "x.nc", many, {"x": ()})
    there = read_tile(tmp_path / "x.nc", 0, {"x": ()})
    assert there.u.shape == (rows, 0) and bool(there.failed.all())
    assert there.counts()["at 0"] == 102 and there.counts()["other reasons"] == rows - 102 - 7 * 2


@pytest.mark.parametrize("keep", [0, 100, 5000, -1])
def test_a_truncated_tile_says_so(file, keep):
    file.write_bytes(file.read_bytes()[:keep])
    assert tile_rows(file) is None
    with pytest.raises(InputError, match=r"0-000000\.nc.*cannot be read.*remove it"):
        read_tile(file, LATENTS, SHAPES)


def test_a_changed_tile_says_so(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(InputError, match=r"0-000000\.nc.*SHA-256 differs"):
        read_tile(file, LATENTS, SHAPES)


@pytest.mark.parametrize(
    ("latents", "shapes"), [(19, SHAPES), (LATENTS, {**SHAPES, "counts": (3, 2)}), (20, {"n": ()})]
)
def test_a_tile_of_other_shapes_is_refused(file, latents, shapes):
    with pytest.raises(InputError, match="expected a tile as nuppl wrote it"):
        read_tile(file, latents, shapes)


def test_a_full_disk_leaves_the_tile_that_was_there(file, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(RunFolderError, match=r"No space left on device.*what is there is kept"):
        write_tile(file, tile(seed=1), SHAPES)
    assert [entry.name for entry in file.parent.iterdir()] == [file.name]
    assert torch.equal(read_tile(file, LATENTS, SHAPES).u[0], tile().u[0])


def test_what_a_store_is_missing(tmp_path):
    said = {"model": "m", "model_sha256": "", "options": {}, "fixed": {}, "rows": 1024}
    store = SimulationStore(
        tmp_path, {**said, "latents": {"u": [LATENTS]}, "data": {k: list(v) for k, v in SHAPES.items()}}
    )
    (tmp_path / "tiles").mkdir()
    assert store.missing(2500, seed=0) == [(0, 1024), (1, 1024), (2, 452)]
    store.write(0, 0, tile(1024))
    store.write(0, 2, tile(452))
    assert store.missing(2500, seed=0) == [(1, 1024)]
    assert store.missing(4000, seed=0) == [(1, 1024), (2, 1024), (3, 928)]
    assert store.missing(1476, seed=0) == []
    store.write(7, 0, tile(1024))
    assert store.missing(2500, seed=7) == []
    assert store.missing(3000, seed=7) == [(1, 500)]
    assert [(each.seed, each.number, each.rows, each.failed) for each in store.held()] == [
        (0, 0, 1024, 3),
        (0, 2, 452, 3),
        (7, 0, 1024, 3),
    ]
