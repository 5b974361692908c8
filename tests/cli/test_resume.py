"""A run that was killed, again and again, ends as if nothing had happened; two processes never write to one folder."""

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
import xarray as xr

from nuppl.cli.main import main
from nuppl.inference.registry import engine as find
from nuppl.language.loading import load_model
from nuppl.report import page
from nuppl.results import schema
from nuppl.results.checkpoints import Checkpoints
from nuppl.sampling.settings import Settings

ROOT = Path(__file__).parents[2]
COUNTING, NEAR_FAR = ROOT / "models" / "counting.py", ROOT / "examples" / "near_far.py"
DRIVER = Path(__file__).with_name("killed.py")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}

QUICK = ("--engine", "laplace", "--draws", "200", "--chains", "2")

KILLS = 10
RUNS = {
    "laplace": (COUNTING, "--chains", "8", "--draws", "1000"),
    "importance": (NEAR_FAR, "--chains", "8", "--draws", "250"),
    "nuts": (COUNTING, "--chains", "6", "--draws", "40", "--warmup", "40"),
    "smc": (NEAR_FAR, "--chains", "4", "--particles", "64", "--draws", "128"),
    "hmc": (NEAR_FAR, "--draws", "64", "--warmup", "40", "--marginalize", "none"),
    "svi": (COUNTING, "--warmup", "300", "--draws", "250"),
}


def groups(folder):
    return {
        name: group for name, group in xr.open_groups(folder / "posterior.nc", engine="netcdf4").items() if name != "/"
    }


@pytest.mark.parametrize("engine", RUNS)
def test_killed_at_ten_random_moments_a_run_ends_as_one_that_was_left_alone(engine, tmp_path):
    model, *settings = RUNS[engine]
    report = "whole" if engine == "laplace" else "brief"
    arguments = [DRIVER, "7", str(KILLS), report, "infer", model, "--engine", engine, *settings, "--seed", "5"]
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
        # Tests that run in the background have a shell that ignores it, and so would this.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """The command line in this process, which has imported everything already; exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def ran(*arguments):
        capsys.readouterr()
        with monkeypatch.context() as patched, pytest.raises(SystemExit) as left:
            patched.setattr(sys, "argv", ["nuppl", *map(str, arguments)])
            main()
        return int(left.value.code), *capsys.readouterr()

    return ran


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


def test_one_process_works_and_the_other_is_told_who_it_is(running, run):
    process, slow = running
    for more in ((), ("--resume",), ("--overwrite",)):
        code, _, err = run(*slow, *more)
        assert code == 3 and f"in use by process {process.pid}" in err and "Traceback" not in err, err


def test_a_stale_lock_is_no_lock_and_what_was_done_is_not_lost_unasked(running, run, tmp_path):
    process, slow = running
    process.kill()
    process.wait()
    assert (tmp_path / "run.partial" / "lock").exists(), "the killed process left its lock"
    code, _, err = run(*slow)
    assert code == 3 and "interrupted run" in err and "--resume" in err and "--overwrite" in err
    code, _, err = run(*slow, "--seed", "2", "--resume")
    assert code == 3 and "seed was 0 and is now 2" in err
    (tmp_path / "counting.py").write_text(COUNTING.read_text() + "\n# another\n")
    code, _, err = run("infer", "counting.py", *slow[2:], "--resume")
    assert code == 3 and "model sha256 was" in err
    assert list(tmp_path.glob("run.partial/checkpoints/*.pt")), "a refusal changes nothing"
    code, out, _ = run(*slow, "--draws", "100", "--warmup", "50", "--chains", "2", "--overwrite")
    assert code in (0, 4) and "signal" in out and not (tmp_path / "run.partial").exists()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_says_how_to_go_on(running, tmp_path, how):
    process, _ = running
    process.send_signal(how)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "go on with: nuppl infer" in err and "--resume" in err, err
    assert "Traceback" not in err
    assert json.loads((tmp_path / "run.partial" / "run.json").read_text())["status"] == "interrupted"


def test_a_finished_run_has_nothing_to_resume_and_can_be_repeated(run, tmp_path):
    quick = ("infer", COUNTING, "--engine", "laplace", "--seed", "4", "--draws", "200")
    code, first, _ = run(*quick, "--out", "first", "--json")
    code_again, again, err = run(*quick, "--out", "first", "--json", "--resume")
    assert (code, json.loads(first)) == (code_again, json.loads(again)) and "nothing to resume" in err
    code, _, err = run(*quick, "--out", "first", "--resume", "--chains", "9")
    assert code == 3 and "chains was 4 and is now 9" in err

    for source in ("first", "first/run.json"):
        run("infer", "--from", source, "--out", source.replace("/", "-"), "--overwrite")
    assert (tmp_path / "first-run.json" / "posterior.nc").exists()
    for name, group in groups(tmp_path / "first").items():
        xr.testing.assert_identical(group, groups(tmp_path / "first-run.json")[name])
    code, other, _ = run("infer", "--from", "first", "--seed", "9", "--out", "other", "--json")
    assert json.loads(other)["parameters"] != json.loads(first)["parameters"]
    assert json.loads((tmp_path / "other" / "run.json").read_text())["draws"] == 200


def test_what_cannot_be_repeated_is_refused(run, tmp_path):
    (tmp_path / "mine.py").write_text(COUNTING.read_text())
    assert run("infer", "mine.py", "--engine", "laplace", "--draws", "200", "--out", "run")[0] in (0, 4)
    (tmp_path / "mine.py").write_text("changed = True\n")
    code, _, err = run("infer", "--from", "run", "--out", "again")
    assert code in (0, 4) and "is not what it was; using the copy" in err, err
    (tmp_path / "run" / "mine.py").unlink()
    code, _, err = run("infer", "--from", "run", "--out", "third")
    assert code == 2 and "expected the model file of that run" in err
    code, _, err = run("infer", "--from", "mine.py")
    assert code == 2 and "expected a run.json" in err
    code, _, err = run("infer")
    assert code == 2 and "expected a model file, or --from" in err


@pytest.mark.parametrize(
    ("name", "value"), [("chains", "many"), ("seed", [1]), ("seed", -1), ("set", 5), ("option", ["x"]), ("engine", 3)]
)
def test_a_record_that_was_edited_is_read_as_strictly_as_the_command_line(name, value, run, tmp_path):
    run("infer", COUNTING, *QUICK, "--out", "run")
    said = json.loads((tmp_path / "run" / "run.json").read_text())
    (tmp_path / "run" / "run.json").write_text(json.dumps({**said, name: value}))
    code, _, err = run("infer", "--from", "run", "--out", "again")
    assert code == 2 and "Traceback" not in err and "internal" not in err, err
    assert not (tmp_path / "again").exists()


MODEL = """
import sys
from pathlib import Path

import pyro.distributions as dist
import torch

import nuppl

print("at import")


@nuppl.model(interest="rate")
def model():
    rate = nuppl.parameter("rate", dist.Uniform(0.0, 30.0))
    {body}
    nuppl.observe("counts", dist.Poisson(rate + 3.0), 9.0)
"""


def test_what_a_model_prints_is_no_result(run, tmp_path):
    (tmp_path / "mine.py").write_text(MODEL.format(body='print("in the body")'))
    code, out, err = run("infer", "mine.py", *QUICK, "--json")
    assert code in (0, 4) and "rate" in json.loads(out)["parameters"]
    assert "at import" in err and "in the body" in err


def test_a_model_that_ends_the_program_is_an_error(run, tmp_path):
    (tmp_path / "mine.py").write_text(MODEL.format(body="sys.exit(0)"))
    code, out, err = run("infer", "mine.py", *QUICK)
    assert code == 2 and not out and "the model ended the program" in err


def test_a_file_edited_meanwhile_is_not_what_ran(run, tmp_path, monkeypatch):
    file = tmp_path / "mine.py"
    file.write_text(MODEL.format(body="pass"))
    written = schema.inferred

    def edited(*arguments):
        file.write_text("another = True")
        return written(*arguments)

    monkeypatch.setattr(schema, "inferred", edited)
    assert run("infer", "mine.py", *QUICK, "--out", "run")[0] in (0, 4)
    said = json.loads((tmp_path / "run" / "run.json").read_text())["model_sha256"]
    assert xr.open_dataset(tmp_path / "run" / "posterior.nc").attrs["model_sha256"] == said
    assert "Poisson" in (tmp_path / "run" / "mine.py").read_text()


def full(*_):
    raise OSError(28, "No space left on device")


def interrupt(*_):
    raise KeyboardInterrupt


@pytest.mark.parametrize(("what", "code", "word"), [(full, 3, "No space left"), (interrupt, 130, "interrupted")])
def test_an_end_during_the_report_keeps_the_draws(what, code, word, run, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(page, "render", what)
        found, out, err = run("infer", COUNTING, *QUICK, "--out", "run")
    assert found == code and word in err and not out and "go on with: nuppl infer" in err, err
    assert not (tmp_path / "run").exists()
    with monkeypatch.context() as patched:
        # Every draw is there: none is made again.
        patched.setattr("nuppl.sampling.weights.log_weights", interrupt)
        found, out, _ = run("infer", COUNTING, *QUICK, "--out", "run", "--resume")
    assert found in (0, 4) and "signal" in out and (tmp_path / "run" / "report.html").exists()


def test_a_report_that_cannot_be_drawn_is_not_promised(run, tmp_path, monkeypatch):
    def broken(*_):
        raise RuntimeError("no fonts")

    monkeypatch.setattr(page, "render", broken)
    code, out, err = run("infer", COUNTING, *QUICK, "--out", "run")
    assert code in (0, 4) and "signal" in out and "no fonts" in err and "report.html" not in err
    assert "no fonts" in (tmp_path / "run" / "log.txt").read_text()


def test_a_disk_that_goes_away_costs_nothing_but_a_wrong_model_leaves_nothing(run, tmp_path):
    """The model reads a file whenever it runs; it fails once draws have been made."""
    table = tmp_path / "table.txt"
    body = "nuppl.pull('shift'); rate = rate * float(Path('table.txt').read_text())"
    (tmp_path / "mine.py").write_text(MODEL.format(body=body))
    for gone in (True, False):
        table.write_text("1.0")

        def lost(self, name, state, gone=gone, save=Checkpoints.save):
            save(self, name, state)
            if name == "draws":
                table.unlink(missing_ok=True) if gone else table.write_text("nonsense")

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(Checkpoints, "due", lambda self: True)
            patched.setattr(Checkpoints, "save", lost)
            code, _, err = run(
                "infer", "mine.py", "--chains", "2", "--particles", "16", "--draws", "64", "--out", "run"
            )
        assert code == 2 and ("--resume" in err) == gone, err
        assert (tmp_path / "run.partial").exists() == gone
        if gone:
            table.write_text("1.0")
            assert run("infer", "mine.py", "--overwrite", *QUICK, "--out", "run")[0] in (0, 4)
            shutil.rmtree(tmp_path / "run")


@pytest.mark.parametrize("name", RUNS)
def test_interrupted_at_every_checkpoint_an_engine_ends_as_one_that_was_left_alone(name, tmp_path, monkeypatch):
    """With densities that are NaN here and there, which are counted."""
    (tmp_path / "mine.py").write_text(
        MODEL.format(body="rate = torch.where((rate < 2.0) | ((rate - 14.7).abs() < 0.1), torch.nan, rate)")
    )
    program = load_model(str(tmp_path / "mine.py"))[0].bind({}, {})
    settings = Settings(chains=3, draws=80, warmup=12, proposals=80, particles=32)
    whole = find(name)(program, settings)
    save = Checkpoints.save
    monkeypatch.setattr(Checkpoints, "due", lambda self: True)

    def stop(self, name, state):
        save(self, name, state)
        raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoints, "save", stop)
    for _ in range(200):
        try:
            found = find(name)(program, replace(settings, scratch=tmp_path / "checkpoints"))
            break
        except KeyboardInterrupt:
            continue
    assert found.attrs == whole.attrs and found.attrs["failures"] > 0
    for site, value in whole.values.items():
        assert torch.equal(found.values[site], value)
    for stat, value in whole.stats.items():
        assert torch.equal(found.stats[stat], value)


def test_tempering_is_one_task_whose_length_is_estimated(tmp_path):
    (tmp_path / "mine.py").write_text(MODEL.format(body="pass"))
    program, told = load_model(str(tmp_path / "mine.py"))[0].bind({}, {}), []
    find("smc")(program, Settings(chains=2, draws=40, particles=32), lambda *said: told.append(said))
    steps = [(done, total) for done, total, what in told if what == "temperatures"]
    assert [done for done, _ in steps] == list(range(1, len(steps) + 1)) and len(steps) > 1
    assert steps[-1][1] == len(steps) and all(done < total < 50 for done, total in steps[:-1])
