"""A run folder appears whole, and is never overwritten unasked."""

from __future__ import annotations

import json

import pytest

from nuppl.errors import RunFolderError
from nuppl.results.run import RunFolder


def finished(path, word="first", **kwargs):
    run = RunFolder.create(path, {"seed": 1}, **kwargs)
    run.report.write_text(word)
    return run.finish(verdict="fine")


def test_nothing_appears_before_the_run_is_finished(tmp_path):
    run = RunFolder.create(tmp_path / "runs" / "reactor", {"seed": 1})
    run.log("started")
    assert not run.path.exists() and json.loads((run.work / "run.json").read_text())["status"] == "running"
    run.finish(verdict="fine")
    settings = json.loads((run.path / "run.json").read_text())
    assert settings["status"] == "finished" and settings["seed"] == 1 and settings["verdict"] == "fine"
    assert (run.path / "log.txt").read_text().endswith(" started\n")
    assert [entry.name for entry in run.path.parent.iterdir()] == ["reactor"]


def test_a_finished_run_is_only_replaced_when_asked_and_only_by_a_finished_one(tmp_path):
    path = finished(tmp_path / "reactor")
    with pytest.raises(RunFolderError, match=r"holds a finished run.*--overwrite"):
        RunFolder.create(path, {})
    RunFolder.create(path, {}, overwrite=True)
    assert (path / "report.html").read_text() == "first"
    finished(path, "second", overwrite=True)
    assert (path / "report.html").read_text() == "second"
    assert [entry.name for entry in tmp_path.iterdir()] == ["reactor"]


def test_an_interrupted_run_does_not_stand_in_the_way(tmp_path):
    RunFolder.create(tmp_path / "reactor", {}).log("interrupted")
    assert (finished(tmp_path / "reactor") / "report.html").exists()


def test_a_place_taken_meanwhile_is_respected(tmp_path):
    run = RunFolder.create(tmp_path / "reactor", {})
    (tmp_path / "reactor").mkdir()
    (tmp_path / "reactor" / "run.json").write_text("{}")
    with pytest.raises(RunFolderError, match="holds a finished run"):
        run.finish()


@pytest.mark.parametrize("overwrite", [False, True])
def test_folders_of_others_are_left_alone(tmp_path, overwrite):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("all of it")
    with pytest.raises(RunFolderError, match="other things than a run"):
        RunFolder.create(tmp_path / "thesis", {}, overwrite)
    (tmp_path / "reactor.partial").mkdir()
    (tmp_path / "reactor.partial" / "mine").write_text("too")
    with pytest.raises(RunFolderError, match="is in the way"):
        RunFolder.create(tmp_path / "reactor", {}, overwrite)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="found a file"):
        RunFolder.create(tmp_path / "file", {}, overwrite)
    with pytest.raises(RunFolderError, match="can be written"):
        RunFolder.create(tmp_path / "file" / "below", {}, overwrite)
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "all of it"


def test_the_model_file_is_kept_with_its_hash(tmp_path):
    model = tmp_path / "counting.py"
    model.write_text("x = 1\n")
    run = RunFolder.create(tmp_path / "out", {})
    run.copy_model(model)
    path = run.finish()
    assert (path / "counting.py").read_text() == "x = 1\n"
    assert json.loads((path / "run.json").read_text())["model_sha256"].startswith("9e26bf36")
