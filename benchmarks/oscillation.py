"""Oscillation probabilities, nanoseconds per energy, one thread, beside the peers that are installed, in one run.

    python benchmarks/oscillation.py        # writes benchmarks/oscillation.md

1e5 energies from 0.5 to 20 GeV, 1300 km, 2.85 g/cm^3, mu -> e, unless a column says otherwise. Process time, best of
several, so that what others do on the machine counts as little as can be. A loop over energies in Python is timed on
fewer of them.
"""

from __future__ import annotations

import importlib
import math
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nuppl.physics import oscillation
from nuppl.units import OSCILLATION_PHASE

POINTS, REPEATS = 100_000, 9
LENGTH, DENSITY = 1300.0, 2.85
ACTIVE = {"sin2_theta12": 0.307, "sin2_theta13": 0.0217, "sin2_theta23": 0.56, "delta_cp": 1.2}
SPLITTINGS = {"dm2_21": 7.5e-5, "dm2_31": 2.5e-3}
STERILE = {"sin2_theta14": 0.1, "sin2_theta24": 0.06, "sin2_theta34": 0.12, "delta_14": 0.7, "delta_24": 2.1}
THREE = ACTIVE | SPLITTINGS
FOUR = THREE | STERILE | {"dm2_41": 1.3}
COLUMNS = ("vacuum 3", "matter 3", "vacuum 3+1", "matter 3+1")
Row = dict[str, float]


def best(function: Callable[[], Any], points: int = POINTS, repeats: int = REPEATS) -> float:
    """Nanoseconds a point."""
    function()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times) / points * 1e9


def energies(points: int = POINTS) -> np.ndarray:
    return np.linspace(0.5, 20.0, points)


def ours(channel: dict[str, str], gradient: bool = False) -> Row:
    energy, row = torch.tensor(energies()), {}
    for column in COLUMNS:
        medium, flavors = column.split()
        values, build = (THREE, oscillation.ThreeFlavor) if flavors == "3" else (FOUR, oscillation.FourFlavor)
        row[column] = best(lambda m=medium, v=values, b=build: evaluate(m, v, b, energy, channel, gradient))
    return row


def evaluate(medium: str, values: Any, build: Any, energy: Any, channel: Any, gradient: bool) -> torch.Tensor:
    if gradient:
        values = {name: torch.tensor(value, dtype=torch.float64, requires_grad=True) for name, value in values.items()}
    mixing = build(**values)
    if medium == "vacuum":
        result = oscillation.probability(mixing, energy, LENGTH, **channel)
    else:
        result = oscillation.matter_probability(mixing, energy, LENGTH, DENSITY, **channel)
    if gradient:
        result.sum().backward()
    return result


def nu_osc_prob_exact() -> Row:
    """NuOscProbExact on a stack of Hamiltonians, which are not timed; it returns all channels."""
    three, four = (importlib.import_module(f"hamiltonians{n}nu") for n in (3, 4))
    s = {name[-2:]: math.sqrt(value) for name, value in FOUR.items() if "theta" in name}
    vacuum3 = three.hamiltonian_3nu_vacuum_energy_independent(
        s["12"], s["23"], s["13"], ACTIVE["delta_cp"], *SPLITTINGS.values()
    )
    vacuum4 = four.hamiltonian_4nu_vacuum_energy_independent(
        *(s[name] for name in ("12", "23", "13", "14", "24", "34")),
        *(FOUR[name] for name in ("delta_cp", "dm2_21", "dm2_31", "dm2_41", "delta_14", "delta_24")),
    )
    row, count = {}, 20_000
    energy = energies(count)[:, None, None]
    for flavors, vacuum in (("3", np.asarray(vacuum3)), ("3+1", np.asarray(vacuum4))):
        n = len(vacuum)
        probabilities = getattr(importlib.import_module(f"oscprob{n}nu"), f"probabilities_{n}nu")
        for medium, density in (("vacuum", 0.0), ("matter", DENSITY)):
            potential = np.diag([1.0, 0.0, 0.0, 0.5][:n]) * 2e9 * oscillation.MATTER_POTENTIAL * density * 0.5
            stack = vacuum / energy + potential
            row[f"{medium} {flavors}"] = best(
                lambda h=stack, p=probabilities: p(h, 2.0 * OSCILLATION_PHASE * LENGTH), count, 5
            )
    return row


def nu_squids() -> Row:
    """nuSQuIDS at one energy at a time and a tolerance of 1e-6."""
    squids = importlib.import_module("nuSQuIDS")
    row, count = {}, 20
    for flavors, values in (("3", THREE), ("3+1", FOUR)):
        n = 3 if flavors == "3" else 4
        for medium in ("vacuum", "matter"):
            solver = squids.nuSQUIDS(n, squids.NeutrinoType.neutrino)
            for name, value in values.items():
                if name.startswith("sin2_theta"):
                    solver.Set_MixingAngle(int(name[-2]) - 1, int(name[-1]) - 1, math.asin(math.sqrt(value)))
                elif name.startswith("dm2"):
                    solver.Set_SquareMassDifference(int(name[4]) - 1, value)
            kilometre = squids.Const().km
            body = squids.Vacuum() if medium == "vacuum" else squids.ConstantDensity(DENSITY, 0.5)
            kind = squids.Vacuum.Track if medium == "vacuum" else squids.ConstantDensity.Track
            solver.Set_Body(body)
            solver.Set_rel_error(1e-6)
            solver.Set_abs_error(1e-6)
            start = np.eye(n)[1]

            def loop(s: Any = solver, k: Any = kind, x: Any = start, km: float = kilometre) -> None:
                for energy in energies(count):
                    s.Set_E(energy * squids.Const().GeV)
                    s.Set_Track(k(LENGTH * km))
                    s.Set_initial_state(x, squids.Basis.flavor)
                    s.EvolveState()
                    s.EvalFlavor(0)

            row[f"{medium} {flavors}"] = best(loop, count, 2)
    return row


def jaxnu() -> Row:
    """jaxnu, compiled, one channel."""
    peer, jax = importlib.import_module("jaxnu"), importlib.import_module("jax")
    jax.config.update("jax_enable_x64", True)
    angles = {f"theta{n}": math.asin(math.sqrt(FOUR[f"sin2_theta{n}"])) for n in ("12", "13", "23", "14", "24", "34")}
    active = {name: value for name, value in angles.items() if "4" not in name}
    masses = {"dm21": FOUR["dm2_21"], "dm31": FOUR["dm2_31"]}
    three = peer.OscParams(**active, **masses, deltacp=FOUR["delta_cp"])
    phases = {"delta13": FOUR["delta_cp"], "delta14": FOUR["delta_14"], "delta24": FOUR["delta_24"]}
    four = peer.Sterile3plus1(**angles, **masses, **phases, dm41=FOUR["dm2_41"])
    row, energy = {}, jax.numpy.asarray(energies())
    for flavors, parameters in (("3", three), ("3+1", four)):
        for medium, density in (("vacuum", 0.0), ("matter", DENSITY)):
            channel = {"flavor_in": peer.Flavor.MU, "flavor_out": peer.Flavor.E}
            compiled = jax.jit(
                lambda e, p=parameters, d=density, c=channel: peer.probability_constant(p, e, LENGTH, density=d, **c)
            )
            row[f"{medium} {flavors}"] = best(lambda f=compiled: f(energy).block_until_ready(), repeats=3)
    return row


PEERS: dict[str, Callable[[], Row]] = {
    "NuOscProbExact (all channels)": nu_osc_prob_exact,
    "nuSQuIDS (1e-6)": nu_squids,
    "jaxnu, mu -> e": jaxnu,
}


def main() -> None:
    torch.set_num_threads(1)
    rows: dict[str, Row | str] = {
        "nuppl, mu -> e": ours({"initial": "mu", "final": "e"}),
        "nuppl, e -> e": ours({"initial": "e", "final": "e"}),
        "nuppl, all channels": ours({}),
        "nuppl, mu -> e and gradient in every parameter": ours({"initial": "mu", "final": "e"}, gradient=True),
    }
    for name, peer in PEERS.items():
        try:
            rows[name] = peer()
        except ImportError as error:
            rows[name] = f"not installed ({error.name})"
        print(name, rows[name], file=sys.stderr)
    lines = [
        "# Oscillation probabilities, ns per energy\n",
        f"Made by `python benchmarks/oscillation.py`; torch {torch.__version__}, one thread, {POINTS:,} energies,",
        f"process time, best of {REPEATS}, {platform.machine()}, on a machine that others used at the same time.\n",
        "| | " + " | ".join(COLUMNS) + " |",
        "|---|" + "---:|" * len(COLUMNS),
    ]
    for name, row in rows.items():
        cells = [row] * 4 if isinstance(row, str) else [f"{row[c]:,.0f}" if c in row else "-" for c in COLUMNS]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    Path(__file__).with_suffix(".md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
