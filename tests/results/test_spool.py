"""Draws in a file: what comes out is what went in, and nothing stays behind."""

from __future__ import annotations

import gc
import os

import pytest
import torch

from nuppl.errors import InputError, RunFolderError
from nuppl.results import spool as module
from nuppl.results.draws import Draws
from nuppl.results.spool import Spool

CHAINS, DRAWS = 3, 40


@pytest.fixture
def drawn():
    generator = torch.Generator().manual_seed(1)
    shapes = {"x": (), "v": (4,), "m": (2, 3)}
    return {
        name: torch.randn(CHAINS, DRAWS, *shape, generator=generator, dtype=torch.float64)
        for name, shape in shapes.items()
    }


def rows(values, part):
    return {name: value[:, part] for name, value in values.items()}


@pytest.mark.parametrize("buffer", [0, 2000, 1 << 25])
@pytest.mark.parametrize("blocks", [(40,), (1, 7, 30, 2), (1,) * 40])
def test_what_went_in_in_blocks_comes_out_whole(drawn, blocks, buffer, monkeypatch):
    monkeypatch.setattr(module, "BUFFER", buffer)
    spool, at = Spool(CHAINS, DRAWS), 0
    for n in blocks:
        part = {name: value.clone() for name, value in rows(drawn, slice(at, at + n)).items()}
        spool.append(part, {"lp": part["x"] ** 2})
        # The engine's tensor is its own again.
        part["x"].zero_()
        at += n
    values = spool.values()
    assert list(values) == list(drawn) and len(values) == 3 and "lp" not in values
    for name, value in drawn.items():
        torch.testing.assert_close(values[name], value, rtol=0.0, atol=0.0)
    torch.testing.assert_close(spool.stats()["lp"], drawn["x"] ** 2, rtol=0.0, atol=0.0)


def test_chains_may_come_one_after_the_other(drawn):
    spool = Spool(CHAINS, DRAWS)
    for chain in (1, 0, 2):
        for part in (slice(0, 15), slice(15, 40)):
            spool.append({name: value[[chain], part] for name, value in drawn.items()}, chain=chain)
        if chain != 2:
            with pytest.raises(InputError, match="equally many draws of every chain"):
                spool.values()
    for name, value in drawn.items():
        torch.testing.assert_close(spool.values()[name], value, rtol=0.0, atol=0.0)
    assert dict(spool.stats()) == {}


def test_fewer_draws_than_there_is_room_for_can_be_read_and_added_to(drawn):
    spool = Spool(CHAINS, DRAWS)
    spool.append(rows(drawn, slice(0, 10)))
    torch.testing.assert_close(spool.values()["m"], drawn["m"][:, :10])
    spool.append(rows(drawn, slice(10, 12)))
    torch.testing.assert_close(spool.values()["v"], drawn["v"][:, :12])


def test_draws_are_views_of_the_file_that_protect_it(drawn):
    spool = Spool(CHAINS, DRAWS)
    spool.append(drawn, {"lp": drawn["x"]})
    draws = Draws(spool.values(), spool.stats())
    assert draws.shape == (CHAINS, DRAWS)
    lanes = draws.lanes()
    storage = lanes["m"].untyped_storage()
    assert lanes["m"].shape == (CHAINS * DRAWS, 2, 3) and storage.nbytes() == 8 * drawn["m"].numel()
    lanes["m"].zero_()
    assert bool((lanes["m"] == 0).all())
    torch.testing.assert_close(draws.values["m"], drawn["m"])


def test_tensors_outlive_the_spool_and_no_file_outlives_them(drawn, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = open_files()
    spool = Spool(CHAINS, DRAWS)
    spool.append(drawn)
    assert list(tmp_path.iterdir()) == [] and open_files() == before + 1
    kept = spool.values()["v"]
    del spool
    torch.testing.assert_close(kept, drawn["v"])
    del kept
    gc.collect()
    assert open_files() == before


@pytest.mark.parametrize("n", [0, 1, 17, 40])
def test_another_process_goes_on_where_a_state_was_taken(drawn, tmp_path, n):
    spool = Spool(CHAINS, DRAWS, tmp_path)
    if n:
        spool.append(rows(drawn, slice(0, n)))
    state = spool.state()
    if n < DRAWS:
        # What came after the state is forgotten.
        spool.append({name: value.new_zeros(CHAINS, 1, *value.shape[2:]) for name, value in drawn.items()})
        spool.state()
    again = Spool(CHAINS, DRAWS, tmp_path, state)
    if n < DRAWS:
        again.append(rows(drawn, slice(n, DRAWS)))
    for name, value in again.values().items():
        torch.testing.assert_close(value, drawn[name], rtol=0, atol=0)


def open_files():
    return len(os.listdir("/proc/self/fd"))


def test_blocks_that_do_not_fit_are_refused(drawn, tmp_path):
    spool = Spool(CHAINS, DRAWS)
    spool.append(rows(drawn, slice(0, 30)))
    with pytest.raises(InputError, match=r"expected the sites and statistics \['x', 'v', 'm'\], got \['x'\]"):
        spool.append({"x": drawn["x"][:, :1]})
    with pytest.raises(InputError, match=r"expected 'v' with shape \(3, 2, 4\), got \(3, 1, 4\)"):
        spool.append({**rows(drawn, slice(0, 2)), "v": drawn["v"][:, :1]})
    with pytest.raises(InputError, match="no room in chain None for 11 draws"):
        spool.append(rows(drawn, slice(0, 11)))
    with pytest.raises(InputError, match="no room in chain 3"):
        spool.append({name: value[:1, :1] for name, value in drawn.items()}, chain=3)
    with pytest.raises(InputError, match="at least one chain"):
        Spool(0, 5)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match=r"could not be kept in .*file.*File exists"):
        Spool(1, 1, tmp_path / "file")
    torch.testing.assert_close(spool.values()["m"], drawn["m"][:, :30])
