"""A Feldman-Cousins map of the sterile-neutrino model beside its credible region, as a user would make them.

    python benchmarks/feldman_cousins.py       # writes benchmarks/feldman_cousins.md and feldman_cousins.png

Daya Bay with a fourth neutrino and all its systematics: 40 x 40 points, up to 1000 toys each, two processes. Runs stay
in benchmarks/runs/feldman_cousins; an interrupted one goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import xarray as xr

from nuppl.cli.reading import reading
from nuppl.report.compare import compare
from nuppl.results.scan_more import checked_of

HERE = Path(__file__).parent
RUNS = HERE / "runs/feldman_cousins"
MODEL = (str(HERE.parent / "models/reactor_sterile.py"), "--option", "mixing_prior=log")
LEVELS = (0.6827, 0.90, 0.95)


def run(name: str, *arguments: str) -> tuple[Path, float]:
    """The folder of a finished run, made now unless it is there, and the seconds that all its parts took."""
    place, kept = RUNS / name, RUNS / f"{name}.json"
    RUNS.mkdir(parents=True, exist_ok=True)
    spent = json.loads(kept.read_text()) if kept.exists() else 0.0
    resume = ["--resume"] if (RUNS / f"{name}.partial").exists() or place.exists() else []
    started = time.perf_counter()
    code = subprocess.run(["nuppl", *arguments, "--out", str(place), *resume]).returncode
    if not resume or not kept.exists() or (RUNS / f"{name}.partial").exists():
        spent += time.perf_counter() - started
        kept.write_text(json.dumps(spent))
    if code not in (0, 4):
        sys.exit(code)
    return place, spent


def table(scan: xr.Dataset, seconds: float, shape: str) -> list[str]:
    """What the scan cost, and how full fits of a sample of its toys compare."""
    toys, said = scan["toys"], checked_of(scan) or {}
    rows = [
        ("grid", shape),
        ("toys", f"{int(toys.sum()):,}, {int(toys.min()):,} to {int(toys.max()):,} a point"),
        ("wall time, two processes", f"{seconds / 60:.1f} min"),
        ("failed profile fits", f"{int((scan['status'] == 2).sum())} of {scan['status'].size}"),
        ("toys fitted in full", f"{said['toys']}, of which {said['failed']} failed"),
        ("t by products less t in full", f"mean {said['mean']:+.2f}, rms {said['rms']:.2f}"),
    ]
    for level, (linear, full, error) in said["above"].items():
        shares = f"{linear:.3f} by products, {full:.3f} ± {error:.3f} in full"
        rows.append((f"beyond the {100 * float(level):g} % value", shares))
    return ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--grid", default="40x40")
    parser.add_argument("--toys", default="1000")
    asked = parser.parse_args()
    over = ("--over", "sin2_2theta14=1e-3:1,dm2_41", "--grid", asked.grid, "--levels", ",".join(map(str, LEVELS)))
    toys = ("--toys", asked.toys, "--fits", "linear", "--check", "200", "--workers", "2")
    scanned, seconds = run("scan", "scan", *MODEL, *over, *toys)
    posterior, _ = run("posterior", "infer", *MODEL, "--engine", "importance")
    with ExitStack() as opened:
        groups = {place.name: opened.enter_context(reading(place))[1] for place in (posterior, scanned)}
        found = compare(list(groups.items()))
        rows = table(groups["scan"]["scan"], seconds, asked.grid)
    (HERE / "feldman_cousins.png").write_bytes(found.pictures["regions"][0].encoded("png"))
    lines = [
        "# A Feldman-Cousins map with all systematics",
        "",
        f"Made by `python benchmarks/feldman_cousins.py`; {platform.machine()}. `models/reactor_sterile.py`, 1078 "
        "nuisances, toys fitted by matrix products.",
        "",
        *rows,
        "",
        "![credible and confidence regions](feldman_cousins.png)",
        "",
    ]
    print("\n".join(lines))
    (HERE / "feldman_cousins.md").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
