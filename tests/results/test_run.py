"""A run folder appears whole, and is never overwritten unasked."""

from __future__ import annotations

import json
import os

import pytest

from nuppl.errors import RunFolderError
from nuppl.results.run import RunFolder


@pytest.fixture
def model(tmp_path):
    file = tmp_path / "counting.py"
    file.write_text("x = 1\n")
    return file


def begin(path, model, seed=1, **kwargs):
    return RunFolder.begin(path, model, {"seed": seed}, {"command": "nuppl"}, **kwargs)


def finish(path, model, word="first", **kwargs):
    run = begin(path, model, **kwargs)
    run.report.write_text(word)
    return run.finish(verdict="fine")


def entries(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_nothing_appears_before_the_run_is_finished(tmp_path, model):
    run = begin(tmp_path / "runs" / "reactor", model)
    run.log("started")
    assert not run.path.exists() and json.loads((run.work / "run.json").read_text())["status"] == "running"
    run.finish(verdict="fine")
    settings = json.loads((run.path / "run.json").read_text())
    assert settings["status"] == "finished" and settings["seed"] == 1 and settings["verdict"] == "fine"
    assert (run.path / "log.txt").read_text().endswith(" started\n")
    assert (run.path / "counting.py").read_text() == "x = 1\n" and settings["model_sha256"].startswith("9e26bf36")
    assert entries(run.path.parent) == ["reactor"] and "lock" not in entries(run.path)


def test_a_finished_run_is_only_replaced_when_asked_and_only_by_a_finished_one(tmp_path, model):
    path = finish(tmp_path / "runs" / "reactor", model)
    with pytest.raises(RunFolderError, match=r"holds a finished run.*--overwrite"):
        begin(path, model)
    assert not begin(path, model, overwrite=True).leave()
    assert (path / "report.html").read_text() == "first"
    finish(path, model, "second", overwrite=True)
    assert (path / "report.html").read_text() == "second"
    assert entries(tmp_path / "runs") == ["reactor"]


def test_what_was_interrupted_before_its_first_checkpoint_does_not_stand_in_the_way(tmp_path, model):
    begin(tmp_path / "reactor", model).lock.release()
    (tmp_path / "reactor.partial" / "posterior.nc").write_text("half")
    assert (finish(tmp_path / "reactor", model) / "report.html").exists()
    assert "posterior.nc" not in entries(tmp_path / "reactor")


def interrupted(path, model):
    run = begin(path, model)
    run.checkpoints.mkdir()
    (run.checkpoints / "draws.pt").write_text("half the draws")
    assert run.leave()


def test_an_interrupted_run_is_resumed_or_discarded_only_when_asked(tmp_path, model):
    place = tmp_path / "reactor"
    interrupted(place, model)
    with pytest.raises(RunFolderError, match=r"interrupted run.*--resume.*--overwrite"):
        begin(place, model)
    with pytest.raises(RunFolderError, match="seed was 1 and is now 2"):
        begin(place, model, seed=2, resume=True)
    run = begin(place, model, resume=True)
    assert (run.checkpoints / "draws.pt").read_text() == "half the draws"
    assert run.leave()
    run = begin(place, model, seed=2, overwrite=True)
    assert not run.checkpoints.exists()
    assert entries(run.finish()) == ["counting.py", "run.json"]


def test_what_the_user_must_put_right_leaves_nothing(tmp_path, model):
    run = begin(tmp_path / "reactor", model)
    run.checkpoints.mkdir()
    assert not run.leave(keep=False) and entries(tmp_path) == ["counting.py"]


def test_one_process_per_folder(tmp_path, model):
    run = begin(tmp_path / "reactor", model)
    for choice in ({}, {"resume": True}, {"overwrite": True}):
        with pytest.raises(RunFolderError, match=rf"in use by process {os.getpid()} on .*; wait for it"):
            begin(tmp_path / "reactor", model, **choice)
    run.finish()
    finish(tmp_path / "reactor", model, overwrite=True)


def test_a_place_taken_meanwhile_is_respected(tmp_path, model):
    run = begin(tmp_path / "reactor", model)
    (tmp_path / "reactor").mkdir()
    (tmp_path / "reactor" / "run.json").write_text("{}")
    with pytest.raises(RunFolderError, match="holds a finished run"):
        run.finish()
    run.leave()


@pytest.mark.parametrize("overwrite", [False, True])
def test_folders_of_others_are_left_alone(tmp_path, model, overwrite):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("all of it")
    with pytest.raises(RunFolderError, match="other things than a run"):
        begin(tmp_path / "thesis", model, overwrite=overwrite)
    (tmp_path / "reactor.partial").mkdir()
    (tmp_path / "reactor.partial" / "mine").write_text("too")
    with pytest.raises(RunFolderError, match="is in the way"):
        begin(tmp_path / "reactor", model, overwrite=overwrite)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="found a file"):
        begin(tmp_path / "file", model, overwrite=overwrite)
    with pytest.raises(RunFolderError, match="can be written"):
        begin(tmp_path / "file" / "below", model, overwrite=overwrite)
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "all of it"
