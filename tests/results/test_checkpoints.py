"""States on disk: whole or not at all, and no more often than their cost allows."""

from __future__ import annotations

import resource

import pytest
import torch

from nuppl.errors import RunFolderError
from nuppl.results import checkpoints as module
from nuppl.results.checkpoints import Checkpoints
from nuppl.results.spool import Spool


@pytest.fixture
def quota():
    """No file may grow beyond 4 KiB, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass when we say so."""
    seconds = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: seconds[0])
    return seconds


def test_a_state_that_does_not_fit_leaves_the_last_and_takes_no_room(tmp_path, quota):
    store = Checkpoints(tmp_path / "checkpoints")
    store.save("draws", {"x": torch.arange(3.0)})
    with pytest.raises(RunFolderError, match=r"draws\.pt.*room for it.*--resume"):
        store.save("draws", {"x": torch.zeros(10_000)})
    assert [file.name for file in (tmp_path / "checkpoints").iterdir()] == ["draws.pt"]
    assert store.load("draws")["x"].tolist() == [0.0, 1.0, 2.0]


def test_draws_that_do_not_fit_say_how_to_go_on(tmp_path, quota):
    with pytest.raises(RunFolderError, match=r"draws could not be kept in .*too large.*go on with --resume"):
        Spool(1, 10, tmp_path).append({"x": torch.zeros(1, 1, 100)})


def test_a_state_is_due_again_when_its_cost_is_a_small_share(tmp_path, clock, monkeypatch):
    store = Checkpoints(tmp_path)
    assert not store.due()
    clock[0] += 0.3
    assert store.due()
    # To put the state together took three seconds, to write it none.
    clock[0] += 3.0
    store.save("draws", {})
    clock[0] += 99.0
    assert not store.due()
    clock[0] += 2.0
    assert store.due()


def test_work_that_is_kept_once_does_not_count_as_writing(tmp_path, clock):
    store = Checkpoints(tmp_path)

    def slow():
        clock[0] += 50.0
        return {"x": 1}

    assert store.once("modes", slow) == {"x": 1} and store.once("modes", dict) == {"x": 1}
    clock[0] += 0.3
    assert store.due()


def test_a_state_of_another_program_is_refused(tmp_path):
    (tmp_path / "draws.pt").write_text("nonsense")
    with pytest.raises(RunFolderError, match=r"expected one that nuppl wrote.*--overwrite instead of --resume"):
        Checkpoints(tmp_path).load("draws")
