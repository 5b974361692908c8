"""A run folder appears whole, and is never overwritten unasked."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from nuppl.errors import RunFolderError
from nuppl.results import lock
from nuppl.results import run as module
from nuppl.results.run import RunFolder, finished


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


def test_what_a_killed_process_left_half_written_is_gone_when_its_run_is_resumed(tmp_path, model):
    run = begin(tmp_path / "reactor", model)
    run.checkpoints.mkdir()
    halves = [run.work / ".posterior.nc.123.partial", run.checkpoints / ".network-0.pt.123.partial"]
    for half in halves:
        half.write_bytes(b"CDF")
    assert run.leave()
    run = begin(tmp_path / "reactor", model, resume=True)
    assert not any(half.exists() for half in halves)
    run.leave()


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


def killed(run):
    """As a kill leaves it: the system lets go of the lock, nothing is tidied."""
    run.lock._stream.close()


class Killed(BaseException):
    pass


def dies_after(monkeypatch, module, name, calls):
    """The process ends just before a call of that number."""
    original = getattr(module, name)

    def called(*arguments, **options):
        nonlocal calls
        calls -= 1
        if calls < 0:
            raise Killed
        return original(*arguments, **options)

    monkeypatch.setattr(module, name, called)


def computed(path, model, word, **kwargs):
    """A run whose engine and report are done."""
    run = begin(path, model, **kwargs)
    run.checkpoints.mkdir(exist_ok=True)
    (run.checkpoints / "draws.pt").write_text("all draws")
    run.report.write_text(word)
    return run


def test_a_kill_while_a_run_is_put_in_its_place_loses_neither_it_nor_the_old_one(tmp_path, model, monkeypatch):
    place = tmp_path / "reactor"
    for calls in range(3):  # renames: of run.json, of the old run, of the new one
        finish(place, model, "old", overwrite=True)
        run = computed(place, model, "new", overwrite=True)
        with monkeypatch.context() as patched:
            dies_after(patched, os, "rename" if calls else "replace", max(calls - 1, 0))
            with pytest.raises(Killed):
                run.finish()
        killed(run)
        again = begin(place, model, overwrite=True, resume=True)
        assert (place / "report.html").read_text() == "old", "until the new one is there"
        assert (again.checkpoints / "draws.pt").read_text() == "all draws"
        again.report.write_text("new")
        again.finish()
        assert (place / "report.html").read_text() == "new" and entries(tmp_path) == ["counting.py", "reactor"]


def test_a_kill_right_after_the_rename_leaves_a_finished_run(tmp_path, model, monkeypatch):
    place = tmp_path / "reactor"
    run = computed(place, model, "new")
    with monkeypatch.context() as patched:
        dies_after(patched, module, "tidy", 0)
        with pytest.raises(Killed):
            run.finish()
    killed(run)
    assert (place / "checkpoints").exists() and (place / "lock").exists()
    assert finished(place, model, {"seed": 1})
    assert entries(place) == ["counting.py", "report.html", "run.json"]


def test_an_interrupt_while_a_run_is_put_in_its_place_is_no_other_error(tmp_path, model, monkeypatch):
    finish(tmp_path / "reactor", model, "old")
    run = computed(tmp_path / "reactor", model, "new", overwrite=True)
    with monkeypatch.context() as patched:
        dies_after(patched, os, "rename", 1)
        with pytest.raises(Killed):
            run.finish()
    assert run.leave(), "its checkpoints are kept"
    assert (tmp_path / "reactor" / "report.html").read_text() == "old"
    run = begin(tmp_path / "reactor", model, overwrite=True, resume=True)
    with monkeypatch.context() as patched:
        dies_after(patched, module, "tidy", 0)
        with pytest.raises(Killed):
            run.finish()
    assert not run.leave(), "it is in its place: nothing to go on with"
    assert entries(tmp_path) == ["counting.py", "reactor"] and "lock" not in entries(run.path)


def test_what_was_half_discarded_is_not_resumed(tmp_path, model, monkeypatch):
    interrupted(tmp_path / "reactor", model)
    with monkeypatch.context() as patched:
        dies_after(patched, module.shutil, "rmtree", 0)
        with pytest.raises(Killed):
            begin(tmp_path / "reactor", model, seed=2, overwrite=True)
    run = begin(tmp_path / "reactor", model, seed=3, resume=True)
    assert not run.checkpoints.exists() and entries(run.work) == ["counting.py", "lock", "run.json"]
    run.leave()


@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_a_full_disk_at_the_beginning_stands_in_nobodys_way(number, tmp_path, model, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    place = [("write_settings", module), ("write_bytes", Path), ("_holder", lock), ("mkdir", Path)][number]
    with monkeypatch.context() as patched:
        patched.setattr(place[1], place[0], full)
        with pytest.raises(RunFolderError, match=r"reactor.*can be written, got No space left"):
            begin(tmp_path / "reactor", model)
    assert set(entries(tmp_path)) <= {"counting.py", "reactor.partial"}
    assert entries(finish(tmp_path / "reactor", model)) == ["counting.py", "report.html", "run.json"]


def test_a_full_disk_at_the_end_keeps_what_was_done(tmp_path, model, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    run = computed(tmp_path / "reactor", model, "new")
    with monkeypatch.context() as patched:
        patched.setattr(module, "write_settings", full)
        with pytest.raises(RunFolderError, match="No space left"):
            run.finish()
        assert run.leave()
    assert begin(tmp_path / "reactor", model, resume=True).leave()


def test_links_are_followed_and_kept(tmp_path, model):
    (tmp_path / "scratch").mkdir()
    for name in ("scratch", "nowhere"):
        (tmp_path / "link").symlink_to(tmp_path / name)
        for word in ("first", "second"):
            assert finish(tmp_path / "link", model, word, overwrite=True) == tmp_path / name
            assert (tmp_path / "link" / "report.html").read_text() == word
        (tmp_path / "link").unlink()
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    with pytest.raises(RunFolderError, match="found a link in a circle"):
        begin(tmp_path / "circle", model)
    assert entries(tmp_path) == ["circle", "counting.py", "nowhere", "scratch"]


@pytest.mark.parametrize("path", ["/", ".", "deeper/..", "deeper/../"])
def test_a_place_that_cannot_be_renamed_is_refused_before_the_work(path, tmp_path, model, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for resume in (False, True):
        with pytest.raises(RunFolderError, match="expected one that can be renamed"):
            begin(path, model, resume=resume)
    assert not entries(tmp_path / "here") and entries(tmp_path) == ["counting.py", "here"]


def test_a_name_that_no_disk_can_hold(tmp_path, model):
    with pytest.raises(RunFolderError, match="too long"):
        begin(tmp_path / ("x" * 300), model)
    with pytest.raises(RunFolderError, match="too long"):
        finished(tmp_path / ("x" * 300), model, {})


def test_a_run_that_another_finished_a_moment_ago_is_not_done_again(tmp_path, model, monkeypatch):
    first = begin(tmp_path / "reactor", model)
    taken = module.Lock

    def late(work):
        first.finish()
        work.mkdir()
        return taken(work)

    monkeypatch.setattr(module, "Lock", late)
    with pytest.raises(RunFolderError, match="holds a finished run"):
        begin(tmp_path / "reactor", model)
    assert entries(tmp_path) == ["counting.py", "reactor"]


def test_a_run_is_repeated_from_its_own_copy_of_the_model(tmp_path, model):
    interrupted(tmp_path / "reactor", model)
    copy = tmp_path / "reactor.partial" / "counting.py"
    run = begin(tmp_path / "reactor", copy, resume=True)
    assert run.leave() and copy.read_text() == "x = 1\n"
    run = begin(tmp_path / "reactor", copy, seed=2, overwrite=True)
    assert copy.read_text() == "x = 1\n"
    run.leave()


def test_a_resumed_run_says_which_versions_have_changed(tmp_path, model):
    interrupted(tmp_path / "reactor", model)
    file = tmp_path / "reactor.partial" / "run.json"
    said = json.loads(file.read_text())
    file.write_text(json.dumps({**said, "versions": {**said["versions"], "torch": "1.0"}}))
    run = begin(tmp_path / "reactor", model, resume=True)
    assert len(run.notes) == 1 and run.notes[0].startswith("torch was 1.0 and is now 2.")
    assert "resumed; torch was 1.0" in (run.work / "log.txt").read_text()
    run.leave()
    run = begin(tmp_path / "reactor", model, resume=True)
    assert run.notes == [] and run.leave()
