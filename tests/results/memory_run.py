"""Run by test_memory.py in a process of its own: from draws to the report, and the most memory that took, as JSON.

python memory_run.py DRAWS FOLDER
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pyro.distributions as dist
import torch

import nuppl
from nuppl.diagnostics.verdict import judge
from nuppl.report.page import render
from nuppl.results.draws import Draws
from nuppl.results.schema import inferred
from nuppl.results.spool import Spool
from nuppl.results.storage import save
from nuppl.results.summary import summarize_result

CHAINS, BLOCK, BINS = 16, 500, 20


@nuppl.model(interest=("slope", "offset"))
def line():
    """A line through twenty points, a pull of each point and two pulls more: twenty parameters."""
    slope = nuppl.parameter("slope", dist.Normal(0.0, 10.0))
    offset = nuppl.parameter("offset", dist.Normal(0.0, 10.0))
    scale, tilt = nuppl.pull("scale"), nuppl.pull("tilt")
    with nuppl.plate("knot", BINS - 4, dim=-2):
        knots = nuppl.pull("knots")
    x = torch.linspace(-1.0, 1.0, BINS, dtype=torch.float64)
    shape = torch.cos(torch.arange(BINS - 4, dtype=torch.float64)[:, None] * x)
    bent = (knots * shape).sum(-2, keepdim=True) if knots.dim() else 0.0
    with nuppl.plate("point", x.tolist(), dim=-1):
        nuppl.observe("y", dist.Normal(offset + slope * x + 0.01 * (scale + tilt * x + bent), 0.3), 0.5 * x)


def spooled(n: int) -> Draws:
    """Draws as an engine would append them, of a Gaussian near the posterior."""
    generator = torch.Generator().manual_seed(1)
    spool = Spool(CHAINS, n)
    for at in range(0, n, BLOCK):
        size = min(BLOCK, n - at)
        u = torch.randn(CHAINS, size, BINS, generator=generator, dtype=torch.float64)
        values = {"slope": 0.5 + 0.11 * u[..., 0], "offset": 0.07 * u[..., 1]}
        values |= {"scale": u[..., 2], "tilt": u[..., 3], "knots": u[..., 4:]}
        spool.append(values, {"lp": -0.5 * u.square().sum(-1)})
    return Draws(spool.values(), spool.stats(), {"islands": CHAINS, "failures": 0}, "smc")


def peak() -> float:
    """The most memory that this process has held, in MB; unlike ru_maxrss it does not begin with the parent's."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


def main(draws: int, folder: Path) -> dict[str, float]:
    """Every step that `nuppl infer` takes after its engine."""
    program, steps, started = line.bind(), {}, time.monotonic()

    def done(name: str) -> None:
        steps[name], steps[f"{name}_seconds"] = peak(), time.monotonic() - started

    done("start")
    drawn = spooled(draws // CHAINS)
    done("spool")
    groups = inferred(program, drawn, seed=3)
    done("inferred")
    save(groups, folder / "posterior.nc")
    done("save")
    rows = summarize_result(groups)
    done("summary")
    verdict = judge(groups, rows)
    render(groups, folder / "report.html", "", verdict, rows)
    done("peak")
    return {**steps, "numbers": len(rows), "trusted": verdict.trusted}


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]), Path(sys.argv[2]))))
