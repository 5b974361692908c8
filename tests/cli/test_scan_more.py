"""Scans in several processes, killed, put together, blind, against a hypothesis; and as tables for others."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import yaml

from nuppl.cli.main import main
from nuppl.results.checkpoints import Checkpoints

ROOT = Path(__file__).parents[2]
GAUSSIAN, TWO = ROOT / "models" / "bounded_gaussian.py", ROOT / "models" / "two_detector.py"
SMALL = ("--over", "mu=0:4", "--grid", "9", "--toys", "256")


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def ran(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main([str(argument) for argument in arguments])
        return left.value.code, *capsys.readouterr()

    return ran


def scan_of(folder):
    with xr.open_dataset(folder / "scan.nc", group="scan") as found:
        return found.load()


def test_killed_with_two_workers_and_resumed_with_one_a_scan_is_the_same(run, tmp_path, monkeypatch):
    """SIGKILL in the middle: what was finished is not done again, at most what each process was at is lost."""
    asked = ("scan", GAUSSIAN, "--over", "mu=0:4", "--grid", "33", "--toys", "2048", "--null", "mu=0", "--seed", "3")
    program = [sys.executable, "-c", "from nuppl.cli.main import main; main()"]
    command = [*program, *map(str, asked), "--workers", "2", "--out", "cut"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True
    )
    place, began = tmp_path / "cut.partial" / "checkpoints", time.monotonic()
    while len(list(place.glob("toys-*.pt"))) < 3:
        assert process.poll() is None and time.monotonic() - began < 120.0, process.communicate()
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    kept = {file.stem for file in place.glob("toys-*.pt")}
    save, saved = Checkpoints.save, {"cut": set(), "whole": set()}
    shown = {}
    for name, names in saved.items():

        def noted(self, block, state, names=names):
            names.add(block)
            save(self, block, state)

        with monkeypatch.context() as patched:
            patched.setattr(Checkpoints, "save", noted)
            code, shown[name], err = run(*asked, "--out", name, "--resume")
        assert code == 0, err
    assert kept and saved["cut"] and kept.isdisjoint(saved["cut"]), "what was kept is not done again"
    assert kept | saved["cut"] == saved["whole"] and shown["cut"] == shown["whole"]
    assert scan_of(tmp_path / "cut").identical(scan_of(tmp_path / "whole"))


def test_an_error_in_a_worker_is_one_message(run, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from pathlib import Path\nimport pyro.distributions as dist\nimport nuppl\n"
        "from nuppl.errors import InputError\nfrom multiprocessing import parent_process\n\n\n"
        "@nuppl.model(interest='mu')\ndef mine():\n"
        "    mu = nuppl.parameter('mu', dist.Uniform(0.0, 5.0))\n"
        "    if parent_process() is not None and mu.dim():\n        raise InputError('mine: not here')\n"
        "    nuppl.observe('x', dist.Normal(mu, 1.0), 1.0)\n"
    )
    code, out, err = run("scan", "mine.py", "--over", "mu", "--grid", "5", "--toys", "256", "--workers", "2")
    assert code == 2 and "mine: not here" in err and not out and "Traceback" not in err, err


def test_toys_of_two_seeds_count_together(run, tmp_path):
    assert run("scan", GAUSSIAN, *SMALL, "--out", "one")[0] == 0
    assert run("scan", GAUSSIAN, *SMALL, "--seed", "1", "--out", "two")[0] == 0
    code, out, err = run("scan", GAUSSIAN, *SMALL, "--seed", "1", "--merge", "one", "--out", "both")
    assert code == 0 and "4608 toys" in out, err
    one, two, both = (scan_of(tmp_path / name) for name in ("one", "two", "both"))
    np.testing.assert_array_equal(
        both["toy_statistic"], np.concatenate([one["toy_statistic"], two["toy_statistic"]], 1)
    )
    assert json.loads(both.attrs["seeds"]) == [0, 1] and int(both["toys"][0]) == 512
    # Without toys of its own: what two others have thrown.
    code, out, _ = run("scan", GAUSSIAN, *SMALL[:4], "--merge", "one", "--merge", "two", "--out", "third")
    assert code == 0 and scan_of(tmp_path / "third")["critical"].equals(both["critical"])
    for arguments, said in (
        ((*SMALL, "--merge", "one"), "its toys have the seed 0, as those of this scan"),
        ((*SMALL, "--seed", "5", "--merge", "one", "--merge", "both"), "as those of one"),
        ((*SMALL[:3], "7", *SMALL[4:], "--seed", "5", "--merge", "one"), "a scan over the same grid"),
        ((*SMALL, "--seed", "5", "--option", "width=0.7", "--merge", "one"), "the same statistic at every point"),
        ((*SMALL, "--seed", "5", "--blind", "--at", "mu=2", "--merge", "one"), "with the same data"),
        ((*SMALL, "--seed", "5", "--merge", "nowhere"), "found none"),
    ):
        code, _, err = run("scan", GAUSSIAN, *arguments, "--out", "no")
        assert code == 2 and said in err and "Traceback" not in err and not (tmp_path / "no").exists(), err


def test_blind_the_data_do_not_matter(run, tmp_path):
    """Whatever was measured: not one number depends on it."""
    text = GAUSSIAN.read_text()
    assert "width), 1.0," in text
    found = []
    for name, measured in (("first", "1.0"), ("second", "3.7")):
        (tmp_path / "model.py").write_text(text.replace("width), 1.0,", f"width), {measured},"))
        arguments = (*SMALL, "--blind=toy", "--at", "mu=0.5", "--null", "mu=0", "--sensitivity", "16")
        code, out, err = run("scan", "model.py", *arguments, "--out", name, "--json")
        assert code == 0, err
        found.append((out, scan_of(tmp_path / name)))
        assert "one pseudo-experiment at mu = 0.5" in (tmp_path / name / "report.html").read_text()
        (tmp_path / "model.py").unlink()
    assert found[0][0] == found[1][0] and found[0][1].identical(found[1][1])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--null", "nu=0"), "unknown parameter of the null 'nu'"),
        (("--null", "mu=-1"), "null 'mu': expected a value within its bounds 0 to 10, got -1"),
        (("--null", "mu"), "--null: expected NAME=VALUE"),
        (("--null", "mu=x"), "--null mu: expected a number"),
        (("--blind", "--at", "mu=inf"), "--at mu: expected a finite number"),
        (("--blind=all",), "'all'"),
        (("--sensitivity", "-1"), "sensitivity"),
        (("--workers", "0"), "workers"),
    ],
)
def test_bad_input_is_one_message(arguments, said, run, tmp_path):
    code, out, err = run("scan", GAUSSIAN, "--over", "mu=0:4", "--grid", "3", *arguments)
    assert code == 2 and said in err and not out and "Traceback" not in err, err
    assert not (tmp_path / "runs" / "bounded_gaussian-scan").exists()


@pytest.fixture(scope="module")
def scanned(tmp_path_factory):
    place = tmp_path_factory.mktemp("scanned") / "scan"
    two = ("--over", "sin2_2theta14=0:0.3,dm2_41", "--grid", "8x9", "--levels", "0.5,0.9,0.95")
    arguments = ("scan", TWO, *two, "--toys", "256", "--null", "sin2_2theta14=0", "--out", place)
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    assert left.value.code == 0
    return place


@pytest.fixture
def tables(scanned, tmp_path):
    shutil.copytree(scanned, tmp_path / "scan")
    return scan_of(tmp_path / "scan")


def test_a_scan_becomes_a_submission_to_hepdata(run, tables, tmp_path):
    code, out, err = run("export", "scan", "--to", "hepdata")
    assert code == 0, err
    folder = tmp_path / "scan" / "scan-hepdata"
    assert {Path(line).name for line in out.split()} == {file.name for file in folder.iterdir()}
    documents = list(yaml.safe_load_all((folder / "submission.yaml").read_text()))
    assert "comment" in documents[0] and [each["name"] for each in documents[1:]] == [
        "scan",
        "contour 90",
        "contour 95",
        "null",
    ]
    for each in documents[1:]:
        table = yaml.safe_load((folder / each["data_file"]).read_text())
        lengths = {len(column["values"]) for kind in table.values() for column in kind}
        assert set(table) == {"independent_variables", "dependent_variables"} and len(lengths) == 1 and lengths != {0}
        assert {"name", "location", "description", "keywords", "data_file"} == set(each)
    table = yaml.safe_load((folder / "scan.yaml").read_text())
    mass, critical = table["independent_variables"][1], table["dependent_variables"][3]
    assert mass["header"] == {"name": "dm2_41", "units": "eV^2"}
    assert critical["qualifiers"] == [{"name": "CL", "units": "%", "value": "90"}]
    values = [row["value"] for row in critical["values"]]
    np.testing.assert_allclose(values, tables["critical"].values[1].ravel(), rtol=1e-6)
    errors = [row["errors"][0] for row in critical["values"] if "errors" in row]
    assert (
        len(errors) > 60 and set(errors[0]) == {"label", "symerror"} and "&id" not in (folder / "null.yaml").read_text()
    )
    code, _, err = run("export", "scan", "--to", "hepdata")
    assert code == 3 and "--overwrite" in err
    assert run("export", "scan", "--to", "hepdata", "--overwrite")[0] == 0


def test_contours_lie_where_the_statistic_meets_its_critical_value(run, tables, tmp_path):
    run("export", "scan", "--to", "hepdata", "--out", "here")
    table = yaml.safe_load((tmp_path / "here" / "contour_95.yaml").read_text())
    x, y = ([row["value"] for row in column["values"]] for column in table["dependent_variables"])
    above = (tables["statistic"] - tables["critical"].isel(level=2)).assign_coords(dm2_41=np.log(tables["dm2_41"]))
    there = above.interp(sin2_2theta14=xr.DataArray(x, dims="p"), dm2_41=xr.DataArray(np.log(y), dims="p"))
    # On the edges of cells, on which contours cross, the interpolation is the same.
    assert len(x) > 5 and float(abs(there).max()) < 1e-4 * float(tables["statistic"].max())


def test_a_scan_becomes_a_table(run, tables, tmp_path):
    code, _, err = run("export", "scan", "--to", "csv", "--out", "scan.csv")
    assert code == 0, err
    with (tmp_path / "scan.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 72 and {"sin2_2theta14", "dm2_41 [eV^2]", "statistic", "critical@0.9", "toys"} <= set(rows[0])
    np.testing.assert_array_equal([float(row["critical@0.9"]) for row in rows], tables["critical"].values[1].ravel())
    assert float(rows[1]["dm2_41 [eV^2]"]) == float(tables["dm2_41"][1])


def test_each_kind_of_result_has_its_formats(run, tables):
    code, _, err = run("export", "scan", "--format", "getdist")
    assert code == 2 and "export to getdist: expected a result with a posterior" in err
