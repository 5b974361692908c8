"""Coverage of confidence regions: by toys at each point, learned from a fiftieth of these, and by Wilks' theorem.

    python benchmarks/coverage_study.py        # writes benchmarks/coverage.md and coverage.png

Ten thousand experiments at each of 100 points, thrown with other seeds than the toys. Everything stays in
benchmarks/runs/coverage, tile by tile: an interrupted study goes on where it was.
"""

from __future__ import annotations

import platform
import sys
from pathlib import Path
from typing import NamedTuple

import coverage_exact as exact
import torch
from coverage_toys import CASES, EXPERIMENTS, CoverageCase
from torch import Tensor

from nuppl.frequentist.critical import critical, wilks
from nuppl.frequentist.learned_scan import LANES, learned_grid, spread
from nuppl.frequentist.toys import TILE
from nuppl.report.canvas import BLUE, GREY, ORANGE, figure, style, tidy
from nuppl.results.checkpoints import Checkpoints

HERE = Path(__file__).parent
LEVELS = (0.6827, 0.90, 0.95)
FEWER, SEED = 50, 7
"""How many times fewer toys are learned from, and their seed."""
COLORS = {"toys": BLUE, "learned": ORANGE, "Wilks": GREY}


class Measured(NamedTuple):
    """Coverage of one model with some true pulls.

    Attributes:
        case, pulls: names.
        by: coverage with shape (L, G) for each kind of critical values.
        exact: summed over outcomes, of the toys' critical values; where known.
        own: the same with each experiment's own pulls; where known.
    """

    case: str
    pulls: str
    by: dict[str, Tensor]
    exact: Tensor | None
    own: Tensor | None


def told(done: int, total: int, what: str) -> None:
    """Progress, now and then."""
    if done == total or done % 10 == 0:
        print(f"{what}: {done} of {total}", file=sys.stderr, flush=True)


def measured(name: str) -> tuple[list[Measured], str]:
    """All true pulls of a case, and a line about its toys."""
    store = Checkpoints(HERE / "runs" / "coverage")
    case = CASES[name]
    built = CoverageCase.of(case)
    profile, thrown = built.profile, built.toys(store, name, told)
    few = case.tiles * TILE * profile.grid.size // FEWER // LANES * LANES
    own = Checkpoints(HERE / "runs" / "coverage" / f"{name}-learned")
    cells, statistic, failed = spread(built.thrower, few, SEED, own, told)
    learned = learned_grid(profile, cells, statistic, seed=SEED, store=own, progress=told)
    values = {"toys": critical(thrown.statistic, LEVELS).value, "learned": learned.critical(LEVELS).value}
    values["Wilks"] = wilks(LEVELS, len(profile.grid.axes))[:, None].repeat(1, profile.grid.size)
    found, lost = [], thrown.failed + int(failed.sum())
    for pulls, true in case.pulls.items():
        experiments = built.experiments(store, name, pulls, told)
        lost += experiments.failed
        by = {
            kind: torch.stack([(experiments.statistic <= row[:, None]).double().mean(1) for row in value])
            for kind, value in values.items()
        }
        sums = None, None
        if name == "counting":
            signals, shift = profile.grid.points[:, 0], true.get("background_shift", 0.0)
            sums = exact.coverage(signals, values["toys"], shift), exact.own_coverage(signals, LEVELS, shift)
        found.append(Measured(name, pulls, by, *sums))
    said = (
        f"| {name} | {', '.join(case.over)} | {case.tiles * TILE:,} per point, {thrown.statistic.numel():,} in all | "
        f"{len(cells):,} | {learned.learned.partition.leaves} | {lost} |"
    )
    return found, said


def row(one: Measured, kind: str, number: int) -> str:
    """A line of the table."""
    level, found = LEVELS[number], one.by[kind][number]
    deviation = found - level
    error = (level * (1.0 - level) / EXPERIMENTS) ** 0.5
    beyond = (deviation.abs() - 3.0 * error).amax()
    numbers = [100.0 * float(x) for x in (found.mean(), found.min(), found.max(), deviation.square().mean().sqrt())]
    cells = [f"{x:.2f}" for x in numbers] + [f"{100.0 * float(beyond):.2f}"]
    return f"| {one.case} | {one.pulls} | {100 * level:.4g} % | {kind} | {' | '.join(cells)} |"


def summed(one: Measured, number: int) -> str:
    """A line of the table of exact sums."""
    assert one.exact is not None and one.own is not None
    level, direct, own = LEVELS[number], one.exact[number], one.own[number]
    found = one.by["toys"][number]
    pull = (found - direct) / (direct * (1.0 - direct) / EXPERIMENTS).sqrt()
    cells = [
        f"{100 * float(direct.min()):.2f} to {100 * float(direct.max()):.2f}",
        f"{float(pull.square().mean().sqrt()):.2f}",
        f"{float(pull.abs().max()):.1f}",
        f"{100 * float(own.min()):.2f} to {100 * float(own.max()):.2f}",
    ]
    return f"| {one.pulls} | {100 * level:.4g} % | {' | '.join(cells)} |"


def drawn(found: list[Measured], path: Path) -> None:
    """Coverage against the number of the point, a panel for each model and set of pulls."""
    with style():
        sheet = figure(10.0, 2.1 * ((len(found) + 1) // 2))
        panels = sheet.subplots((len(found) + 1) // 2, 2, squeeze=False).reshape(-1)
        for panel in panels[len(found) :]:
            panel.set_visible(False)
        for one, panel in zip(found, panels, strict=False):
            for number, level in enumerate(LEVELS):
                panel.axhline(100 * level, color=GREY, lw=0.6, ls=":")
                for kind, color in COLORS.items():
                    y = 100 * one.by[kind][number].numpy()
                    panel.plot(y, ".", ms=2.5, color=color, label=kind if not number else None)
            panel.set(title=f"{one.case}, pulls {one.pulls}", xlabel="point", ylabel="coverage (%)", ylim=(0, 102))
            tidy(panel)
        panels[0].legend(frameon=False, fontsize=8, ncols=3)
        sheet.savefig(path, bbox_inches="tight", dpi=90)


def main() -> None:
    """Measure, print, draw and write."""
    torch.set_num_threads(1)
    done = {name: measured(name) for name in CASES}
    found = [one for each, _ in done.values() for one in each]
    shifted = [(name, true) for name, case in CASES.items() for true in case.pulls.values() if true]
    pulls = [f"{name} {', '.join(f'{pull} {value:+g}' for pull, value in true.items())}" for name, true in shifted]
    text = "\n".join(
        [
            "# Coverage",
            "",
            f"Made by `python benchmarks/coverage_study.py`; torch {torch.__version__}, 1 thread, "
            f"{platform.machine()}. {EXPERIMENTS:,} experiments at each of 100 points, with other seeds than the toys. "
            "Toys are thrown with nominal pulls, which data without fluctuation prefer; experiments with those, "
            f"shifted: {'; '.join(pulls)}. All numbers in %. rms: of coverage from nominal, the experiments' own "
            "fluctuation (0.47, 0.30, 0.22) included. beyond: the largest deviation less three binomial errors.",
            "",
            "| model | grid | toys for critical values | toys learned from | leaves | failed fits, of all |",
            "|---|---|---|---:|---:|---:|",
            *(said for _, said in done.values()),
            "",
            "| model | true pulls | level | critical values | mean | lowest | highest | rms | beyond |",
            "|---|---|---|---|---:|---:|---:|---:|---:|",
            *(row(one, kind, number) for one in found for number in range(len(LEVELS)) for kind in COLORS),
            "",
            "`counting.py` summed over all outcomes, with the critical values of the toys; what the experiments gave "
            "less that, in binomial errors; and the sum where each experiment has exact critical values at its own "
            "fitted pull.",
            "",
            "| true pulls | level | summed | rms of the difference | largest | summed, own pulls |",
            "|---|---|---|---:|---:|---|",
            *(summed(one, number) for one in found if one.exact is not None for number in range(len(LEVELS))),
            "",
            "![Coverage at each point](coverage.png)",
            "",
        ]
    )
    print(text)
    (HERE / "coverage.md").write_text(text)
    drawn(found, HERE / "coverage.png")


if __name__ == "__main__":
    main()
