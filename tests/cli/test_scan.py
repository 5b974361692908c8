"""`nuppl scan` as users run it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import xarray as xr

from nuppl.cli.main import main
from nuppl.results.checkpoints import Checkpoints

ROOT = Path(__file__).parents[2]
GAUSSIAN, TWO = ROOT / "models" / "bounded_gaussian.py", ROOT / "models" / "two_detector.py"
SMALL = ("--over", "mu=0:4", "--grid", "9", "--toys", "256")


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def ran(*arguments):
        with pytest.raises(SystemExit) as left:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return left.value.code, captured.out, captured.err

    return ran


def test_a_scan_leaves_a_folder_that_can_be_shown_and_drawn(run, tmp_path):
    code, out, err = run("scan", GAUSSIAN, *SMALL)
    assert code == 0 and "best fit: mu = 1" in out and "9 points, 0 failed; 2304 toys" in out, (out, err)
    folder = tmp_path / "runs" / "bounded_gaussian-scan"
    assert {file.name for file in folder.iterdir()} == {"bounded_gaussian.py", "report.html", "run.json", "scan.nc"}
    scan = xr.open_dataset(folder / "scan.nc", group="scan")
    assert scan["critical"].dims == ("level", "mu") and float(scan["statistic"].sel(mu=1.0)) == pytest.approx(0.0)
    assert float(scan["p_value"].sel(mu=3.0)) < 0.2 < float(scan["p_value"].sel(mu=0.5))
    again = run("show", folder)
    assert again[0] == 0 and again[1] == out
    page = (folder / "report.html").read_text()
    assert "data:image/svg+xml" in page and "<script" not in page and "http://" not in page
    assert run("scan", GAUSSIAN, *SMALL)[0] == 3
    assert run("scan", GAUSSIAN, *SMALL, "--resume")[1] == out


def test_an_interrupted_scan_goes_on_to_the_same_result(run, tmp_path, monkeypatch):
    arguments = (GAUSSIAN, "--over", "mu=0:4", "--grid", "5", "--toys", "1024", "--json")
    code, whole, _ = run("scan", *arguments, "--out", "whole")
    assert code == 0 and json.loads(whole)["verdict"]["trusted"]
    save = Checkpoints.save

    def stop(self, name, state):
        save(self, name, state)
        raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoints, "due", lambda self: True)
    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(Checkpoints, "save", stop)
            code, _, err = run("scan", *arguments, "--out", "cut", "--resume")
            assert code == 130 and "--resume" in err
    code, cut, _ = run("scan", *arguments, "--out", "cut", "--resume")
    assert code == 0 and cut == whole
    first, second = (xr.open_dataset(tmp_path / name / "scan.nc", group="scan") for name in ("whole", "cut"))
    assert first.identical(second)


def test_critical_values_are_learned_from_few_toys(run, tmp_path):
    arguments = (GAUSSIAN, "--over", "mu=0:4", "--grid", "21", "--toys", "100", "--critical", "learned")
    code, out, err = run("scan", *arguments, "--out", "few")
    assert code == 0 and "accepted by learned" in out and "4096 toys" in out, (out, err)
    scan = xr.open_dataset(tmp_path / "few" / "scan.nc", group="scan")
    assert scan.attrs["critical"] == "learned" and int(scan["toys"].sum()) == 4096
    value, error = scan["critical"].sel(level=0.9), scan["critical_error"].sel(level=0.9)
    assert bool((error > 0).all()) and float(value[0]) < 2.2
    assert abs(float(value[-1]) - 2.71) < 4 * float(error[-1]) < 2.0
    assert "learned" in (tmp_path / "few" / "report.html").read_text()
    assert run("scan", *arguments, "--out", "few", "--resume")[1] == out


def test_nuisances_of_toys_are_chosen(run):
    model = ROOT / "models" / "counting.py"
    arguments = ("scan", model, "--over", "signal=0:12", "--grid", "3", "--toys", "1280", "--json", "--levels", "0.9")
    found = {}
    for name in ("profile", "prior", "berger-boos"):
        code, out, err = run(*arguments, "--nuisances", name, "--out", name)
        assert code == 0, err
        found[name] = json.loads(out)["levels"]
    assert found["profile"] != found["prior"] != found["berger-boos"]


def test_two_parameters_give_a_map(run, tmp_path):
    code, out, err = run("scan", TWO, "--over", "sin2_2theta14=0:0.3,dm2_41", "--grid", "5x6", "--out", "map")
    assert code == 0 and "30 points, 0 failed" in out and "toys" not in out.splitlines()[-1], err
    assert "Scan of sin2_2theta14 and dm2_41" in (tmp_path / "map" / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--over", "mu=0:40"), "within its bounds 0 to 10"),
        (("--over", "nu"), "'nu'"),
        (("--over", "mu", "--levels", "1"), "between 0 and 1"),
        (("--over", "mu", "--levels", "0"), "between 0 and 1"),
        (("--over", "mu", "--grid", "x"), "--grid as 40 or 40x60"),
        (("--over", "mu", "--grid", "1"), "at least 2 points"),
        (("--over", "mu", "--toys", "-1"), "toys"),
        (("--over", "mu", "--statistic", "q-tild", "--toys", "100"), "did you mean 'q-tilde'"),
        (("--over", "mu", "--statistic", "waldo"), "throw toys, as with --toys 1000"),
        (("--over", "mu", "--statistic", "focused", "--toys", "100"), "expected width"),
        (
            ("--over", "mu", "--statistic", "q-tilde", "--null", "mu=0"),
            "--null: expected the statistic likelihood-ratio",
        ),
        (("--over", "mu", "--statistic", "gaussian-cls"), "null=..."),
        (("--over", "mu", "--toys", "10", "--critical", "learned"), "at least 40 per point"),
        (("--over", "mu", "--toys", "900", "--critical", "learned", "--nuisances", "berger-boos"), "berger-boos"),
        (("--over", "mu", "--nuisances", "best"), "berger-boos"),
        ((), "--over"),
    ],
)
def test_bad_input_is_one_message(arguments, said, run, tmp_path):
    code, out, err = run("scan", GAUSSIAN, *arguments)
    assert code == 2 and said in err and not out and "Traceback" not in err
    assert not any(tmp_path.iterdir())


def test_upper_limits_by_cls(run, tmp_path):
    arguments = (GAUSSIAN, "--over", "mu=0:5", "--grid", "11", "--statistic", "q-tilde", "--levels", "0.95")
    code, out, err = run("scan", *arguments, "--json", "--out", "formulas")
    assert code == 0, err
    (limit,) = json.loads(out)["cls"]["limits"]
    # x = 1 with unit width: P(x <= 1 | mu) = 0.05 P(x <= 1 | 0) at mu = 1 - Phi^-1(0.05 Phi(1)).
    assert limit["observed"] == pytest.approx(2.7273, abs=1e-3) and limit["expected"][2] == pytest.approx(
        1.95996, abs=1e-3
    )
    code, out, err = run("scan", *arguments, "--toys", "1024", "--out", "toys")
    assert code == 0 and "statistic: q-tilde" in out and "limit by CLs" in out, err
    scan = xr.open_dataset(tmp_path / "toys" / "scan.nc", group="scan")
    assert scan["cls_expected"].dims == ("band", "mu") and float(scan["limit"][0]) == pytest.approx(2.73, abs=0.2)
    assert scan.attrs["statistic"] == "q-tilde" and "wilks" not in scan
    page = (tmp_path / "toys" / "report.html").read_text()
    assert "<strong>CLs.</strong>" in page and "limit by CLs" in page
    assert run("show", "toys")[1] == out


def test_a_map_by_gaussian_cls(run, tmp_path):
    where = ("--over", "sin2_2theta14=0:0.3,dm2_41", "--grid", "5x6", "--out", "map")
    code, out, err = run("scan", TWO, *where, "--statistic", "gaussian-cls,null=0/1")
    assert code == 0 and "null=0/1" in out, err
    scan = xr.open_dataset(tmp_path / "map" / "scan.nc", group="scan")
    assert scan["cls"].dims == ("sin2_2theta14", "dm2_41") and "limit" not in scan
    assert "<strong>CLs.</strong>" in (tmp_path / "map" / "report.html").read_text()


def test_a_statistic_of_a_user_and_another_file_under_its_name(run, tmp_path):
    (tmp_path / "mine.py").write_text("def distance(seen):\n    return (seen.estimate - seen.tested).square().sum(1)\n")
    chosen = ("--statistic", "mine.py:distance", "--out", "own")
    code, out, err = run("scan", GAUSSIAN, *SMALL, *chosen)
    assert code == 0 and "statistic: mine.py:distance" in out, err
    assert run("scan", GAUSSIAN, *SMALL, *chosen, "--resume")[1] == out
    (tmp_path / "mine.py").write_text("def distance(seen):\n    return (seen.estimate - seen.tested).abs().sum(1)\n")
    assert run("scan", GAUSSIAN, *SMALL, *chosen, "--resume")[0] == 3


def test_toys_are_fitted_by_matrix_products_and_a_sample_in_full(run):
    arguments = ("--over", "sin2_2theta14=0:0.4,dm2_41", "--grid", "8x9", "--toys", "256", "--fits", "linear")
    code, out, err = run("scan", TWO, *arguments, "--check", "40")
    assert code in (0, 4) and "40 toys fitted in both ways: t of linear fits minus t of full ones" in out, (out, err)
    assert (code == 4) == ("full fits of toys say other than linear ones" in err)
    code, _, err = run("scan", TWO, *arguments, "--critical", "learned", "--out", "other")
    assert code == 2 and "--fits linear: expected --critical toys" in err
