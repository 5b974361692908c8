"""A profile of the sterile-neutrino model over 100 x 100 points: nuppl's scan, and MIGRAD at a sample of its points.

    python benchmarks/scan.py        # writes benchmarks/scan.md

Daya Bay with a fourth neutrino and all its systematics, 1080 latents, two of them scanned, 1078 fitted at every point.
MIGRAD minimises the same function with the same gradients, from the best fit's nuisances, as a loop over points would.
Points are drawn at random from the whole grid and from what nuppl does not exclude at 5 standard deviations.
"""

from __future__ import annotations

import argparse
import platform
import time
from pathlib import Path

import iminuit
import numpy as np
import torch
from iminuit import Minuit

from nuppl.frequentist.grid import Grid
from nuppl.frequentist.profile import STATUS, Profile, profile
from nuppl.language.loading import load_model
from nuppl.language.precision import double_precision
from nuppl.optimize.objective import natural_objective

ROOT = Path(__file__).parents[1]
OVER = ["sin2_2theta14=1e-3:1", "dm2_41"]
FAR = 28.7
"""t of 5 standard deviations in two parameters."""
CALLS = 100_000
"""Of the function, after which MIGRAD gives up."""


def sample(found: Profile, size: int, seed: int) -> list[int]:
    """Points of the grid: half from anywhere, half from where t is small."""
    generator = torch.Generator().manual_seed(seed)
    near = (found.statistic < FAR).nonzero()[:, 0]
    anywhere = torch.randint(found.grid.size, (size - size // 2,), generator=generator)
    close = near[torch.randint(len(near), (size // 2,), generator=generator)]
    return [*anywhere.tolist(), *close.tolist()]


def migrad_at(found: Profile, point: int) -> tuple[float, bool, float]:
    """Minus log likelihood where MIGRAD ends, whether it says that it converged, and its processor time in seconds.

    With its fastest strategy: the default one asks for the Hessian by half a million calls.
    """
    start = found.best.point[0].clone()
    start[found.columns] = found.minima.point[point, found.columns]
    free, whole = (~found.held).nonzero()[:, 0], natural_objective(found.likelihoods.natural)

    def full(x: np.ndarray) -> torch.Tensor:
        return start.index_copy(0, free, torch.as_tensor(x))

    started = time.process_time()
    fit = Minuit(
        lambda x: float(whole.values(full(x)[None])[0]),
        start[free].numpy(),
        grad=lambda x: whole.gradient(full(x))[1][free].numpy(),
    )
    fit.errordef, fit.strategy, fit.errors = Minuit.LIKELIHOOD, 0, np.full(len(free), 0.3)
    fit.limits = list(zip(whole.lower[free].tolist(), whole.upper[free].tolist(), strict=True))
    fit.migrad(ncall=CALLS)
    return float(fit.fval), bool(fit.valid), time.process_time() - started


@double_precision()
def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--grid", type=int, nargs=2, default=(100, 100))
    parser.add_argument("--sample", type=int, default=10)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    program = load_model(str(ROOT / "models/reactor_sterile.py"))[0].bind({"mixing_prior": "log"})
    started = time.process_time()
    progress = lambda done, total, what: print(f"\r{done} of {total} {what}   ", end="", flush=True)  # noqa: E731
    found = profile(program, Grid.over(program, OVER, asked.grid), progress=progress)
    ours = (time.process_time() - started) / found.grid.size
    rows, times = [], []
    for point in sample(found, asked.sample, seed=1):
        value, converged, seconds = migrad_at(found, point)
        mine = float(found.minima.value[point])
        times.append(seconds)
        where = ", ".join(f"{float(x):.4g}" for x in found.grid.points[point])
        said = "" if converged else "says it failed"
        rows.append(
            f"| {where} | {float(found.statistic[point]):.2f} | {2 * (mine - value):+.4f} | {seconds:.0f} | {said} |"
        )
        print(rows[-1], flush=True)
    peer = sum(times) / len(times)
    counts = found.status.bincount(minlength=3).tolist()
    shape = " x ".join(map(str, asked.grid))
    text = "\n".join(
        [
            "# A profile with all systematics",
            "",
            f"Made by `python benchmarks/scan.py`; torch {torch.__version__}, 1 thread, iminuit {iminuit.__version__}, "
            f"{platform.machine()}. `models/reactor_sterile.py`, {shape} points, 1078 nuisances; processor time.",
            "",
            "| what | seconds per point | ratio |",
            "|---|---:|---:|",
            f"| nuppl, the whole grid in {ours * found.grid.size:.0f} s | {ours:.3f} | {peer / ours:.0f} |",
            f"| MIGRAD, mean of {len(times)} points | {peer:.1f} | 1 |",
            "",
            "Status of nuppl's fits: " + ", ".join(f"{n} {what}" for n, what in zip(counts, STATUS, strict=True)) + ".",
            "",
            "| sin2_2theta14, dm2_41 (eV^2) | t | nuppl's 2NLL minus MIGRAD's | MIGRAD (s) | |",
            "|---|---:|---:|---:|---|",
            *rows,
            "",
        ]
    )
    print(text)
    (Path(__file__).parent / "scan.md").write_text(text)


if __name__ == "__main__":
    main()
