"""`nuppl compare` as users run it: one page, one table, one JSON; and what it refuses."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nuppl.cli.main import main

ROOT = Path(__file__).parents[2]
GAUSSIAN, TWO = ROOT / "models" / "bounded_gaussian.py", ROOT / "models" / "two_detector.py"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ENDS = pytest.approx


def ran(*arguments):
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    return left.value.code


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Runs and scans of two models, made once."""
    folder = tmp_path_factory.mktemp("results")
    quick = ("--engine", "importance", "--chains", "4", "--proposals", "2000")
    small = ("--over", "mu=0:5", "--grid", "41")
    blind = ("--blind", "--at", "mu=0.5")
    map_of_two = ("--over", "sin2_2theta14=0:0.3,dm2_41", "--grid", "14x16", "--toys", "256")
    for name, arguments in {
        "run": ("infer", GAUSSIAN, *quick),
        "scan": ("scan", GAUSSIAN, *small, "--toys", "512", "--null", "mu=0", "--sensitivity", "128"),
        "hidden-run": ("infer", GAUSSIAN, *quick, *blind),
        "hidden": ("scan", GAUSSIAN, *small, *blind, "--sensitivity", "0"),
        "two-run": ("infer", TWO, "--chains", "2", "--draws", "256"),
        "two-null": ("infer", TWO, "--chains", "2", "--set", "sin2_2theta14=0", "--set", "dm2_41=1"),
        "two": ("scan", TWO, *map_of_two, "--null", "sin2_2theta14=0", "--sensitivity", "32"),
    }.items():
        assert ran(*arguments, "--out", folder / name) in (0, 4)
    return folder


@pytest.fixture
def compare(results, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(results)

    def compared(*arguments):
        capsys.readouterr()
        code = ran("compare", *arguments, "--out", tmp_path / "compare.html")
        return code, *capsys.readouterr(), tmp_path / "compare.html"

    return compared


def intervals(said, parameter, source, method):
    return {
        each["level"]: each["found"]
        for each in said["intervals"]
        if (each["parameter"], each["source"], each["method"]) == (parameter, source, method)
    }


def test_one_parameter_in_every_reading(compare):
    code, out, err, page = compare("run", "scan", "--json")
    assert code == 0 and f"report: {page}" in err, err
    said = json.loads(out)
    assert said["parameters"] == ["mu"] and said["blind"] is None and said["verdict"]["trusted"]
    # A Gaussian of width 1 measured at 1, cut at zero: Feldman and Cousins' table, and the truncated posterior.
    wilks, toys = (intervals(said, "mu", "scan", method) for method in ("Wilks", "toys"))
    assert wilks[0.9] == [[0.0, ENDS(2.645, abs=0.01)]]
    assert toys[0.6827] == [[ENDS(0.24, abs=0.12), ENDS(2.0, abs=0.1)]]
    assert toys[0.9] == [[0.0, ENDS(2.64, abs=0.12)]]
    tails, highest = (intervals(said, "mu", "run", method) for method in ("equal tails", "highest density"))
    assert tails[0.9] == [[ENDS(0.17, abs=0.06), ENDS(2.73, abs=0.12)]]
    assert highest[0.9] == [[0.0, ENDS(2.41, abs=0.12)]]
    (test,) = said["null"]["p_values"]
    # t_0 = 1; half of the toys lie at the bound: p = 1 - Phi(1) = 0.159, where Wilks' theorem says 0.317.
    assert test["statistic"] == ENDS(1.0, abs=1e-3) and test["wilks"] == ENDS(0.3173, abs=1e-3)
    assert test["p_value"] == ENDS(0.1587, abs=5 * test["error"]) and test["toys"] == 512
    (factor,) = said["null"]["bayes_factors"]
    # p(0 | x) / pi(0) = 10 phi(1) / Phi(1).
    assert factor["how"] == "density" and factor["log"] == ENDS(1.056, abs=0.2)


def test_reasons_and_overlaps_come_from_the_numbers(compare):
    said = json.loads(compare("run", "scan", "--json")[1])
    about = {each["about"] for each in said["reasons"]}
    assert {"prior", "critical values"} <= about
    prior = next(each for each in said["reasons"] if each["about"] == "prior")
    assert "Uniform(low=0, high=10)" in prior["text"] and prior["numbers"]["moved"]["flat in x²"] > 0.2
    critical = [each["numbers"] for each in said["reasons"] if each["about"] == "critical values"]
    assert all(each["lowest"] < each["wilks"] for each in critical)
    pair = {(each["level"], each["second"]): each for each in said["overlaps"] if each["first"] == "run, credible"}
    assert set(pair) == {(level, f"scan, {kind}") for level in (0.6827, 0.9, 0.95) for kind in ("Wilks", "toys")}
    assert 0.8 < pair[0.9, "scan, toys"]["overlap"] < 1.0 and pair[0.9, "scan, toys"]["probability"] > 0.9


def test_the_sensitivity_is_that_of_a_gaussian_at_its_bound(compare):
    said = json.loads(compare("run", "scan", "--json")[1])
    row = next(each for each in said["sensitivity"]["scan"] if each["level"] == 0.9)
    # Were mu zero: the upper limit of the median experiment, x = 0, is 1.64 (Feldman and Cousins, Table X).
    assert row["asimov"] == [0.0, ENDS(1.64, abs=0.15)]
    assert row["lower"][2] == 0.0 and row["upper"][2] == ENDS(1.64, abs=0.35)
    assert row["upper"] == sorted(row["upper"]) and row["upper"][0] < 0.7 and row["upper"][4] > 3.0


def test_two_parameters_and_a_run_of_the_null(compare):
    code, out, _, page = compare("two-run", "two", "--against", "two-null", "--json")
    said = json.loads(out)
    assert code == (0 if said["verdict"]["trusted"] else 4)
    by = {factor["how"]: factor for factor in said["null"]["bayes_factors"]}
    assert by["evidence"]["log"] == ENDS(2.6, abs=0.4) and "positive, for the null" in by["evidence"]["sentence"]
    assert by["density"]["log"] == ENDS(by["evidence"]["log"], abs=0.4)
    assert {each["parameter"] for each in said["intervals"]} == {"sin2_2theta14", "dm2_41"}
    assert any(each["method"] == "toys, projected" for each in said["intervals"])
    assert any(each["about"] == "modes" for each in said["reasons"])
    text = page.read_text()
    pictures = re.findall(r'alt="([^"]*)"', text)
    assert pictures[0] == "Regions of sin2_2theta14 and dm2_41" and "Sensitivity of two" in pictures
    assert "<script" not in text and "http://" not in text and 'id="blind"' not in text


def test_blind_results_say_so_everywhere(compare, results):
    code, out, _, page = compare("hidden-run", "hidden")
    assert code == 0 and "in place of the real data stand the data that are expected at mu = 0.5" in out
    assert 'id="blind"' in page.read_text() and "observed" not in page.read_text()
    for name in ("hidden-run", "hidden"):
        assert "<strong>Blind.</strong>" in (results / name / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run",), "two results or more"),
        (("run", "run"), "got one of them twice"),
        (
            ("run", "two"),
            "expected the same model in all results, got bounded_gaussian in 'run' and two_detector in 'two'",
        ),
        (("run", "hidden"), "expected the same data in all results, got the real ones in 'run'"),
        (("two-null", "two"), "the same held sites in all results, got sin2_2theta14=0.0"),
        (("run", "scan", "--against", "two-null"), "expected the same data in both runs"),
        (("run", "nowhere"), "expected a run folder or a result file, found none"),
        ((), "RUN|SCAN"),
    ],
)
def test_what_cannot_be_compared_is_one_message(arguments, said, compare):
    code, out, err, page = compare(*arguments)
    assert code == 2 and said in err and not out and "Traceback" not in err and not page.exists(), err


def test_other_parameters_and_levels_are_refused(compare, tmp_path, results):
    other = ("scan", TWO, "--over", "sin2_2theta14=0:0.3", "--grid", "4", "--out")
    assert ran(*other, tmp_path / "one") == 0
    assert ran(*other, tmp_path / "levels", "--levels", "0.5") == 0
    code, _, err, _ = compare("two", tmp_path / "one")
    assert code == 2 and "the same scanned parameters in all results, got sin2_2theta14, dm2_41 in 'two'" in err
    code, _, err, _ = compare(tmp_path / "levels", tmp_path / "one")
    assert code == 2 and "a confidence level in common, got none" in err


def test_a_page_is_not_replaced_unasked(compare):
    assert compare("run", "scan")[0] == 0
    code, _, err, _ = compare("run", "scan")
    assert code == 3 and "--overwrite" in err
    assert compare("run", "scan", "--overwrite")[0] == 0


def test_it_runs_as_a_program(results, tmp_path):
    command = [sys.executable, "-c", "from nuppl.cli.main import main; main()", "compare", "run", "scan", "--out"]
    done = subprocess.run([*command, str(tmp_path / "page.html")], cwd=results, capture_output=True, text=True)
    assert done.returncode == 0 and "overlap at 90 %" in done.stdout and "report:" in done.stderr, done.stderr
    assert (tmp_path / "page.html").exists()


PROBE = """<script>addEventListener("load", () => {
  const images = [...document.images];
  document.title = "probe " + JSON.stringify({
    loaded: images.filter(i => i.complete && i.naturalWidth > 0).length,
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    clipped: [...document.querySelectorAll(".scroll, figure, nav")]
      .filter(e => e.scrollWidth > e.clientWidth + 1).length,
  });
});</script></body>"""


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.parametrize("names", [("run", "scan"), ("two-run", "two")])
def test_a_browser_shows_it_without_complaint(names, compare, tmp_path):
    page = compare(*names)[3]
    count = len(re.findall("<img", page.read_text()))
    page.write_text(page.read_text().replace("</body>", PROBE))
    for width in (800, 1280):
        flags = (
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--enable-logging=stderr",
            "--v=0",
        )
        command = [CHROMIUM, *flags, f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},900"]
        seen = subprocess.run(
            [*command, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=60, check=True
        )
        found = re.search(r"<title>probe (.*?)</title>", seen.stdout)
        assert found and json.loads(found[1]) == {"loaded": count, "overflow": 0, "clipped": 0}, found
        assert "CONSOLE" not in seen.stderr
