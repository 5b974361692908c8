"""What a user can get wrong, one by one: exit code, what the message must say, and that nothing is left behind.

Wrong words on the command line are in test_command_line.py, models without a usable density in test_refusals.py, and
damaged results in test_mutants.py.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import netCDF4
import pytest

from nuppl.cli.main import main

COUNTING = Path(__file__).parents[2] / "models" / "counting.py"
QUICK = ("--engine", "importance", "--draws", "20", "--chains", "2", "--proposals", "40")
HEAD = "import pyro.distributions as dist\nimport torch\nimport nuppl\n\n@nuppl.model\ndef model():\n"
RATE = '    rate = nuppl.parameter("rate", dist.Uniform(0.0, 20.0))\n'
COMMAND = [sys.executable, "-W", "ignore", "-c", "from nuppl.cli.main import main; main()"]


@pytest.fixture
def here(tmp_path, monkeypatch, capsys):
    """The command line in this process: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main([str(argument) for argument in arguments])
        streams = capsys.readouterr()
        return int(left.value.code), streams.out, streams.err

    return run


def refused(done: tuple[int, str, str], *words: str, code: int = 2) -> None:
    assert done[0] == code and done[1] == "", done
    lines = done[2].splitlines()
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:], done
    assert "Traceback" not in done[2] and "internal error" not in done[2]
    for word in words:
        assert word in done[2], (word, done[2])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import nuppl\n\n\ndef model(:\n", ("line 4", "SyntaxError")),
        ("import nuppl\nif True:\nx = 1\n", ("line 3", "IndentationError", "expected an indented block")),
        ("import nuppl\n1 / 0\n", ("line 2", "ZeroDivisionError")),
        ("import nuppl\nimport not_installed\n", ("line 2", "not_installed")),
        ("import nuppl\nfrom nuppl import parametr\n", ("line 2", "parametr")),
        ("import sys\nsys.exit(0)\n", ("line 2", "SystemExit")),
        ("import nuppl\n\n@nuppl.model(interst='rate')\ndef model():\n    pass\n", ("line 3", "interst")),
        ("import nuppl\n\n@nuppl.model\ndef model(scale):\n    pass\n", ("line 3", "needs a default", "scale")),
        ("import nuppl\n\ndef model():\n    pass\n", ("expected a function decorated with @nuppl.model",)),
        ("\0", ("SyntaxError",)),
    ],
)
@pytest.mark.parametrize("command", ["check", "infer"])
def test_a_file_that_is_no_model_names_its_line(command, text, words, here, tmp_path):
    (tmp_path / "mine.py").write_text(text)
    refused(here(command, "mine.py"), "mine.py", *words)


def test_an_error_in_a_file_that_the_model_imports_names_that_file(here, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "efficiencies.py").write_text("A = 1\nB = = 2\n")
    (tmp_path / "mine.py").write_text("import efficiencies\n")
    refused(here("fit", "mine.py"), "efficiencies.py, line 2", "SyntaxError")


@pytest.mark.parametrize(
    ("body", "line", "words"),
    [
        (RATE + "    rate.scale\n", 8, ("AttributeError", "scale")),
        (RATE + '    nuppl.observe("n", dist.Poisson(rate), "three")\n', 8, ("TypeError", "str")),
        (RATE + '    nuppl.parameter("rate", dist.Normal(0.0, 1.0))\n', 8, ("'rate' appears twice", "nuppl.scope")),
        ('    nuppl.parameter("my rate", dist.Normal(0.0, 1.0))\n', 7, ("letters, digits and '_'", "'my rate'")),
        ('    nuppl.parameter("rate", dist.Uniform(3.0, 1.0))\n', 7, ("'rate'", "low = 3", "high = 1")),
        (RATE + '    nuppl.observe("n", dist.Poisson(rate), float("nan"))\n', 8, ("'n'", "NaN or infinity in 1 of 1")),
        (RATE + '    nuppl.observe("n", dist.Poisson(rate), -2.0)\n', 8, ("'n'", "at least 0", "n = -2")),
        (RATE + '    nuppl.observe("n", dist.Poisson(rate), [1.0, 2.0])\n', 8, ("'n'", "a scalar", "got (2,)")),
        (RATE + '    with nuppl.plate("bin", 3, dim=1):\n        pass\n', 8, ("dim between -7 and -1", "got 1")),
        (RATE + '    with nuppl.plate("bin", 0, dim=-1):\n        pass\n', 8, ("at least one entry", "got 0")),
        ("    model()\n", 7, ("RecursionError",)),
    ],
)
@pytest.mark.parametrize("command", ["fit", "simulate"])
def test_an_error_while_the_model_runs_names_its_line(command, body, line, words, here, tmp_path):
    (tmp_path / "mine.py").write_text(HEAD + body)
    refused(here(command, "mine.py"), f"mine.py, line {line}: ", *words)
    assert not list(tmp_path.glob("*.nc"))


@pytest.mark.parametrize("command", [("fit",), ("infer", "--engine", "hmc"), ("infer", "--engine", "laplace")])
def test_a_simulator_is_refused_where_a_density_is_needed(command, here, tmp_path):
    draw = '    nuppl.observe("n", nuppl.Simulator(torch.poisson, rate), 3.0)\n'
    (tmp_path / "mine.py").write_text(HEAD + RATE + draw)
    refused(here(*command, "mine.py"), "'n' is a simulator without density", "use simulation")
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").iterdir())


def test_unreadable_files(here, tmp_path):
    refused(here("fit", "."), "expected a Python file, found a folder")
    refused(here("show", "/dev/null"), "/dev/null", "expected a netCDF file that nuppl wrote")
    (tmp_path / "empty").mkdir()
    refused(here("show", "empty"), "posterior.nc", "found none")
    refused(here("evidence", "empty", "empty"), "found none")


@pytest.mark.parametrize(
    "arguments",
    [
        ("infer", COUNTING, "--draws", "9" * 30),
        ("infer", COUNTING, "--particles", "9" * 30),
        ("infer", COUNTING, "--seed", "9" * 30),
        ("fit", COUNTING, "--seed", "9" * 30),
        ("simulate", COUNTING, "--seed", "-1"),
    ],
)
def test_numbers_out_of_every_range_are_refused(arguments, here, tmp_path):
    code, out, said = here(*arguments)
    assert code == 2 and out == "" and "is not in the range" in said and "Traceback" not in said
    assert not list(tmp_path.iterdir())


def test_more_pseudo_experiments_than_memory_holds_are_refused_at_once(here):
    refused(here("simulate", COUNTING, "-n", 10**15), "fit into memory", "1000000000000000")


@pytest.mark.parametrize(
    ("command", "out", "words"),
    [
        (("simulate", COUNTING), "nowhere/x.nc", ("expected a folder 'nowhere'", "make it")),
        (("simulate", COUNTING, "--overwrite"), ".", ("expected a file, found a folder",)),
        (("report", "run"), "nowhere/x.html", ("expected a folder 'nowhere'",)),
        (("report", "run"), ".", ("expected a file, found a folder",)),
        (("export", "run", "--format", "csv"), ".", ("expected a file, found a folder",)),
    ],
)
def test_outputs_that_cannot_be_are_refused(command, out, words, here, tmp_path, finished):
    shutil.copytree(finished, tmp_path / "run")
    refused(here(*command, "--out", out), *words, code=3)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("bad_input") / "run"
    with pytest.raises(SystemExit) as left:
        main(["infer", str(COUNTING), *QUICK, "--out", str(folder)])
    assert left.value.code in (0, 4)
    return folder


RESULT_COMMANDS = [("show",), ("report",), ("export", "--format", "csv")]


@pytest.mark.parametrize("command", RESULT_COMMANDS, ids=lambda command: command[0])
def test_results_that_are_none(command, here, tmp_path, finished):
    whole = (finished / "posterior.nc").read_bytes()
    (tmp_path / "cut.nc").write_bytes(whole[: len(whole) // 2])
    refused(here(*command, "cut.nc"), "cut.nc", "cannot be read", "truncated")

    bit = bytearray(whole)
    bit[len(bit) // 3] ^= 1
    (tmp_path / "bit.nc").write_bytes(bit)
    refused(here(*command, "bit.nc"), "bit.nc", "SHA-256 differs", "repeat the run")

    with netCDF4.Dataset(tmp_path / "other.nc", "w") as file:
        file.setncattr("inference_library", "pymc")
    refused(here(*command, "other.nc"), "other.nc", "'pymc'", "nuppl wrote")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("attrs", "[" * 100_000, ("'attrs'", "as nuppl writes it")),
        ("attrs", '{"log_evidence": "high"}', ("'attrs'",)),
        ("interest", '["mass"]', ("draws of every parameter of interest", "mass")),
        ("interest", '"signal"', ("'interest'",)),
        ("seed", "many", ("'seed'",)),
        ("reference", '{"signal": "__import__(\'os\')"}', ("'reference'",)),
    ],
)
@pytest.mark.parametrize("command", RESULT_COMMANDS, ids=lambda command: command[0])
def test_hostile_attributes(command, name, value, words, here, tmp_path, finished):
    shutil.copyfile(finished / "posterior.nc", tmp_path / "mine.nc")
    with netCDF4.Dataset(tmp_path / "mine.nc", "a") as file:
        file.setncattr(name, value)
    refused(here(*command, "mine.nc"), "mine.nc", *words)


def test_a_broken_record_costs_nobody_a_report(here, tmp_path, finished):
    shutil.copytree(finished, tmp_path / "run")
    for record in ("not JSON", "[1, 2]", "[" * 100_000, "{}"):
        (tmp_path / "run" / "run.json").write_text(record)
        (tmp_path / "run" / "report.html").unlink()
        code, _, said = here("report", "run")
        assert code == 0 and said == "" and (tmp_path / "run" / "report.html").stat().st_size > 10_000


def test_a_changed_result_is_read_with_a_note(here, tmp_path, finished):
    shutil.copyfile(finished / "posterior.nc", tmp_path / "mine.nc")
    assert "no seal" not in here("show", "mine.nc")[2]
    with netCDF4.Dataset(tmp_path / "mine.nc", "a") as file:
        file.setncattr("comment", "seen by me")
    code, out, said = here("show", "mine.nc")
    assert code in (0, 4) and "signal" in out and "no seal" in said


def unprivileged() -> list[str]:
    """For root permissions are no hindrance, unless the process gives up its capabilities."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("root writes everywhere, and there is no setpriv to hinder it")
    return ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("simulate", COUNTING, "--out", "locked/x.nc"), 2),
        (("infer", COUNTING, *QUICK, "--out", "locked/run"), 3),
        (("export", "run", "--format", "csv", "--out", "locked/x.csv"), 2),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_read_only_folder(arguments, code, tmp_path, finished):
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "locked").mkdir()
    (tmp_path / "locked").chmod(0o555)
    command = [*unprivileged(), *COMMAND, *map(str, arguments)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    refused((done.returncode, done.stdout, done.stderr), "locked", "ermission denied", code=code)
    assert list((tmp_path / "locked").iterdir()) == []


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2)
from nuppl.cli.main import main
main()
"""


@pytest.mark.parametrize(("command", "room"), [("infer", 100), ("infer", 20_000), ("simulate", 100_000)])
def test_files_that_may_not_grow(command, room, tmp_path):
    """A quota: the system refuses every byte beyond it, wherever in a file the library writes."""
    extra = QUICK if command == "infer" else ("-n", "50000")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LIMITED, str(room), command, str(COUNTING), *extra, "--out", "mine"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode in (2, 3), done
    assert "Traceback" not in done.stderr and "internal error" not in done.stderr, done.stderr
    assert not (tmp_path / "mine").exists(), "no half-written result appears"


@pytest.mark.parametrize("room", ["64k", "300k"])
def test_a_full_disk(room, tmp_path):
    (tmp_path / "disk").mkdir()

    def on_small_disk(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        mount = f"mount -t tmpfs -o size={room} tmpfs disk && cd disk && "
        command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount + script, "sh", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)

    if shutil.which("unshare") is None or on_small_disk("true").returncode != 0:
        pytest.skip("mounting a small disk is not allowed here")
    infer = ["infer", str(COUNTING), "--engine", "importance", "--draws", "2000", "--chains", "2"]
    done = on_small_disk('"$@"; echo $?; ls runs', *COMMAND, *infer)
    code, *left = done.stdout.split()
    assert code in ("2", "3") and "counting" not in left, done
    assert "Traceback" not in done.stderr and "internal error" not in done.stderr, done.stderr
    assert "No space left" in done.stderr or " bytes are free there: make room" in done.stderr, done.stderr


def test_debug_shows_the_users_line_too(here, tmp_path):
    (tmp_path / "mine.py").write_text(HEAD + RATE + "    rate.scale\n")
    code, _, said = here("fit", "mine.py", "--debug")
    assert code == 2 and "Traceback" in said and "mine.py, line 8" in said.splitlines()[-1]


def test_json_stays_clean_when_something_is_wrong(here):
    code, out, _ = here("fit", COUNTING, "--json")
    assert code == 0 and json.loads(out)
    refused(here("fit", COUNTING, "--json", "--set", "signal=-1"), "between 0 and 30")
