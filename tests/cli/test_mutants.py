"""200 result files that nuppl did not write so, read by every command that reads results.

Each gives a clear message and exit code 2, or a result (with a note where the seal is gone); nothing in it is executed,
nothing hangs, and no library crashes. The commands run in a process of their own, as a crash would end this one.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from nuppl.cli.main import main

_SPEC = importlib.util.spec_from_file_location("mutants", Path(__file__).with_name("mutants.py"))
files = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(files)

COUNT = 200
SECONDS = 20.0
"""Of processor time: no command may take more with any of them."""
DRIVER = """
import contextlib, io, json, signal, sys, warnings
from nuppl.cli.main import _run

class Slow(BaseException):
    pass

def stop(*_):
    raise Slow

signal.signal(signal.SIGPROF, stop)
warnings.simplefilter("ignore")
for line in sys.stdin:
    out, err = io.StringIO(), io.StringIO()
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = _run(json.loads(line))
    except Slow:
        code = "slow"
    signal.setitimer(signal.ITIMER_PROF, 0.0)
    print(json.dumps([code, out.getvalue(), err.getvalue()]), flush=True)
"""


class Reader:
    """A process that runs one command line after another, and is begun anew when one of them kills it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: subprocess.Popen[str] | None = None

    def __call__(self, *arguments: object) -> tuple[int | str, str, str]:
        if self.process is None or self.process.poll() is not None:
            code = DRIVER.replace("SECONDS", str(SECONDS))
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
            self.process = subprocess.Popen([sys.executable, "-c", code], cwd=self.folder, text=True, **pipes)
        self.process.stdin.write(json.dumps([str(argument) for argument in arguments]) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        return tuple(json.loads(answer)) if answer else (f"died with {self.process.wait()}", "", "")

    def close(self) -> None:
        if self.process is not None:
            self.process.communicate()


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """A small result that every command reads."""
    folder = tmp_path_factory.mktemp("mutants")
    model = Path(__file__).parents[2] / "models" / "counting.py"
    with pytest.raises(SystemExit) as left:
        main(
            [
                "infer",
                str(model),
                "--engine",
                "importance",
                "--draws",
                "50",
                "--chains",
                "2",
                "--out",
                str(folder / "run"),
            ]
        )
    assert left.value.code in (0, 4)
    return folder / "run" / "posterior.nc"


@pytest.fixture(scope="module")
def reader(result):
    reading = Reader(result.parent)
    yield reading
    reading.close()


def commands(file: Path, result: Path) -> list[tuple[object, ...]]:
    out = ("--out", "out", "--overwrite")
    return [
        ("show", file),
        ("evidence", file, result),
        ("export", file, "--format", "csv", *out),
        ("export", file, "--format", "getdist", *out),
    ]


def test_the_file_itself_is_read(result, reader):
    for command in (*commands(result, result), ("report", result, "--out", "report.html")):
        code, _, said = reader(*command)
        assert code in (0, 4) and "no seal" not in said, (command, said)


def test_mutants_are_refused_or_read_and_never_executed(result, reader, tmp_path):
    wrong, refused, code = [], 0, None
    for number, file in enumerate(files.mutants(result, tmp_path, COUNT)):
        for command in (*commands(file, result), ("report", file, "--out", tmp_path / "report.html")):
            # Drawing one takes a second: of the files that are read at all every fourth is drawn.
            if command[0] == "report" and code != 2 and number % 4:
                continue
            code, out, said = reader(*command)
            errors = sum(line.startswith("error: ") for line in said.splitlines())
            clear = errors == 1 and out == "" if code == 2 else code in (0, 4) and errors == 0
            if not clear or "Traceback" in said + out:
                wrong.append((file.name, command[0], code, said))
        refused += code == 2
        file.unlink()
    assert not wrong, wrong
    assert list(tmp_path.glob("executed*")) == [], "something in a result was executed"
    # Most are beyond use; those that are not, such as a lost group of prior draws, are read with a note.
    assert refused > 0.5 * COUNT
