"""Fits of pseudo-experiments per second on one core: nuppl's batch, and iminuit in a loop, in one run.

    python benchmarks/toys.py        # writes benchmarks/toys.md

Four bins, two parameters with bounds, Poisson counts. iminuit sees the same function and its gradient as plain numpy,
the fastest that a user would write; it starts where nuppl does. Minima are compared toy by toy.
"""

from __future__ import annotations

import platform
import time
from pathlib import Path

import iminuit
import numpy as np
import pyro.distributions as dist
import torch

import nuppl
from nuppl.language.density import Natural
from nuppl.language.precision import double_precision
from nuppl.language.simulation import toys
from nuppl.optimize.batch import fit_lanes
from nuppl.optimize.lanes import Likelihoods

TOYS, LOOP, REPEATS = 100_000, 2_000, 5
SIGNAL = torch.tensor([3.0, 8.0, 6.0, 2.0], dtype=torch.float64)
BACKGROUND = torch.tensor([50.0, 30.0, 20.0, 10.0], dtype=torch.float64)
BOUNDS = ((0.0, 5.0), (0.2, 3.0))


@nuppl.model(interest="strength")
def four_bins() -> None:
    """A signal of known shape over a background of known shape, both with free strength."""
    strength = nuppl.parameter("strength", dist.Uniform(*BOUNDS[0]), nominal=1.0)
    background = nuppl.parameter("background", dist.Uniform(*BOUNDS[1]), nominal=1.0)
    with nuppl.plate("bin", 4, dim=-1):
        nuppl.observe("counts", dist.Poisson(strength * SIGNAL + background * BACKGROUND), SIGNAL + BACKGROUND)


def migrad(counts: np.ndarray) -> float:
    """Minus log likelihood at iminuit's minimum, without the factorials."""
    s, b = SIGNAL.numpy(), BACKGROUND.numpy()

    def value(x: np.ndarray) -> float:
        rate = x[0] * s + x[1] * b
        return float((rate - counts * np.log(rate)).sum())

    def gradient(x: np.ndarray) -> np.ndarray:
        share = 1.0 - counts / (x[0] * s + x[1] * b)
        return np.array([share @ s, share @ b])

    fit = iminuit.Minuit(value, np.array([1.0, 1.0]), grad=gradient)
    fit.errordef, fit.limits = 0.5, BOUNDS
    fit.migrad()
    return float(fit.fval)


@double_precision()
def main() -> None:
    """Measure, print and write the table."""
    torch.set_num_threads(1)
    program = four_bins.bind()
    natural = Natural(program)
    drawn = toys(program, TOYS, seed=1, at=program.nominal(), tile=4096)
    likelihoods = Likelihoods(natural, drawn.data, drawn.centers)
    ours, times = None, []
    for _ in range(REPEATS):
        started = time.perf_counter()
        ours = fit_lanes(likelihoods, torch.zeros(TOYS, natural.dim))
        times.append(time.perf_counter() - started)
    assert ours is not None
    counts = drawn.data["counts"][:LOOP]
    started = time.perf_counter()
    theirs = torch.tensor([migrad(row.numpy()) for row in counts])
    loop = time.perf_counter() - started
    factorials = (counts + 1.0).lgamma().sum(1)
    higher = ours.value[:LOOP] - factorials - theirs
    rate, peer = TOYS / min(times), LOOP / loop
    text = "\n".join(
        [
            "# Toy fits per second",
            "",
            f"Made by `python benchmarks/toys.py`; torch {torch.__version__}, 1 thread, iminuit {iminuit.__version__}, "
            f"{platform.machine()}. Four bins, two parameters.",
            "",
            "| what | fits per second | ratio |",
            "|---|---:|---:|",
            f"| nuppl, {TOYS:,} toys in a batch, best of {REPEATS} | {rate:,.0f} | {rate / peer:.0f} |",
            f"| iminuit in a loop, {LOOP:,} of them | {peer:,.0f} | 1 |",
            "",
            f"Of nuppl's fits {int((~ours.converged).sum())} failed. Minus log likelihood at its minima is above "
            f"iminuit's by {float(higher.max()):.1e} at most, below by {float(-higher.min()):.1e}.",
            "",
        ]
    )
    print(text)
    (Path(__file__).parent / "toys.md").write_text(text)


if __name__ == "__main__":
    main()
