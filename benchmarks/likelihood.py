"""Cost of one log density and one gradient of the Daya Bay model, beside the official model's chi2, in one run.

    python benchmarks/likelihood.py            # writes benchmarks/likelihood.md

The official model needs the extra `peers`; without it its row says so. Times are the median of repeated calls.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from nuppl.language.density import Whitened
from nuppl.language.loading import load_model
from nuppl.language.precision import double_precision

HERE = Path(__file__).parent
BATCHES = (1, 32, 1024)


def median_seconds(call: Callable[[], object], least: float = 2.0) -> float:
    """The median over at least three calls and `least` seconds, after one call that is not counted."""
    call()
    times: list[float] = []
    while len(times) < 3 or sum(times) < least:
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


@double_precision()
def ours(file: str) -> list[tuple[str, float]]:
    """(row, seconds per point) of one model file."""
    whitened = Whitened(load_model(str(HERE.parent / "models" / file))[0].bind())
    rows = []
    for batch in BATCHES:
        u = 0.1 * torch.randn(batch, whitened.dim, generator=torch.Generator().manual_seed(1))

        def density(u: torch.Tensor = u) -> None:
            with torch.no_grad():
                whitened.log_prob(u)

        def gradient(u: torch.Tensor = u) -> None:
            leaf = u.clone().requires_grad_()
            whitened.log_prob(leaf).sum().backward()

        for name, call in (("log density", density), ("gradient", gradient)):
            rows.append((f"{file}, {name}, batch {batch}", median_seconds(call) / batch))
    return rows


def official() -> list[tuple[str, float]] | None:
    """The official model's chi2 after one parameter moved, or None where it is not installed."""
    try:
        from dayabay_model.model_dayabay import model_dayabay
    except ImportError:
        return None
    model = model_dayabay(concatenation_mode="detector")
    parameter = model.storage["parameters.free.survival_probability.DeltaMSq32"]
    statistic = model.storage["outputs.statistic.full.pull.chi2cnp"]
    start, moves = parameter.value, 0

    def move() -> None:
        nonlocal moves
        moves += 1
        parameter.value = start * (1.0 + 1e-6 * moves)
        float(statistic.data[0])

    return [("official model, chi2 after one parameter moved", median_seconds(move, 5.0))]


def main() -> None:
    """Measure, print and write the table."""
    # The official model comes last: its libraries, once loaded, slow ours down.
    rows = [*ours("reactor.py"), *ours("reactor_sterile.py")]
    peer = official()
    rows += peer or []
    reference = peer[0][1] if peer else float("nan")
    lines = [
        "# Cost of a likelihood",
        "",
        f"Made by `python benchmarks/likelihood.py`; torch {torch.__version__}, {torch.get_num_threads()} threads, "
        f"{platform.machine()}. Times per point; the ratio is to the official model's chi2 in the same run"
        + ("." if peer else ", which was not installed."),
        "",
        "| what | µs per point | official / ours |",
        "|---|---:|---:|",
        *(f"| {name} | {1e6 * seconds:,.1f} | {reference / seconds:,.0f} |" for name, seconds in rows),
        "",
    ]
    (HERE / "likelihood.md").write_text("\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
