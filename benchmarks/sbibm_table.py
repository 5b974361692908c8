"""How near neural posteriors come to the true ones on the classical tasks, beside published figures.

    python benchmarks/sbibm_table.py --references sbibm-1.1.0-py2.py3-none-any.whl --cells cells/
    python benchmarks/sbibm_table.py --cells cells/ --print

For each task, number of simulations and estimator one network is trained, with the estimator's defaults, and asked for
the posterior of several observations; the classifier two-sample test tells its 10,000 draws from the reference draws.
0.5 is perfect. The published figures are means over ten observations, so a row is judged only when an estimator of ours
has all ten; their number stands in brackets, errors are bootstraps over them. Networks and figures are on file
as soon as they are there, and are not computed again.
"""

import argparse
import json
import os
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from sbibm_posterior import learn, parameters
from sbibm_reference import PUBLISHED, TASKS, observation, reference, task

from nuppl.language.precision import double_precision
from nuppl.learning.simulated import simulated
from nuppl.neural.c2st import c2st

ESTIMATORS = ("npe", "fmpe", "npse", "nle", "nre")
BOOTSTRAPS = 10_000
SEED = 0
OBSERVATIONS = 10
ROUNDS = (1, 3, OBSERVATIONS)
"""Every cell gets its first observation before any gets its second."""


def main():
    """Fill the table, or print what there is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    wheel = os.environ.get("NUPPL_SBIBM")
    parser.add_argument("--references", default=wheel, help="the wheel of sbibm; NUPPL_SBIBM by default")
    parser.add_argument("--cells", type=Path, required=True, help="folder of the cells")
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--simulations", default="10000,1000")
    parser.add_argument("--estimators", default=",".join(ESTIMATORS))
    parser.add_argument("--observations", type=int, default=OBSERVATIONS, help="1 to this number")
    parser.add_argument("--print", action="store_true", help="the table, as Markdown")
    chosen = parser.parse_args()
    if chosen.print:
        print(table(chosen.cells))
        return
    if not chosen.references:
        parser.error("--references: expected the wheel that `pip download --no-deps sbibm` gives")
    torch.set_num_threads(1)
    for most in sorted({min(most, chosen.observations) for most in ROUNDS}):
        for simulations in map(int, chosen.simulations.split(",")):
            for name in chosen.tasks.split(","):
                for estimator in chosen.estimators.split(","):
                    Cell(chosen.cells, name, simulations, estimator).fill(chosen.references, most)


@dataclass
class Cell:
    """One network and what it reached, on file."""

    folder: Path
    task: str
    simulations: int
    estimator: str

    @property
    def path(self):
        """Of the numbers; the network lies beside them."""
        return self.folder / f"{self.task}-{self.simulations}-{self.estimator}.json"

    def read(self):
        """The numbers."""
        return json.loads(self.path.read_text()) if self.path.is_file() else {"c2st": [], "draw_seconds": []}

    def fill(self, wheel, most):
        """Compute what is missing up to an observation."""
        kept = self.read()
        for number in range(len(kept["c2st"]) + 1, most + 1):
            draws, seconds = self._draws(wheel, number)
            kept["draw_seconds"].append(seconds)
            kept["c2st"].append(round(float(c2st(reference(wheel, self.task, number), draws)), 4))
            kept.update(self._learned.said)
            self.path.with_suffix(".part").write_text(json.dumps(kept, indent=1))
            self.path.with_suffix(".part").replace(self.path)
            print(self.path.stem, kept, flush=True)

    def _draws(self, wheel, number):
        model = task(self.task)
        data = observation(wheel, self.task, number).reshape(model.bind().data_sites["x"].shape)
        program, learned, start = model.bind(data={"x": data}), self._learned, time.monotonic()
        return parameters(program, learned.u(program, number)), round(time.monotonic() - start, 1)

    @cached_property
    def _learned(self):
        path = self.path.with_suffix(".pt")
        if not path.is_file():
            self.folder.mkdir(parents=True, exist_ok=True)
            program = task(self.task).bind()
            with double_precision():
                sims = simulated(program, self.simulations, SEED)
            found = learn(program, self.estimator, sims, SEED)
            torch.save(found, path.with_suffix(".part"))
            path.with_suffix(".part").replace(path)
        return torch.load(path, weights_only=False)


def table(folder):
    """The cells as Markdown: means and bootstrap errors over observations."""
    lines = [
        "| task | simulations | " + " | ".join(ESTIMATORS) + " | best of ours | published NPE / NLE / NRE | |",
        "|---" * (len(ESTIMATORS) + 5) + "|",
    ]
    for name in TASKS:
        for simulations, published in PUBLISHED[name].items():
            lines.append(_row(folder, name, simulations, published))
    return "\n".join(line for line in lines if line)


def _row(folder, name, simulations, published):
    found = {}
    for estimator in ESTIMATORS:
        values = Cell(folder, name, simulations, estimator).read()["c2st"]
        if values:
            found[estimator] = values
    if not found:
        return ""
    most = max(map(len, found.values()))
    best = min(_mean(values)[0] for values in found.values() if len(values) == most)
    cells = [_entry(found.get(estimator)) for estimator in ESTIMATORS]
    theirs = " / ".join(f"{value:.3f}" for value in published)
    # Observations differ by more than estimators do: fewer than the published ten decide nothing.
    verdict = "at or below" if round(best, 3) <= min(published) else "above"
    verdict = verdict if most == OBSERVATIONS else f"open: {most} of {OBSERVATIONS}"
    return f"| {name} | {simulations} | {' | '.join(cells)} | {best:.3f} | {theirs} | {verdict} |"


def _entry(values):
    if not values:
        return ""
    mean, error = _mean(values)
    spread = f" ± {error:.3f}" if len(values) > 1 else ""
    return f"{mean:.3f}{spread} ({len(values)})"


def _mean(values):
    """The mean over observations, and its error by the bootstrap."""
    values = torch.tensor(values, dtype=torch.float64)
    picks = torch.randint(len(values), (BOOTSTRAPS, len(values)), generator=torch.Generator().manual_seed(1))
    return float(values.mean()), float(values[picks].mean(1).std())


if __name__ == "__main__":
    main()
