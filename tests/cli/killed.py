"""Runs the command line again and again in children that are killed; imports once, so that kills hit the work.

python killed.py SEED KILLS REPORT ARGUMENT...    in an empty folder; prints how far each life came

REPORT is `whole`, or `brief` for a line instead of pictures, which take longer than a short run: kills then hit the
engine.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time

# All that a run imports, before it is forked.
import arviz  # noqa: F401
import torch

import nuppl.cli.infer
import nuppl.cli.running
import nuppl.optimize.impacts
import nuppl.results.schema  # noqa: F401
from nuppl.cli.main import _run
from nuppl.inference.registry import ENGINES, engine
from nuppl.report import page


def life(arguments: list[str], seconds: float) -> int | None:
    """The exit code of a child, or None if it was killed."""
    child = os.fork()
    if child == 0:
        os._exit(_run(arguments))
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def main() -> None:
    torch.set_num_threads(1)
    for name in ENGINES:
        engine(name)
    seed, kills, report, *arguments = sys.argv[1:]
    if report == "brief":
        page.render = lambda groups, path, *_: path.write_text("brief")
    started = time.monotonic()
    whole = life([*arguments, "--out", "whole"], 600.0)
    duration = time.monotonic() - started
    moments = random.Random(int(seed))
    codes = []
    for _ in range(int(kills)):
        codes.append(life([*arguments, "--out", "killed", "--resume"], moments.uniform(0.0, 0.35 * duration)))
        left = [name for _, _, files in os.walk("killed") for name in files if name.endswith(".partial")]
        assert not left, f"half-written files under the final name: {left}"
    last = life([*arguments, "--out", "killed", "--resume"], 600.0)
    print(f"{duration:.2f} s whole; codes {whole} {codes} {last}")
    sys.exit(0 if last == whole else 1)


if __name__ == "__main__":
    main()
