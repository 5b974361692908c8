"""Whatever is typed: one of the promised exit codes, one clear message, no traceback, no hang.

Command lines are made of all commands and flags, good and bad files, values in and out of range, and rubbish; 1000 run
in this process and 30 as processes of their own. The cases are the same in every run.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
import time
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nuppl.cli import main as command_line
from nuppl.inference.registry import ENGINES

SECONDS = 30.0
"""Of processor time: no command line of these may take more, most take milliseconds."""
CODES = (0, 2, 3, 4)

MODEL = """
import pyro.distributions as dist

import nuppl


@nuppl.model(interest="rate")
def tiny(background: float = 1.0, label: str = "x", fast: bool = True):
    rate = nuppl.parameter("rate", dist.Uniform(0.0, 20.0), unit="events")
    nuppl.observe("counts", dist.Poisson(rate + background), 4.0)
"""
FILES = {
    "tiny.py": MODEL,
    "two.py": MODEL + MODEL.split("import nuppl\n")[1].replace("tiny", "other"),
    "raises.py": MODEL.replace("    rate =", "    raise OSError(5, 'no data')\n    rate ="),
    "bad_data.py": MODEL.replace("4.0)", "float('nan'))"),
    "syntax.py": "def broken(:\n",
    "empty.py": "",
    "notes.txt": "not Python",
    "bad.nc": "not a result",
    "table.csv": "someone's",
}
RESULTS = ("good.nc", "run", "simulated.nc", "cut.nc")
PLACES = [
    *FILES,
    *RESULTS,
    "nowhere",
    ".",
    "",
    "/dev/null",
    "a/b/c",
    "x" * 300,
    "tiny.py:tiny",
    "tiny.py:tin",
    "two.py:other",
]
NUMBERS = ["0", "1", "2", "7", "-1", "1.5", "1e3", "nan", "inf", "", "many", "9" * 30, "0x10", "٣"]


def mostly(good: st.SearchStrategy, bad: st.SearchStrategy) -> st.SearchStrategy:
    """Seven times out of eight something good: a line has many parts, and one bad one ends it."""
    return st.sampled_from(range(8)).flatmap(lambda turn: bad if turn == 7 else good)


rubbish = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=12)
place = st.one_of(st.sampled_from(PLACES), st.sampled_from(PLACES), rubbish)
number = mostly(st.integers(0, 20).map(str), st.sampled_from(NUMBERS))
model = mostly(st.sampled_from(["tiny.py", "two.py:tiny"]), place)
result = mostly(st.sampled_from(RESULTS), place)
name = st.sampled_from(["rate", "rat", "counts", "background", "label", "fast", "", "é"])
free = st.one_of(st.builds("{}={}".format, name, st.one_of(number, rubbish)), rubbish)
out = st.one_of(st.sampled_from(["new", "new/deeper", "run", "table.csv", ".", "good.nc"]), place)


def option(flag: str, value: st.SearchStrategy[str]) -> st.SearchStrategy[list[str]]:
    return value.map(lambda text: [flag, text])


def line(command: str, positional: list[st.SearchStrategy[str]], *options: st.SearchStrategy[list[str]]):
    """A command with its arguments, some of its options, and now and then something that does not belong."""
    stray = st.one_of(rubbish.map(lambda text: [text]), option("--set", free), st.just(["--debug"]), st.just(["-h"]))
    kept = st.lists(mostly(st.one_of(*options), stray), max_size=4)
    return st.tuples(*positional, kept).map(lambda parts: [*command.split(), *parts[:-1], *chain(*parts[-1])])


FIXED = option("--set", mostly(st.sampled_from(["background=3", "rate=3"]), free))
CHOSEN = option("--option", mostly(st.sampled_from(["background=0.5", "label=y", "fast=no"]), free))
SEED, JSON, OUT = option("--seed", number), st.just(["--json"]), option("--out", out)
OVERWRITE = st.just(["--overwrite"])
ENGINE = option("--engine", mostly(st.sampled_from([*ENGINES]), rubbish))
COUNTS = [option(flag, number) for flag in ("--chains", "--draws", "--warmup", "--proposals", "--particles")]
# An engine that is asked for little is done in no time.
QUICK = "--chains=2 --draws=12 --warmup=12 --proposals=40 --particles=16 --simulations=300 --epochs=1"
lines = st.one_of(
    line("check", [model], FIXED, CHOSEN, JSON),
    line("simulate", [model], FIXED, CHOSEN, SEED, JSON, OUT, OVERWRITE, st.just(["--asimov"]), option("-n", number)),
    line(
        "fit",
        [model],
        FIXED,
        CHOSEN,
        SEED,
        JSON,
        option("--starts", number),
        st.just(["--no-minos"]),
        st.just(["--all"]),
    ),
    line(
        f"infer {QUICK}",
        [st.one_of(model, place)],
        FIXED,
        CHOSEN,
        ENGINE,
        SEED,
        JSON,
        OUT,
        OVERWRITE,
        st.just(["--resume"]),
        *COUNTS,
    ),
    line("show", [result], JSON),
    line("evidence", [result, result], JSON),
    line(
        "export",
        [
            result,
            mostly(st.sampled_from(["--format=getdist", "--format=csv"]), st.sampled_from(["--format=arviz", "-v"])),
        ],
        OUT,
        OVERWRITE,
    ),
    line("report", [st.sampled_from(["simulated.nc", "cut.nc", "nowhere", "tiny.py", "."])], OUT),
    st.lists(st.one_of(rubbish, st.sampled_from(["fit", "--help", "--version", "shw", "--debug"])), max_size=4),
)


class Slow(BaseException):
    """Not an Exception: the command line must not take it for one of its own."""


def run_here(arguments: list[str]) -> tuple[int, str, str]:
    """The exit code and both streams of a command line, in this process."""

    def stop(*_: object) -> None:
        raise Slow(arguments)

    streams, before = (io.StringIO(), io.StringIO()), signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
            code = command_line._run(arguments)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        signal.signal(signal.SIGPROF, before)
    return code, streams[0].getvalue(), streams[1].getvalue()


def check(arguments: list[str], code: int, said: str) -> None:
    assert code in CODES, (arguments, code, said)
    assert "internal error" not in said and ("--debug" in arguments or "Traceback" not in said), (arguments, said)
    if code in (2, 3) and arguments[:1] != ["check"]:
        messages = [each for each in said.splitlines() if each.lower().startswith("error: ")]
        assert len(messages) == 1 or "Usage: " in said, (arguments, said)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """A folder with good and bad models and results; `nuppl` works in a fresh copy."""
    folder = tmp_path_factory.mktemp("properties")
    for file, text in FILES.items():
        (folder / file).write_text(text)
    before = Path.cwd()
    os.chdir(folder)
    quick = ["--engine", "importance", "--chains", "2", "--draws", "12", "--proposals", "40"]
    assert run_here(["infer", "tiny.py", *quick, "--out", "run"])[0] in (0, 4)
    assert run_here(["simulate", "tiny.py", "-n", "3", "--out", "simulated.nc"])[0] == 0
    shutil.copyfile("run/posterior.nc", "good.nc")
    Path("cut.nc").write_bytes(Path("good.nc").read_bytes()[:50_000])
    yield folder
    os.chdir(before)


@pytest.fixture(scope="module")
def fresh(bench, tmp_path_factory):
    """Enter a copy of that folder that no earlier case has touched."""
    place = tmp_path_factory.mktemp("here")

    def files(folder: Path) -> set[tuple[str, int, int]]:
        # Of folders only the names: their times tell of what was made and removed in between.
        found = ((file, file.lstat()) for file in folder.rglob("*"))
        return {
            (str(file.relative_to(folder)), *((0, 0) if file.is_dir() else (known.st_size, known.st_mtime_ns)))
            for file, known in found
        }

    def enter() -> Path:
        if files(place) != files(bench):
            os.chdir(bench)
            shutil.rmtree(place)
            shutil.copytree(bench, place)
        os.chdir(place)
        return place

    return enter


SAME = {"derandomize": True, "database": None, "deadline": None, "suppress_health_check": list(HealthCheck)}


@settings(max_examples=1000, **SAME)
@given(arguments=lines)
def test_a_thousand_command_lines_in_this_process(fresh, arguments):
    fresh()
    code, _, said = run_here(arguments)
    check(arguments, code, said)


@settings(max_examples=30, **SAME)
@given(arguments=lines)
def test_thirty_command_lines_as_processes(fresh, arguments):
    started = time.monotonic()
    command = [sys.executable, "-W", "ignore", "-c", "from nuppl.cli.main import main; main()", *arguments]
    done = subprocess.run(command, cwd=fresh(), capture_output=True, timeout=120, check=False)
    assert time.monotonic() - started < 120
    check(arguments, done.returncode, done.stderr.decode(errors="replace"))
