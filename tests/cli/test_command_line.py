"""The command line as a user runs it: a process, its exit code, its two streams and the files it leaves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nuppl.cli.main import main

COUNTING = Path(__file__).parents[2] / "models" / "counting.py"
QUICK = ("--draws", "500", "--chains", "4", "--proposals", "1500")

TWO_MODELS = """
import pyro.distributions as dist
import torch

import nuppl

COUNTS = torch.tensor([3.0, 5.0, 4.0])


def rates(counts):
    rate = nuppl.parameter("rate", dist.Uniform(0.0, 20.0), unit="events")
    with nuppl.plate("bin", ["a", "b", "c"], dim=-1):
        nuppl.observe("counts", dist.Poisson(rate), counts)


@nuppl.model(interest="rate")
def good(scale: float = 1.0):
    rates(COUNTS * scale)


@nuppl.model(interest="rate")
def too_long():
    rates(torch.arange(5.0))


@nuppl.model(interest="rate")
def not_a_number():
    rates(torch.tensor([3.0, float("nan"), 4.0]))


@nuppl.model(interest="rate")
def negative():
    rates(torch.tensor([3.0, -1.0, 4.0]))
"""


def nuppl(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", "from nuppl.cli.main import main; main()", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture
def here(tmp_path, monkeypatch, capsys):
    """The same in this process, for the many ways to be refused: a process of its own costs seconds."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        with pytest.raises(SystemExit) as left:
            main([str(argument) for argument in arguments])
        streams = capsys.readouterr()
        return subprocess.CompletedProcess(list(arguments), int(left.value.code), streams.out, streams.err)

    return run


@pytest.fixture
def several(tmp_path: Path) -> Path:
    file = tmp_path / "several.py"
    file.write_text(TWO_MODELS)
    return file


def refused(done: subprocess.CompletedProcess[str], *words: str, code: int = 2) -> None:
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr and done.stdout == ""
    for word in words:
        assert word in done.stderr, done.stderr


def test_help_is_quick_and_imports_neither_torch_nor_pyro(tmp_path):
    code = (
        "import sys\nsys.argv = ['nuppl', '--help']\nfrom nuppl.cli.main import _run\n_run(['--help'])\n"
        "assert not {'torch', 'pyro', 'arviz', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)
    times = []
    for _ in range(3):
        started = time.monotonic()
        assert nuppl("--help", cwd=tmp_path).returncode == 0
        times.append(time.monotonic() - started)
    # The promise is 0.2 s; a shared machine under load gets twice that.
    assert min(times) < 0.4


def test_fit_prints_json_on_stdout_and_progress_on_stderr(tmp_path):
    done = nuppl("fit", COUNTING, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    signal = result["parameters"]["signal"]
    assert set(signal) == {"value", "error", "lower", "upper", "unit"}
    assert signal["value"] == pytest.approx(4.0, abs=1e-3) and signal["unit"] == "events"
    assert "fit" in done.stderr


def test_infer_leaves_a_finished_run_and_show_reads_it(tmp_path):
    done = nuppl("infer", COUNTING, *QUICK, "--seed", "3", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "runs" / "counting"
    assert {"posterior.nc", "report.html", "run.json", "counting.py", "log.txt"} <= {f.name for f in run.iterdir()}
    printed = json.loads(done.stdout)
    assert printed["verdict"]["trusted"] and printed["parameters"]["signal"]["error"] > 0
    shown = nuppl("show", run, "--json", cwd=tmp_path)
    assert json.loads(shown.stdout)["parameters"] == printed["parameters"]
    settings = json.loads((run / "run.json").read_text())
    assert settings["seed"] == 3 and settings["engine"] == "smc"

    again = nuppl("infer", COUNTING, *QUICK, cwd=tmp_path)
    refused(again, "--overwrite", code=3)
    replaced = nuppl("infer", COUNTING, *QUICK, "--overwrite", cwd=tmp_path)
    assert replaced.returncode == 0, replaced.stderr

    (run / "report.html").unlink()
    assert nuppl("report", run, cwd=tmp_path).returncode == 0
    assert (run / "report.html").stat().st_size > 10_000


def test_a_posterior_that_cannot_be_trusted_leaves_with_4(tmp_path):
    done = nuppl("infer", COUNTING, "--draws", "20", "--chains", "2", "--proposals", "40", cwd=tmp_path)
    assert done.returncode == 4, done.stderr
    assert "Do not trust" in done.stdout
    assert (tmp_path / "runs" / "counting" / "posterior.nc").is_file(), "the result is kept all the same"


def test_set_conditions_a_site(tmp_path):
    done = nuppl("infer", COUNTING, *QUICK, "--set", "background_shift=1", "--out", "here", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)["parameters"]) == {"signal"}
    import xarray as xr

    with xr.open_dataset(tmp_path / "here" / "posterior.nc", group="posterior") as posterior:
        assert set(posterior.data_vars) == {"signal"}


def test_asimov_data_may_lie_outside_the_prior(tmp_path):
    done = nuppl("simulate", COUNTING, "--asimov", "--set", "signal=50", "--out", "predicted.nc", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "background_shift = 0.0" in done.stdout, "what was not set is printed"
    import xarray as xr

    with xr.open_dataset(tmp_path / "predicted.nc", group="observed_data") as data:
        assert float(data["counts"]) == pytest.approx(53.0)


def test_pseudo_experiments_repeat_with_their_seed(tmp_path):
    import xarray as xr

    found = []
    for name, seed in (("a.nc", 1), ("b.nc", 1), ("c.nc", 2)):
        assert nuppl("simulate", COUNTING, "-n", 50, "--seed", seed, "--out", name, cwd=tmp_path).returncode == 0
        with xr.open_dataset(tmp_path / name, group="prior_predictive") as data:
            found.append(data["counts"].values.copy())
    assert found[0].shape == (1, 50)
    assert (found[0] == found[1]).all() and (found[0] != found[2]).any()


def test_options_reach_the_model(several, tmp_path):
    done = nuppl("fit", f"{several}:good", "--option", "scale=2", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["parameters"]["rate"]["value"] == pytest.approx(8.0, rel=1e-3)


@pytest.mark.parametrize("command", ["fit", "infer", "check", "simulate"])
def test_a_missing_file_is_refused(command, here):
    refused(here(command, "nowhere.py"), "nowhere.py", "expected a Python file")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def counting():\n    pass\n", ("@nuppl.model",)),
        ("import nuppl\n\ndef broken(:\n", ("line 3", "SyntaxError")),
        ("import nuppl\n\nraise RuntimeError('no data today')\n", ("line 3", "no data today")),
    ],
)
def test_a_file_without_a_usable_model_is_refused(text, words, here, tmp_path):
    (tmp_path / "bad.py").write_text(text)
    refused(here("fit", "bad.py"), "bad.py", *words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("infer", COUNTING, "--engine", "laplac"), ("laplac", "did you mean 'laplace'")),
        (("infer", COUNTING, "--guide", "prio"), ("prio", "did you mean 'prior'")),
        (("fit", COUNTING, "--set", "signl=1"), ("signl", "did you mean 'signal'")),
        (("fit", COUNTING, "--set", "signal=one"), ("signal", "expected a number")),
        (("fit", COUNTING, "--set", "signal"), ("NAME=VALUE",)),
        (("fit", COUNTING, "--set", "signal=1", "--set", "signal=2"), ("given twice",)),
        (("simulate", COUNTING, "--asimov", "--set", "signal=nan"), ("signal", "finite")),
        (("infer", COUNTING, "--set", "signal=1", "--set", "background_shift=0"), ("every latent is fixed",)),
        (("infer", COUNTING, "--set", "signal=-1"), ("signal", "between 0 and 30 events", "got -1")),
        (("fit", COUNTING, "--option", "backgrund=1"), ("backgrund", "did you mean 'background'")),
        (("fit", COUNTING, "--option", "background=much"), ("background", "expected a float")),
        (("fit", COUNTING, "--minimizer", "newtn"), ("newtn", "did you mean 'newton'")),
        (("fit", COUNTING, "--engin", "x"), ("--engin",)),
        (("ft", COUNTING), ("ft", "did you mean 'fit'")),
        (("fit", f"{COUNTING}:countin"), ("countin", "did you mean 'counting'")),
        (("fit", f"{COUNTING}:"), ("expected a name after the colon, one of counting",)),
        (("check", f"{COUNTING}:"), ("expected a name after the colon",)),
        (("infer", COUNTING, "--draws", "0"), ("draws", "range")),
        (("simulate", COUNTING, "--asimov", "-n", "3"), ("--asimov",)),
        (("show", "nothing"), ("nothing", "expected a run folder")),
    ],
)
def test_wrong_words_are_refused_with_the_nearest_right_one(arguments, words, here):
    refused(here(*arguments), *words)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("too_long", ("counts", "expected shape (3,)", "bin: 3", "got (5,)")),
        ("not_a_number", ("counts", "NaN or infinity in 1 of 3")),
        ("negative", ("counts", "at least 0", "got counts[b] = -1")),
    ],
)
def test_wrong_data_are_refused(name, words, several, here):
    refused(here("infer", f"{several}:{name}"), *words)


def test_a_model_that_fails_away_from_its_nominal_point_names_the_users_line(here, tmp_path):
    failing = "    if rate.dim() > 0:\n        raise ValueError('too many lanes')\n"
    text = TWO_MODELS.replace("    with nuppl.plate", failing + "    with nuppl.plate")
    (tmp_path / "fails.py").write_text(text)
    refused(here("fit", "fails.py:good"), "too many lanes", "fails.py, line 13")


def test_several_models_without_a_name_are_refused(several, here):
    refused(here("fit", several), "several models", "good")


def test_a_file_that_is_no_result_is_refused(here, tmp_path):
    (tmp_path / "notes.nc").write_text("not a result")
    refused(here("show", "notes.nc"), "notes.nc")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [(("fit", COUNTING, "--set", "signl=1"), "did you mean"), (("infer", "nowhere.py"), "nowhere")],
)
def test_a_process_that_was_refused_says_so_in_one_line(arguments, word, tmp_path):
    done = nuppl(*arguments, cwd=tmp_path)
    refused(done, word)
    assert len(done.stderr.strip().splitlines()) == 1


def test_debug_shows_the_traceback(tmp_path):
    done = nuppl("fit", COUNTING, "--set", "signl=1", "--debug", cwd=tmp_path)
    assert done.returncode == 2 and "Traceback" in done.stderr


def test_a_reader_that_has_had_enough_is_no_bug(tmp_path):
    """As in `nuppl check FILE | true`."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as gone:
        done = subprocess.run(
            [sys.executable, "-c", "from nuppl.cli.main import main; main()", "check", str(COUNTING)],
            cwd=tmp_path, stdout=gone, stderr=subprocess.PIPE, text=True, timeout=120, check=False,
        )  # fmt: skip
    assert done.returncode == 0 and not done.stderr, done
