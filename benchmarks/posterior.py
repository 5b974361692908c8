"""Effective draws per second of NumPyro's NUTS, Pyro's NUTS and nuppl's engines on two posteriors, in one run.

    python benchmarks/posterior.py                    # writes benchmarks/posterior.md
    python benchmarks/posterior.py --quick            # two runs each on near_far; prints
    python benchmarks/posterior.py --case reactor     # one posterior anew, the others as they were last

Needs the extra `peers`. Who runs how is in posterior_cases.py. The first run also makes the references, which stay in
benchmarks/runs, as the sections of the page do.
"""

from __future__ import annotations

import argparse
import hashlib
import platform
from pathlib import Path

import jax
import numpy as np
import numpyro
import posterior_engines as engines
import posterior_numpyro as peer
import torch
from jax_density import Binned
from numpy.typing import NDArray
from posterior_cases import CASES, Case
from posterior_effective import Series, columns, flat, score
from posterior_table import HEADER, Row, best, ratio

from nuppl.language.loading import load_model
from nuppl.language.program import Program

HERE = Path(__file__).parent
CACHE = HERE / "runs"
DEFINITIONS = """\
Effective draws (ESS) of a run: chains x posterior variance / variance of independent chains' or islands' means, over
runs with other seeds, with the variance of a long reference run. Over many parameters their minimum is biased low, so
it is taken over the same number of chains for every sampler; the harmonic mean is not biased. Same density: the sampler
sees nuppl's whitened log density and nothing else (its JAX twin agrees to 1e-8). End to end: NumPyro sees the program
as its user would write it, nuppl may use its structure. Seconds hold compilation, adaptation and warm-up. Distance: of
the mean over all runs from the reference."""


def reference(name: str, case: Case, model: Binned) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each parameter with shape (D,), made once."""
    written = (HERE.parent / case.file).read_bytes() + repr(case.reference).encode()
    kept = CACHE / f"{name}-{hashlib.sha256(written).hexdigest()[:12]}.npz"
    if not kept.exists():
        if isinstance(case.reference, engines.Entry):
            found = engines.draw(load_model(str(HERE.parent / case.file))[0].bind(), case.reference)
        else:
            found = peer.draw(model, case.reference, seed=7_000)[0]
        values = flat(found)
        kept.parent.mkdir(exist_ok=True)
        np.savez(kept, mean=values.mean((0, 1)), deviation=values.std((0, 1)))
    moments = np.load(kept)
    return moments["mean"], moments["deviation"]


def measure(name: str, case: Case, quick: bool) -> tuple[list[Row], Program]:
    """All samplers on one posterior."""
    chosen, _ = load_model(str(HERE.parent / case.file))
    program, model = chosen.bind(), case.twin()
    moments = reference(name, case, model)
    interest = columns(
        {site: np.zeros((1, 1, *prior.batch_shape)) for site, prior in model.priors.items()}, chosen.interest
    )
    theirs, ours = (2, 2) if quick else case.runs
    group = theirs * min(choice.chains for choice in case.peers)
    rows: list[Row] = []

    def add(sampler: str, ours: bool, structure: bool, settings: str, series: Series) -> None:
        kind = "end to end" if structure else "same density"
        rows.append(Row(sampler, ours, kind, settings, series, score(series, *moments, interest, group)))
        print(rows[-1], flush=True)

    for choice in case.peers:
        add("NumPyro NUTS", False, choice.own, choice.label, peer.repeat(model, choice, theirs))
    for entry in engines.known(case.entries):
        series = engines.repeat(program, entry, ours)
        add(f"nuppl {entry.engine}", True, entry.structure, entry.label, series)
    return rows, program


def pyro(program: Program, case: Case, rows: list[Row]) -> list[str]:
    """What Pyro's NUTS can reach at most, by its gradients and NumPyro's effective draws per gradient; what it does."""
    like = next(row for row in rows if row.kind == "same density" and "diagonal" in row.settings)
    cost, leapfrogs = engines.seconds_per_gradient(program), like.series.leapfrogs
    bound = like.score.least / (like.series.chains * like.series.draws * leapfrogs * cost)
    fastest = best(rows, True, ("same density",))
    times = f", {fastest.rate / bound:,.0f} times less than {fastest.sampler}" if fastest else ""
    said = [
        f"Pyro NUTS, same density, bound: {1e3 * cost:.1f} ms per gradient; with NumPyro's {leapfrogs:.0f} leapfrogs "
        f"per draw and effective draws per leapfrog, warm-up free, at most {bound:.3g} effective per second{times}."
    ]
    seconds = engines.seconds_of_chains(str(HERE.parent / case.file), case.pyro)
    kept = case.pyro.chains * case.pyro.draws
    rate = kept / seconds * like.score.least / (like.series.chains * like.series.draws)
    times = f", **{fastest.rate / rate:,.0f}** times less than {fastest.sampler}" if fastest else ""
    said.append(
        f"Pyro NUTS, same density, measured: {case.pyro.chains} chains side by side, {case.pyro.warmup} + "
        f"{case.pyro.draws} iterations each, in {seconds:.0f} s; with NumPyro's effective draws per draw, "
        f"{rate:.3g} per second{times}."
    )
    return said


def section(name: str, quick: bool) -> list[str]:
    """The part of the page on one posterior."""
    case = CASES[name]
    rows, program = measure(name, case, quick)
    same = ("same density",)
    said = [
        *ratio("Same density", best(rows, True, same), best(rows, False, same)),
        *ratio("End to end", best(rows, True, ("same density", "end to end")), best(rows, False, ("end to end",))),
        *pyro(program, case, rows),
    ]
    return [f"## {case.file}", "", HEADER, *map(str, rows), "", *(f"- {sentence}" for sentence in said), ""]


def main() -> None:
    """Measure, print and write the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="two runs each on near_far; writes nothing")
    parser.add_argument("--case", choices=CASES, help="one posterior anew")
    asked = parser.parse_args()
    names = [asked.case or "near_far"] if asked.case or asked.quick else list(CASES)
    made = (
        f"Made by `python benchmarks/posterior.py`; torch {torch.__version__}, {torch.get_num_threads()} threads, "
        f"NumPyro {numpyro.__version__}, JAX {jax.__version__}, {platform.machine()}."
    )
    for name in names:
        text = "\n".join(section(name, asked.quick))
        print(text)
        if not asked.quick:
            (CACHE / f"posterior-{name}.md").write_text(text)
    if not asked.quick:
        parts = [CACHE / f"posterior-{name}.md" for name in CASES]
        kept = [part.read_text() for part in parts if part.exists()]
        (HERE / "posterior.md").write_text(
            "\n".join(["# Effective draws per second", "", made, "", DEFINITIONS, "", *kept])
        )


if __name__ == "__main__":
    main()
