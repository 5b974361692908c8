"""Simulation stores on the command line: the same however they were made, and of one model; and training on them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nuppl.cli.main import main
from nuppl.errors import InputError
from nuppl.inference.registry import engine
from nuppl.language.loading import load_model
from nuppl.language.simulation import TILE
from nuppl.learning.simulated import latent_values, require_success, simulated
from nuppl.results.lock import Lock
from nuppl.results.simulations import SimulationStore
from nuppl.results.tiles import Tile
from nuppl.sampling.settings import Settings

COUNTING = Path(__file__).parents[2] / "models" / "counting.py"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
COMMAND = (sys.executable, "-W", "ignore", "-c", "from nuppl.cli.main import main; main()")

MODEL = """
import time

import pyro.distributions as dist
import torch

import nuppl


@nuppl.model(interest="rate")
def model(reach: float = 5.0, seconds: float = 0.0, width: int = 1):
    time.sleep(seconds)
    rate = nuppl.parameter("rate", dist.Uniform(0.0, 10.0))
    with nuppl.plate("bin", width, dim=-1):
        shift = nuppl.pull("shift")
        {line}
        nuppl.observe("n", dist.Poisson(rate + 0.1 * shift.abs()), torch.full((width,), 3.0))
"""
RAISES = 'if bool(((rate - 5.0).abs() > reach).any()): raise ValueError("the rate is too far")'
NAN = "rate = torch.where((rate - 5.0).abs() > reach, torch.nan, rate)"


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """The command line in this process: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MODEL.format(line="pass"))

    def ran(*arguments: object) -> tuple[int, str, str]:
        with monkeypatch.context() as patched, pytest.raises(SystemExit) as left:
            patched.setattr(sys, "argv", ["nuppl", *map(str, arguments)])
            main()
        streams = capsys.readouterr()
        return int(left.value.code), streams.out, streams.err

    return ran


def drawn(run, *arguments: object) -> dict:
    code, out, err = run("simulate", *arguments, "--json")
    assert code == 0, err
    return json.loads(out)


def refused(done: tuple[int, str, str], *words: str, code: int = 2) -> None:
    assert done[0] == code and done[1] == "", done
    assert len([line for line in done[2].splitlines() if line.startswith("error: ")]) == 1, done
    for word in (*words,):
        assert word in done[2], (word, done[2])


def everything(folder: Path | str) -> tuple[list[tuple[object, ...]], Tile]:
    store = SimulationStore.open(folder)
    return [tuple(held) for held in store.held()], Tile.joined(list(store.tiles()))


def assert_same(one: Path | str, other: Path | str) -> None:
    (held, tile), (more, again) = everything(one), everything(other)
    assert held == more
    assert all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(tile[:3], again[:3], strict=True))


def test_a_store_holds_what_it_says(run, tmp_path):
    said = drawn(run, COUNTING, "-n", "1e4", "--out", "sims/", "--seed", 3)
    assert said == {"out": "sims", "simulations": 10_000, "failed": 0, "reasons": {}, "seeds": [3]}
    held, tile = everything("sims")
    assert held == [(3, 0, 8192, {}), (3, 1, 1808, {})]
    program = load_model(str(COUNTING))[0].bind()
    values = latent_values(program, tile.u.double())
    expected = values["signal"] + (3.0 + 0.5 * values["background_shift"]).clamp(min=0.0)
    # A Poisson number less its mean has zero mean and the mean as variance: four deviations.
    pull = (tile.data[:, 0] - expected) / expected.sqrt()
    assert abs(float(pull.mean())) < 4e-2 and abs(float(pull.var()) - 1.0) < 4 * (2.5 / 1e4) ** 0.5
    assert sum(file.stat().st_size for file in Path("sims").rglob("*.nc")) < 2 * 10_000 * 12
    assert {entry.name for entry in tmp_path.joinpath("sims").iterdir()} == {
        "simulations.json",
        "counting.py",
        "tiles",
    }


def test_numbers_and_names(run):
    assert drawn(run, "mine.py", "-n", "1E2", "--out", "sims/")["simulations"] == 100
    assert drawn(run, "mine.py", "--out", "sims")["simulations"] == 100, "a folder that is there needs no slash"
    code, out, _ = run("simulate", "mine.py", "-n", 300, "--out", "sims")
    assert code == 0 and out == "sims: 300 simulations, 0 failed (0 %)\n"
    for given in ("1e-3", "many", "nan", "1e999"):
        code, out, err = run("simulate", "mine.py", "-n", given, "--out", "sims/")
        assert code == 2 and out == "" and f"such as 1000 or 1e3, got {given!r}" in err
    refused(run("simulate", "mine.py", "-n", "1e30", "--out", "sims/"), "bytes", "smaller -n", code=3)
    assert run("simulate", "mine.py", "-n", "5", "--out", "sims.nc")[0] == 0 and Path("sims.nc").is_file()


def test_it_grows_to_the_store_that_was_asked_for_at_once(run):
    for n in (100, 1000, 8000, 20_000, 20_000, 500):
        drawn(run, "mine.py", "-n", n, "--out", "grown/", "--seed", 4)
    drawn(run, "mine.py", "-n", 20_000, "--out", "whole/", "--seed", 4)
    assert_same("grown", "whole")
    # Without --seed the store's own is gone on with.
    assert drawn(run, "mine.py", "-n", 21_000, "--out", "grown/")["seeds"] == [4]


def test_killed_and_gone_on_with_it_is_the_same(run, tmp_path):
    total = 4 * 8192 + 300
    slow, lives = ("mine.py", "-n", total, "--option", "seconds=0.01"), [0]
    for life in range(2):
        command = [*COMMAND, "simulate", *map(str, slow), "--out", "killed/", "--processes", "2" if life else "1"]
        process = subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
        waited = time.monotonic()
        while len(list(tmp_path.glob("killed/tiles/*.nc"))) <= life and time.monotonic() - waited < 30.0:
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        lives.append(sum(rows for _, _, rows, _ in everything("killed")[0]))
    assert 0 < lives[1] <= lives[2] < total
    drawn(run, *slow, "--out", "killed/")
    drawn(run, *slow, "--out", "whole/")
    assert_same("killed", "whole")
    assert not list(tmp_path.rglob("*.partial"))


def test_a_tile_that_is_not_full_is_kept_too(run, monkeypatch):
    from nuppl.learning import simulating

    monkeypatch.setattr(simulating, "_WAIT", 0.0)
    monkeypatch.setattr(simulating, "_SHARE", 1e9)
    real, left = simulating.draw_batch, [7]

    def until(*arguments):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return real(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(simulating, "draw_batch", until)
        code, _, err = run("simulate", "mine.py", "-n", 9000, "--out", "stopped/")
        assert code == 130 and "the same command goes on" in err
    assert everything("stopped")[0] == [(0, 0, 7 * TILE, {})]
    drawn(run, "mine.py", "-n", 9000, "--out", "stopped/")
    drawn(run, "mine.py", "-n", 9000, "--out", "whole/")
    assert_same("stopped", "whole")


def test_two_processes_make_the_same_store(run, tmp_path):
    command = [*COMMAND, "simulate", "mine.py", "-n", "40000", "--out", "two/", "--processes", "2"]
    done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    drawn(run, "mine.py", "-n", 40_000, "--out", "one/")
    assert_same("one", "two")


def test_one_command_writes_at_a_time(run, tmp_path):
    drawn(run, "mine.py", "-n", 10, "--out", "sims/")
    lock = Lock(tmp_path / "sims")
    refused(run("simulate", "mine.py", "-n", 20, "--out", "sims/"), f"in use by process {os.getpid()}", code=3)
    lock.release()
    assert drawn(run, "mine.py", "-n", 20, "--out", "sims/")["simulations"] == 20
    assert not (tmp_path / "sims" / "lock").exists()


def test_stores_merge(run):
    drawn(run, "mine.py", "-n", 9000, "--out", "a/", "--seed", 1)
    drawn(run, "mine.py", "-n", 3000, "--out", "b/", "--seed", 2)
    drawn(run, "mine.py", "-n", 12_000, "--out", "c/", "--seed", 1)
    assert drawn(run, "--merge", "a", "b", "--out", "ab/")["seeds"] == [1, 2]
    tiles = [everything(folder)[1] for folder in ("a", "b", "ab")]
    assert torch.equal(torch.cat([tiles[0].u, tiles[1].u]), tiles[2].u)
    # What is in both is taken once, and of a tile that one has further the longer.
    code, out, err = run("simulate", "--merge", "a", "c", "b", "--out", "abc/")
    assert code == 0 and "15000 simulations" in out and "2 tiles were in more than one folder" in err
    assert_same_seed = [held for held in everything("abc")[0] if held[0] == 1]
    assert assert_same_seed == everything("c")[0]
    # A store that is there takes others in, and a merged one grows.
    assert drawn(run, "--merge", "b", "--out", "a")["simulations"] == 12_000
    assert_same("a", "ab")
    drawn(run, "mine.py", "-n", 20_000, "--out", "abc", "--seed", 2)
    assert [(seed, rows) for seed, _, rows, _ in everything("abc")[0]] == [(1, 8192), (1, 3808), (2, 8000)]
    before = everything("b")[0]
    shutil.rmtree("abc")
    assert everything("b")[0] == before


def test_what_cannot_be_merged(run, tmp_path):
    drawn(run, "mine.py", "-n", 10, "--out", "a/")
    drawn(run, "mine.py", "-n", 10, "--out", "wider/", "--option", "width=2")
    refused(run("simulate", "--merge", "a", "wider", "--out", "c"), "another model", "'width': 1", "'width': 2")
    refused(run("simulate", "--merge", "a", "nowhere", "--out", "c"), "simulations.json, found nothing")
    refused(run("simulate", "--merge", "a", "mine.py", "--out", "c"), "simulations.json, found a file")
    refused(run("simulate", "--merge", "a", "--out", "a", "--overwrite"), "would remove")
    refused(run("simulate", "--merge", "a", "wider"), "--merge takes folders of simulations and --out")
    refused(run("simulate", "mine.py", "a", "--out", "c/"), "expected one model file", "--merge takes folders")
    (tmp_path / "wider" / "tiles" / "0-000000.nc").write_bytes(b"")
    refused(run("simulate", "--merge", "wider", "--out", "c"), "0-000000.nc", "damaged")


@pytest.mark.parametrize("change", ["file", "option", "set"])
def test_a_store_of_another_model_is_refused(run, tmp_path, change):
    drawn(run, "mine.py", "-n", 300, "--out", "sims/")
    more = {"file": (), "option": ("--option", "reach=4"), "set": ("--set", "rate=2")}[change]
    said = {"file": "model sha256 was", "option": "options was", "set": "fixed was {} and is now {'rate': 2.0}"}[change]
    if change == "file":
        (tmp_path / "mine.py").write_text(MODEL.format(line="rate = 2.0 * rate"))
    before = everything("sims")[0]
    for command in (("simulate", "-n", 900, "--out", "sims/"), ("infer", "--engine", "npe", "--simulations", "sims")):
        refused(run(command[0], "mine.py", *command[1:], *more), "are of another model", said, "sims/mine.py")
    assert everything("sims")[0] == before and not (tmp_path / "runs").exists()
    # The copy is the model as it was.
    assert drawn(run, "sims/mine.py", "-n", 900, "--out", "sims/")["simulations"] == 900
    begun = ("mine.py", "-n", 20, "--out", "sims/", "--overwrite", *more)
    assert drawn(run, *begun)["simulations"] == 20


def test_what_is_not_a_store(run, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("years of work")
    for more in ((), ("--overwrite",)):
        refused(run("simulate", "mine.py", "--out", "other/", *more), "other things than simulations", code=3)
    refused(run("simulate", "mine.py", "--out", ".", "--overwrite"), "expected a file, found a folder", code=3)
    refused(run("simulate", "mine.py", "--out", "mine.py/"), "expected a folder or nothing, found a file", code=3)
    for folder, words in (("other", "a folder without it"), ("nowhere", "expected a whole number, or a folder")):
        code, out, err = run("infer", "mine.py", "--engine", "npe", "--simulations", folder)
        assert code == 2 and out == "" and words in err and "Traceback" not in err
    assert (tmp_path / "other" / "thesis.tex").read_text() == "years of work"


def test_a_damaged_tile_is_refused_and_drawn_anew(run, tmp_path):
    drawn(run, "mine.py", "-n", 9000, "--out", "sims/")
    shutil.copytree("sims", "whole")
    tile = tmp_path / "sims" / "tiles" / "0-000000.nc"
    tile.write_bytes(tile.read_bytes()[:30_000])
    done = run("infer", "mine.py", "--engine", "npe", "--simulations", "sims", "--epochs", 1)
    refused(done, "0-000000.nc", "truncated", "remove it and repeat the command")
    code, _, err = run("simulate", "mine.py", "-n", 9000, "--out", "sims/")
    assert code == 0 and "0-000000.nc is damaged; it is drawn anew" in err
    assert_same("sims", "whole")


@pytest.mark.parametrize(("line", "reason"), [(RAISES, "ValueError: the rate is too far"), (NAN, "values of 'n' that")])
def test_failed_simulations_are_kept_and_counted(run, tmp_path, line, reason):
    drawn(run, "mine.py", "-n", 5000, "--out", "fine/")
    (tmp_path / "mine.py").write_text(MODEL.format(line=line))
    said = drawn(run, "mine.py", "-n", 5000, "--out", "sims/", "--option", "reach=4.9")
    (_, fine), (_, tile) = everything("fine"), everything("sims")
    program = load_model("mine.py")[0].bind({"reach": 4.9})
    rate = 10.0 * torch.special.ndtr(tile.u[:, 0].double())
    # Exactly those fail that have to, and with the parameters that were drawn for all.
    assert torch.equal(tile.failed, (rate - 5.0).abs() > 4.9) and torch.equal(tile.u[:, 0], fine.u[:, 0])
    assert bool(tile.u[:, 0].isfinite().all()) and bool(tile.data[tile.failed].isnan().all())
    assert said["failed"] == int(tile.failed.sum()) > 20 and sum(said["reasons"].values()) == said["failed"]
    assert all(reason in text for text in said["reasons"])
    found = simulated(program, "sims", seed=0)
    assert found.failed == said["failed"] and len(found.u) == 5000 - found.failed
    memory = simulated(program, 5000, seed=0)
    assert torch.equal(memory.u, found.u) and torch.equal(memory.data, found.data) and memory.failed == found.failed
    require_success(found, most=0.05)
    with pytest.raises(InputError, match=rf"{found.failed} of 5000 failed .*{reason}.* expected at most 0.5 %"):
        require_success(found, most=0.005)
    code, out, _ = run("simulate", "mine.py", "--out", "sims/", "--option", "reach=4.9")
    assert (
        code == 0
        and f"5000 simulations, {found.failed} failed (" in out
        and f"times {next(iter(said['reasons']))}" in out
    )


@pytest.mark.parametrize(("line", "reason"), [(RAISES, "the rate is too far"), (NAN, "600 times values of 'n' that")])
def test_all_failed(run, tmp_path, line, reason):
    (tmp_path / "mine.py").write_text(MODEL.format(line=line))
    never = ("--option", "reach=0")
    refused(run("simulate", "mine.py", "-n", 600, "--out", "sims/", *never), "simulations failed: ", reason)
    refused(run("infer", "mine.py", "--engine", "npe", "--simulations", 600, *never))


def test_a_network_trained_on_a_store_is_that_trained_on_the_same_in_memory(run, tmp_path):
    drawn(run, COUNTING, "-n", 1500, "--out", "sims/", "--seed", 3)
    program = load_model(str(COUNTING))[0].bind()
    asked = Settings(seed=3, simulations=1500, epochs=3, proposals=400, draws=100, chains=2)
    memory = engine("npe")(program, asked)
    stored = engine("npe")(program, replace(asked, simulations="sims"))
    assert stored.attrs["simulations"] == 1500 and torch.equal(memory.values["signal"], stored.values["signal"])


def test_training_on_a_store_from_the_command_line(run, tmp_path):
    (tmp_path / "mine.py").write_text(MODEL.format(line=NAN))
    drawn(run, "mine.py", "-n", 4000, "--out", "sims/", "--option", "reach=4.95")
    command = ("infer", "mine.py", "--option", "reach=4.95", "--engine", "npe", "--simulations", "sims")
    code, out, err = run(*command, "--epochs", 10, "--json")
    assert code in (0, 4), err
    failed = everything("sims")[1].counts()
    said = json.loads(out)["engine"]
    assert said["simulations"] == 4000 - sum(failed.values()) < 4000 and said["failed_simulations"] == sum(
        failed.values()
    )
    record = json.loads((tmp_path / "runs" / "mine" / "run.json").read_text())
    assert record["simulations"] == "sims" and len(record["simulations_sha256"]) == 64
    # The same store again is the same run; a store that has grown is not.
    assert run(*command, "--epochs", 10, "--resume")[0] in (0, 4)
    drawn(run, "mine.py", "-n", 5000, "--out", "sims/", "--option", "reach=4.95")
    refused(run(*command, "--epochs", 10, "--resume"), "simulations sha256 was", code=3)
    refused(run(*command, "--rounds", 2, "--out", "more"), "a store of simulations is of the prior")


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000,) * 2)
from nuppl.cli.main import main
main()
"""


def test_without_room_what_fitted_is_kept(run, tmp_path):
    """A quota that a tile of two latents keeps, and one of forty does not."""
    arguments = ["simulate", "mine.py", "-n", "9000", "--out", "sims/", "--option", "width=40"]
    limited = [sys.executable, "-W", "ignore", "-c", LIMITED, *arguments]
    done = subprocess.run(limited, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 3 and "0-000000.nc" in done.stderr and "room" in done.stderr, done
    assert "Traceback" not in done.stderr and not list(tmp_path.rglob("*.nc")) and not list(tmp_path.rglob("*.partial"))
    drawn(run, *arguments[1:])
    assert sum(rows for _, _, rows, _ in everything("sims")[0]) == 9000
