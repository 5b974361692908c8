"""What the C library keeps of freed memory."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from nuppl.language.memory import keep_freed_memory

FAULTS = """
import resource, sys, torch
from nuppl.language.memory import keep_freed_memory
kept = sys.argv[1] == "keep" and keep_freed_memory()
def work():
    parts = [torch.ones(500_000) for _ in range(20)]
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    work()
print(int(kept), resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(asked: str, **environment: str) -> tuple[bool, int]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    run = subprocess.run(
        [sys.executable, "-c", FAULTS, asked], capture_output=True, text=True, check=True, env=plain | environment
    )
    kept, count = run.stdout.split()
    return kept == "1", int(count)


@pytest.mark.skipif(sys.platform != "linux", reason="an option of glibc")
def test_memory_that_is_used_again_is_not_given_back():
    kept, count = faults("keep")
    assert kept
    assert count < 0.1 * faults("leave")[1]


def test_what_the_user_decided_stays():
    assert faults("keep", MALLOC_TRIM_THRESHOLD_="131072")[0] is False


def test_it_is_done_once():
    assert keep_freed_memory() == keep_freed_memory()
