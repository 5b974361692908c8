"""A run that was killed, again and again, ends as if nothing had happened; two processes never write to one folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import xarray as xr

ROOT = Path(__file__).parents[2]
COUNTING, NEAR_FAR = ROOT / "models" / "counting.py", ROOT / "examples" / "near_far.py"
DRIVER = Path(__file__).with_name("killed.py")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}

KILLS = 10
RUNS = {
    "laplace": (COUNTING, "--chains", "8", "--draws", "4000"),
    "importance": (NEAR_FAR, "--chains", "8"),
    "nuts": (COUNTING, "--chains", "6", "--draws", "40", "--warmup", "40"),
    "smc": (NEAR_FAR, "--chains", "4", "--particles", "64", "--draws", "128"),
    "hmc": (NEAR_FAR, "--draws", "64", "--warmup", "40", "--marginalize", "none"),
    "svi": (COUNTING, "--warmup", "300"),
}


def groups(folder):
    return {
        name: group for name, group in xr.open_groups(folder / "posterior.nc", engine="netcdf4").items() if name != "/"
    }


@pytest.mark.parametrize("engine", RUNS)
def test_killed_at_ten_random_moments_a_run_ends_as_one_that_was_left_alone(engine, tmp_path):
    model, *settings = RUNS[engine]
    arguments = [DRIVER, "7", str(KILLS), "infer", model, "--engine", engine, *settings, "--seed", "5"]
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("None") >= 3, f"too few lives ended early to prove anything: {done.stdout}"
    whole, killed = groups(tmp_path / "whole"), groups(tmp_path / "killed")
    assert whole.keys() == killed.keys() and len(whole) > 4
    for name, group in whole.items():
        xr.testing.assert_identical(group, killed[name])
    said = [xr.open_dataset(tmp_path / run / "posterior.nc").attrs for run in ("whole", "killed")]
    numbers = [{**json.loads(each["attrs"]), "seconds": 0} for each in said]
    assert numbers[0] == numbers[1]
    assert {entry.name for entry in (tmp_path / "killed").iterdir()} == {
        entry.name for entry in (tmp_path / "whole").iterdir()
    }


def start(*arguments, cwd):
    return subprocess.Popen(
        [sys.executable, "-c", "from nuppl.cli.main import main; main()", *map(str, arguments)],
        cwd=cwd,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(*arguments, cwd):
    process = start(*arguments, cwd=cwd)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


@pytest.fixture
def running(tmp_path):
    """A long run in the middle of its work."""
    slow = ("infer", COUNTING, "--engine", "nuts", "--draws", "5000", "--out", "run")
    process = start(*slow, cwd=tmp_path)
    waited = time.monotonic()
    while not list(tmp_path.glob("run.partial/checkpoints/*.pt")):
        assert process.poll() is None and time.monotonic() - waited < 60.0, process.communicate()
        time.sleep(0.02)
    yield process, slow
    process.kill()
    process.communicate()


def test_one_process_works_and_the_other_is_told_who_it_is(running, tmp_path):
    process, slow = running
    for more in ((), ("--resume",), ("--overwrite",)):
        code, _, err = run(*slow, *more, cwd=tmp_path)
        assert code == 3 and f"in use by process {process.pid}" in err and "Traceback" not in err, err


def test_a_stale_lock_is_no_lock_and_what_was_done_is_not_lost_unasked(running, tmp_path):
    process, slow = running
    process.kill()
    process.wait()
    assert (tmp_path / "run.partial" / "lock").exists(), "the killed process left its lock"
    code, _, err = run(*slow, cwd=tmp_path)
    assert code == 3 and "interrupted run" in err and "--resume" in err and "--overwrite" in err
    code, _, err = run(*slow, "--seed", "2", "--resume", cwd=tmp_path)
    assert code == 3 and "seed was 0 and is now 2" in err
    (tmp_path / "counting.py").write_text(COUNTING.read_text() + "\n# another\n")
    code, _, err = run("infer", "counting.py", *slow[2:], "--resume", cwd=tmp_path)
    assert code == 3 and "model sha256 was" in err
    assert list(tmp_path.glob("run.partial/checkpoints/*.pt")), "a refusal changes nothing"
    code, out, _ = run(*slow, "--draws", "100", "--chains", "2", "--overwrite", cwd=tmp_path)
    assert code in (0, 4) and "signal" in out and not (tmp_path / "run.partial").exists()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_says_how_to_go_on(running, tmp_path, how):
    process, _ = running
    process.send_signal(how)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "go on with: nuppl infer" in err and "--resume" in err, err
    assert "Traceback" not in err
    assert json.loads((tmp_path / "run.partial" / "run.json").read_text())["status"] == "interrupted"


def test_a_finished_run_has_nothing_to_resume_and_can_be_repeated(tmp_path):
    quick = ("infer", COUNTING, "--engine", "laplace", "--seed", "4", "--draws", "200")
    code, first, _ = run(*quick, "--out", "first", "--json", cwd=tmp_path)
    code_again, again, err = run(*quick, "--out", "first", "--json", "--resume", cwd=tmp_path)
    assert (code, json.loads(first)) == (code_again, json.loads(again)) and "nothing to resume" in err
    code, _, err = run(*quick, "--out", "first", "--resume", "--chains", "9", cwd=tmp_path)
    assert code == 3 and "chains was 4 and is now 9" in err

    for source in ("first", "first/run.json"):
        run("infer", "--from", source, "--out", source.replace("/", "-"), "--overwrite", cwd=tmp_path)
    assert (tmp_path / "first-run.json" / "posterior.nc").exists()
    for name, group in groups(tmp_path / "first").items():
        xr.testing.assert_identical(group, groups(tmp_path / "first-run.json")[name])
    code, other, _ = run("infer", "--from", "first", "--seed", "9", "--out", "other", "--json", cwd=tmp_path)
    assert json.loads(other)["parameters"] != json.loads(first)["parameters"]
    assert json.loads((tmp_path / "other" / "run.json").read_text())["draws"] == 200


def test_what_cannot_be_repeated_is_refused(tmp_path):
    (tmp_path / "mine.py").write_text(COUNTING.read_text())
    assert run("infer", "mine.py", "--engine", "laplace", "--draws", "200", "--out", "run", cwd=tmp_path)[0] in (0, 4)
    (tmp_path / "mine.py").write_text("changed = True\n")
    code, _, err = run("infer", "--from", "run", "--out", "again", cwd=tmp_path)
    assert code in (0, 4) and "is not what it was; using the copy" in err, err
    (tmp_path / "run" / "mine.py").unlink()
    code, _, err = run("infer", "--from", "run", "--out", "third", cwd=tmp_path)
    assert code == 2 and "expected the model file of that run" in err
    code, _, err = run("infer", "--from", "mine.py", cwd=tmp_path)
    assert code == 2 and "expected a run.json" in err
    code, _, err = run("infer", cwd=tmp_path)
    assert code == 2 and "expected a model file, or --from" in err
