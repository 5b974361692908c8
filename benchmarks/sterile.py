"""The posterior of a fourth neutrino, with its many modes: two seeds against a long run, its evidence, NumPyro's NUTS.

    python benchmarks/sterile.py                     # makes all runs, writes benchmarks/sterile.md
    python benchmarks/sterile.py --only numpyro      # makes that part anew, and the page from all runs there are
    python benchmarks/sterile.py --quick             # small runs; prints

Needs the extra `peers`. Runs stay in benchmarks/runs; `--page` writes the page from them.
"""

from __future__ import annotations

import argparse
import itertools
import math
import platform
from collections.abc import Collection
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import numpyro
import torch
from sterile_marginals import by_chance, edges, shares, total_variation
from sterile_runs import INTEREST, Budget, Run, infer, kept, numpyro_nuts

from nuppl.sampling.settings import Settings

HERE = Path(__file__).parent
PARTS = ("nuppl", "evidence", "numpyro")

PRIORS = ("uniform", "log")  # of sin2_2theta14; marginals are compared under the first


class Plan(NamedTuple):
    """Who runs how, and where runs stay.

    Attributes:
        ours: (engine, settings) by name, of runs on 3+1.
        three: of importance on models/reactor.py.
        numpyro: the peer's budget.
        folder: of finished runs.
    """

    ours: dict[str, tuple[str, Settings]]
    three: Settings
    numpyro: Budget
    folder: Path


def _ours(short: Settings, long: Settings, smc: Settings) -> dict[str, tuple[str, Settings]]:
    return {
        "seed 1": ("importance", replace(short, seed=1)),
        "seed 2": ("importance", replace(short, seed=2)),
        "reference": ("importance", replace(long, seed=3)),
        "smc": ("smc", replace(smc, seed=4)),
    }


FULL = Plan(
    _ours(
        Settings(chains=16, proposals=16_000, draws=8_000),
        Settings(chains=16, proposals=32_000, draws=16_000),
        Settings(),
    ),
    Settings(seed=1),
    Budget(chains=4, warmup=150, draws=150, depth=8),
    HERE / "runs" / "sterile",
)
QUICK = Plan(
    _ours(*2 * (Settings(chains=4, particles=16, proposals=64, draws=16),), Settings(chains=4, particles=16, draws=16)),
    Settings(seed=1, proposals=100),
    Budget(chains=2, warmup=2, draws=4, depth=2),
    HERE / "runs" / "sterile-quick",
)

VARIATION, ERROR = 0.02, 0.1
"""Limits: of the total variation, and of the error of ln B."""

LOGARITHMIC = ("dm2_41",)
PEER = "NumPyro"


def posteriors(plan: Plan, parts: Collection[str]) -> dict[str, Run]:
    """The seeds, the reference and NumPyro, by name: made where asked for, else read, else left out."""
    found = {
        name: kept(_file(plan, name), partial(_fourth, *how, PRIORS[0]) if "nuppl" in parts else None)
        for name, how in plan.ours.items()
    }
    peer = partial(numpyro_nuts, PRIORS[0], plan.numpyro, seed=1)
    found[PEER] = kept(_file(plan, PEER), peer if "numpyro" in parts else None)
    return {name: run for name, run in found.items() if run is not None}


def evidences(plan: Plan, parts: Collection[str]) -> dict[str, Run]:
    """Of 3+1 under each prior but the first, and of three flavors, by name."""
    makers = {prior: partial(_fourth, *plan.ours["seed 1"], prior) for prior in PRIORS[1:]}
    makers["three"] = partial(infer, "reactor.py", "importance", plan.three)
    found = {
        name: kept(_file(plan, f"evidence-{name}"), make if "evidence" in parts else None)
        for name, make in makers.items()
    }
    return {name: run for name, run in found.items() if run is not None}


def _fourth(name: str, settings: Settings, prior: str) -> Run:
    return infer("reactor_sterile.py", name, settings, mixing_prior=prior)


def _file(plan: Plan, name: str) -> Path:
    return plan.folder / f"{name.replace(' ', '-').lower()}.npz"


def posterior_table(runs: dict[str, Run]) -> list[str]:
    """Mean and deviation of each parameter, effective draws and R-hat."""
    lines = ["| run | chains x draws | s | " + " | ".join(INTEREST) + " |", "|---|---:|---:|" + "---|" * len(INTEREST)]
    for name, run in runs.items():
        cells = [
            f"{run.flat(site).mean():.4g} ± {run.flat(site).std():.2g}, ESS {run.effective(site):,.0f}, "
            f"R-hat {run.r_hat(site):.3f}"
            for site in INTEREST
        ]
        chains, draws = run.draws[INTEREST[0]].shape
        lines.append(f"| {name} | {chains} x {draws} | {run.numbers['seconds']:,.0f} | {' | '.join(cells)} |")
    return lines


def variations(runs: dict[str, Run], pair: tuple[str, str]) -> dict[str, tuple[float, float]]:
    """{site: (total variation, what chance makes of it)} of two runs, in bins of the reference."""
    found = {}
    for site in INTEREST:
        at = edges(runs["reference"].flat(site), site in LOGARITHMIC)
        one, other = (shares(runs[name].flat(site), at) for name in pair)
        sizes = [runs[name].effective(site) for name in pair]
        found[site] = total_variation(one, other), by_chance(shares(runs["reference"].flat(site), at), *sizes)
    return found


def variation_part(runs: dict[str, Run]) -> list[str]:
    """The distances of all pairs, and the worst of nuppl's."""
    if "reference" not in runs:
        return ["No reference: run `--only nuppl`."]
    ours = list(itertools.combinations((name for name in runs if name not in (PEER, "smc")), 2))
    pairs = ours + [(name, "reference") for name in ("smc", PEER) if name in runs]
    table = {pair: variations(runs, pair) for pair in pairs}
    lines = ["| pair | " + " | ".join(INTEREST) + " |", "|---|" + "---|" * len(INTEREST)]
    for pair, row in table.items():
        cells = [f"{row[site][0]:.4f} ({row[site][1]:.4f})" for site in INTEREST]
        lines.append(f"| {' – '.join(pair)} | {' | '.join(cells)} |")
    if ours:
        worst, where = max((table[pair][site][0], f"{site}, {' – '.join(pair)}") for pair in ours for site in INTEREST)
        lines += ["", f"Worst of nuppl's: **{worst:.4f}** ({where}), limit {VARIATION}: {_said(worst <= VARIATION)}."]
    return lines


def evidence_part(runs: dict[str, Run], others: dict[str, Run]) -> list[str]:
    """ln Z of both models and ln B, with errors."""
    fourth = {f"{PRIORS[0]}, {name}": run for name, run in runs.items() if name != PEER}
    fourth |= {f"{prior}, seed 1": others[prior] for prior in PRIORS if prior in others}
    if "three" not in others or not fourth:
        return ["No evidence of both models: run `--only nuppl` and `--only evidence`."]
    three, three_error = _log_z(others["three"])
    lines = [
        f"Three flavors (`models/reactor.py`, importance): ln Z = {three:.3f} ± {three_error:.3f}.",
        "",
        "| prior of sin2_2theta14, run | ln Z of 3+1 | ln B of 3+1 over three flavors |",
        "|---|---:|---:|",
    ]
    errors = []
    for name, run in fourth.items():
        value, error = _log_z(run)
        errors.append(math.hypot(error, three_error))
        lines.append(f"| {name} | {value:.3f} ± {error:.3f} | {value - three:.3f} ± {errors[-1]:.3f} |")
    return [*lines, "", f"Greatest error of ln B: **{max(errors):.3f}**, limit {ERROR}: {_said(max(errors) < ERROR)}."]


def numpyro_part(runs: dict[str, Run]) -> list[str]:
    """What NumPyro's chains did."""
    if PEER not in runs:
        return ["Not run: run `--only numpyro`."]
    run = runs[PEER]
    budget = Budget(*(int(run.numbers[field]) for field in Budget._fields))
    lines = [
        f"NUTS on the program as its user would write it, {budget}, compilation included: "
        f"{run.numbers['seconds']:,.0f} s, {run.numbers['divergences']:.0f} divergences after warm-up, "
        f"{run.numbers['leapfrogs']:.0f} leapfrogs per draw, greatest R-hat of the parameters shown "
        f"{max(run.r_hat(site) for site in INTEREST):.2f}.",
        "",
        "| chain | " + " | ".join(INTEREST) + " |",
        "|---|" + "---|" * len(INTEREST),
    ]
    for chain in range(budget.chains):
        own = [run.draws[site][chain] for site in INTEREST]
        lines.append(f"| {chain + 1} | " + " | ".join(f"{part.mean():.4g} ± {part.std():.2g}" for part in own) + " |")
    return lines


def _log_z(run: Run) -> tuple[float, float]:
    return run.numbers["log_evidence"], run.numbers["log_evidence_error"]


def _said(met: bool) -> str:
    return "met" if met else "**not met**"


def page(plan: Plan, parts: Collection[str]) -> list[str]:
    """All lines of the page."""
    runs = posteriors(plan, parts)
    others = evidences(plan, parts)
    return [
        "# A posterior with many modes",
        "",
        f"`models/reactor_sterile.py`. Made by `python benchmarks/sterile.py`; torch {torch.__version__}, "
        f"{torch.get_num_threads()} threads, NumPyro {numpyro.__version__}, JAX {jax.__version__}, "
        f"{platform.machine()}.",
        "",
        "nuppl: seeds and reference by importance, whose guide is a mixture where tempered particles stand; smc with "
        "its own settings beside. Effective draws (ESS) and R-hat count batches and islands as chains. Seconds: wall "
        "time, whatever else the machine did.",
        "",
        *posterior_table(runs),
        "",
        "## Total variation between 1-D marginals",
        "",
        "20 bins between the reference's 0.1 % and 99.9 % quantiles, in log dm2_41. In brackets: the mean for two "
        "perfect samples of these effective sizes.",
        "",
        *variation_part(runs),
        "",
        "## Evidence of 3+1 over three flavors",
        "",
        *evidence_part(runs, others),
        "",
        "## NumPyro",
        "",
        *numpyro_part(runs),
        "",
    ]


def main() -> None:
    """Make the runs that are asked for, print the page, and write it unless the runs were small."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small runs; writes no page")
    parser.add_argument("--page", action="store_true", help="make no run: the page from the runs there are")
    parser.add_argument("--only", choices=PARTS, action="append", help="make these parts anew")
    asked = parser.parse_args()
    parts = () if asked.page else asked.only or PARTS
    text = "\n".join(page(QUICK if asked.quick else FULL, parts))
    print(text)
    if not asked.quick:
        (HERE / "sterile.md").write_text(text)


if __name__ == "__main__":
    main()
