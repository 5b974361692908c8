"""`nuppl calibrate`: verdict and exit code, what it adds to a run, interruption, and what it refuses."""

from __future__ import annotations

import json
import re
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest

from nuppl.cli.main import main
from nuppl.diagnostics import calibration
from nuppl.learning import posteriors
from nuppl.results.checkpoints import Checkpoints
from nuppl.results.seal import is_sealed
from nuppl.results.storage import load

MODEL = '''"""A mean."""
import pyro.distributions as dist
import torch

import nuppl


@nuppl.model(interest="mean")
def normal(width: float = 1.0):
    """Four measurements."""
    mean = nuppl.parameter("mean", dist.Normal(0.0, 2.0), label="m")
    with nuppl.plate("event", 4, dim=-1):
        nuppl.observe("x", dist.Normal(mean, width), torch.tensor([0.3, 1.2, -0.4, 0.9]))
'''
FEW = ("-n", "60", "--draws", "30")


def nuppl(*arguments, capsys):
    """Exit code, stdout and stderr."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as left, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return left.value.code, out, err


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a model, a run of npe, and one of laplace."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "normal.py").write_text(MODEL)
    size = ("--chains", "2", "--draws", "800")
    npe = ("--engine", "npe", "--simulations", "1500", "--epochs", "10", "--proposals", "1000")
    for name, chosen in (("npe", npe), ("laplace", ("--engine", "laplace"))):
        with pytest.raises(SystemExit), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            main(["infer", str(folder / "normal.py"), "--out", str(folder / name), *chosen, *size])
    return folder


@pytest.fixture
def runs(made, tmp_path):
    """A copy of it."""
    return Path(shutil.copytree(made, tmp_path / "made"))


def test_a_calibrated_network_joins_result_verdict_and_report(runs, capsys):
    run = runs / "npe"
    before = load(run / "posterior.nc")["posterior"]["mean"].values
    code, out, err = nuppl("calibrate", run, *FEW, "--weighted", "20", capsys=capsys)
    assert code == 0, out + err
    assert "network: 60 simulated data sets, 30 draws each" in out and "weighted: 20 simulated data sets" in out
    assert "Calibrated: all 9 tests passed (a right posterior fails one with a probability of at most 1 %)" in out
    assert "calibrate: posteriors, network" in err
    groups = load(run / "posterior.nc")
    assert is_sealed(run / "posterior.nc") and np.array_equal(groups["posterior"]["mean"].values, before)
    assert groups["calibration"]["rank"].shape == (2, 4, 60)
    assert groups["calibration"].attrs["false_alarm"] == 0.01
    assert "Ranks of network" in (run / "report.html").read_text()
    said = json.loads((run / "run.json").read_text())
    assert "TARP of network, p-value" in [check["name"] for check in said["verdict"]["checks"]]
    assert not (run / "calibration").exists() and "calibrated on 60 data sets" in (run / "log.txt").read_text()
    code, out, _ = nuppl("show", run, "--json", capsys=capsys)
    names = [check["name"] for check in json.loads(out)["verdict"]["checks"]]
    assert "local classifier of network, p-value" in names and "observed data among simulated, p-value" in names


def test_json_and_a_second_calibration_replaces_the_first(runs, capsys):
    first = json.loads(nuppl("calibrate", runs / "npe", *FEW, "--json", capsys=capsys)[1])
    again = json.loads(nuppl("calibrate", runs / "npe", *FEW, "--json", capsys=capsys)[1])
    other = json.loads(nuppl("calibrate", runs / "npe", *FEW, "--seed", "7", "--json", capsys=capsys)[1])
    assert first == again and first["methods"] != other["methods"]
    assert first["methods"]["network"]["datasets"] == 60 and first["verdict"]["trusted"]
    assert [each["test"] for each in first["methods"]["network"]["p_values"]] == ["ranks", "ranks", "coverage", "TARP"]


def test_a_network_that_is_not_calibrated_leaves_with_4_and_advice(runs, capsys, monkeypatch):
    drawn = posteriors.NetworkPosteriors.__call__

    def narrow(self, *arguments):
        found = drawn(self, *arguments)
        mean = found.u.mean(1, keepdim=True)
        return found._replace(u=mean + 0.4 * (found.u - mean))

    monkeypatch.setattr(posteriors.NetworkPosteriors, "__call__", narrow)
    code, out, _ = nuppl("calibrate", runs / "npe", *FEW, capsys=capsys)
    assert code == 4
    assert "Not calibrated:" in out and "worst: mean, whose ranks look too narrow." in out
    assert "ask for more simulations, or an ensemble (docs/verdict.md#calibration)" in out
    # The draws of the run are weighted: of its own verdict it is a caution.
    verdict = json.loads(nuppl("show", runs / "npe", "--json", capsys=capsys)[1])["verdict"]
    found = next(check for check in verdict["checks"] if check["name"] == "ranks of network, p-value")
    assert found["name"] in verdict["cautions"] and not found["serious"] and "--weighted tests them" in found["advice"]


def test_an_exact_engine_is_repeated(runs, capsys):
    code, out, err = nuppl("calibrate", runs / "laplace", "-n", "20", "--draws", "30", capsys=capsys)
    assert code == 0, out + err
    assert "laplace: 20 simulated data sets" in out and "coverage of laplace" in out


@pytest.mark.parametrize("after", [1, 3])
def test_killed_at_any_batch_it_goes_on_to_the_same_numbers(runs, capsys, monkeypatch, after):
    shutil.copytree(runs / "npe", runs / "again")
    monkeypatch.setattr(Checkpoints, "due", lambda self: self.folder is not None)
    many = ("-n", "200", "--draws", "20", "--json")
    whole = json.loads(nuppl("calibrate", runs / "again", *many, capsys=capsys)[1])
    drawn, left = posteriors.NetworkPosteriors.__call__, [after]

    def dying(self, *arguments):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return drawn(self, *arguments)

    monkeypatch.setattr(posteriors.NetworkPosteriors, "__call__", dying)
    code, _, err = nuppl("calibrate", runs / "npe", *many, capsys=capsys)
    assert code == 130 and "what was done is kept; the same command goes on" in err
    assert load(runs / "npe" / "posterior.nc").keys().isdisjoint({"calibration"})
    left[0] = 100
    code, out, err = nuppl("calibrate", runs / "npe", *many, capsys=capsys)
    assert code == 0 and json.loads(out)["methods"] == whole["methods"]
    assert "goes on where one was interrupted" in err
    # Four batches of up to 64 and the observed data: what was done was not done again.
    assert left[0] == 100 - (5 - after)


def test_what_it_refuses(runs, capsys):
    (runs / "other").mkdir()
    shutil.copytree(runs / "npe", runs / "bare")
    for name in ("guide.json", "guide.pt"):
        (runs / "bare" / name).unlink()
    shutil.copytree(runs / "npe", runs / "half")
    (runs / "half" / "guide.pt").unlink()
    cases = (
        (("other",), "expected the folder of a finished run"),
        (("nowhere",), "found nothing"),
        (("npe/posterior.nc",), "found a file"),
        (("bare",), "of npe holds no network"),
        (("half",), "expected guide.pt beside guide.json"),
        (("npe", "-n", "19"), "calibration expected at least 20, got 19"),
        (("npe", "-n", "0"), "calibration expected at least 20, got 0"),
        (("npe", "--draws", "5"), "calibration expected at least 20, got 5"),
        (("npe", "--weighted", "5"), "calibration expected at least 20, got 5"),
    )
    for arguments, message in cases:
        code, _, err = nuppl("calibrate", runs / arguments[0], *arguments[1:], capsys=capsys)
        assert code == 2 and message in err and err.count("\n") <= 2, (arguments, err)
    assert not (runs / "npe" / "calibration").exists()


def test_a_program_that_changed_since_is_refused(runs, capsys):
    record = json.loads((runs / "npe" / "run.json").read_text())
    changed = MODEL.replace("0.3, 1.2", "0.4, 1.2")
    # The file changed: the run's own copy is used, and that is said.
    (runs / "normal.py").write_text(changed)
    record["model_path"] = str(runs / "normal.py")
    (runs / "npe" / "run.json").write_text(json.dumps(record))
    code, _, err = nuppl("calibrate", runs / "npe", *FEW, capsys=capsys)
    assert code == 0 and "is not what it was; using the copy" in err
    # The copy changed too.
    (runs / "npe" / "normal.py").write_text(changed)
    code, _, err = nuppl("calibrate", runs / "npe", *FEW, capsys=capsys)
    assert code == 2 and "expected the model file of that run" in err
    # The same file reads other data.
    (runs / "npe" / "normal.py").write_text(MODEL)
    record["data_sha256"] = "0" * 64
    (runs / "npe" / "run.json").write_text(json.dumps(record))
    code, _, err = nuppl("calibrate", runs / "npe", *FEW, capsys=capsys)
    assert code == 2 and "its data are not those of the run" in err


def test_two_at_once_are_refused(runs, capsys, monkeypatch):
    first = calibration.posed
    seen = []

    def second(*arguments):
        if not seen:
            seen.append(None)
            seen[0] = nuppl("calibrate", runs / "npe", *FEW, capsys=capsys)
        return first(*arguments)

    monkeypatch.setattr(calibration, "posed", second)
    code, _, _ = nuppl("calibrate", runs / "npe", *FEW, capsys=capsys)
    assert code == 0 and seen[0][0] == 3 and re.search("is in use by process", seen[0][2])
