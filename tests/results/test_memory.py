"""Memory stays flat with the number of draws: whole processes, torch, Pyro, ArviZ and matplotlib included."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).with_name("memory_run.py")
DRAWS = (200_000, 1_000_000)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folders = [tmp_path_factory.mktemp(f"draws_{n}") for n in DRAWS]
    started = [
        subprocess.Popen([sys.executable, str(RUN), str(n), str(folder)], stdout=subprocess.PIPE, text=True)
        for n, folder in zip(DRAWS, folders, strict=True)
    ]
    said = [process.communicate(timeout=600)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0]
    return list(zip((json.loads(text) for text in said), folders, strict=True))


def test_a_million_draws_of_twenty_parameters_fit_in_a_gigabyte(runs):
    few, many = (said for said, _ in runs)
    assert many["numbers"] == 20 and many["trusted"]
    assert many["peak"] < 1000.0
    # In memory, four times more draws would be 134 MB more, and every copy as many again.
    assert many["peak"] - few["peak"] < 100.0


def test_every_draw_reaches_the_file(runs):
    for n, (_, folder) in zip(DRAWS, runs, strict=True):
        assert (folder / "posterior.nc").stat().st_size > n * 21 * 8
        assert (folder / "report.html").stat().st_size > 10_000
