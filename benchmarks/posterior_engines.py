"""nuppl's engines, and Pyro's NUTS through one of them, on the same programs.

Chains are islands or batches: where an engine's chains share anything, they are still different draws, and `repeats`
runs with other seeds are added.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from posterior_effective import Series, flat

from nuppl.inference.registry import ENGINES, engine
from nuppl.language.density import Whitened
from nuppl.language.loading import load_model
from nuppl.language.precision import double_precision
from nuppl.language.program import Program
from nuppl.results.draws import Draws
from nuppl.sampling.settings import Settings
from nuppl.typing import silent

__all__ = ["Entry", "draw", "known", "repeat", "seconds_of_chains", "seconds_per_gradient"]


class Entry(NamedTuple):
    """One row.

    Attributes:
        engine: its name in the registry.
        settings: the seed is replaced.
        structure: whether it uses more of the program than its density, such as pulls integrated in closed form.
        label: one line for the table.
    """

    engine: str
    settings: Settings
    structure: bool
    label: str


def known(entries: list[Entry]) -> list[Entry]:
    """Those whose engine is in the registry."""
    return [entry for entry in entries if entry.engine in ENGINES]


def repeat(program: Program, entry: Entry, runs: int) -> Series:
    """Runs that differ in their seed."""
    means, times, shape = [], [], (0, 0)
    for seed in range(runs):
        started = time.perf_counter()
        draws = engine(entry.engine)(program, dataclasses.replace(entry.settings, seed=seed), silent)
        times.append(time.perf_counter() - started)
        means.append(_means(draws))
        shape = draws.shape
    return Series(np.concatenate(means), chains=shape[0], draws=shape[1], seconds=float(np.mean(times)))


def draw(program: Program, entry: Entry) -> dict[str, np.ndarray]:
    """One run: {site: (chain, draw, *site)}."""
    found = engine(entry.engine)(program, entry.settings, silent)
    return {name: np.asarray(found.values[name]) for name in found.values}


def _means(draws: Draws) -> np.ndarray:
    """With shape (chain, D), without holding all draws at once."""
    means = {name: torch.as_tensor(value).mean(1, keepdim=True).numpy() for name, value in draws.values.items()}
    return flat(means)[:, 0]


def seconds_of_chains(file: str, settings: Settings) -> float:
    """The slowest of some chains of Pyro's NUTS, each in a process and on a core of its own."""
    one = [dataclasses.replace(settings, chains=1, seed=seed) for seed in range(settings.chains)]
    with ProcessPoolExecutor(settings.chains, multiprocessing.get_context("spawn")) as pool:
        return max(pool.map(_seconds_of_chain, [file] * len(one), one))


def _seconds_of_chain(file: str, settings: Settings) -> float:
    torch.set_num_threads(1)
    program = load_model(file)[0].bind()
    started = time.perf_counter()
    engine("nuts")(program, settings, silent)
    return time.perf_counter() - started


@double_precision()
def seconds_per_gradient(program: Program, calls: int = 30) -> float:
    """Of the whitened density at one point, as Pyro's NUTS asks for it; the median."""
    whitened, times = Whitened(program), []
    point = 0.1 * torch.randn(1, whitened.dim, generator=torch.Generator().manual_seed(1))
    for _ in range(calls):
        started = time.perf_counter()
        leaf = point.clone().requires_grad_()
        torch.autograd.grad(whitened.log_prob(leaf).sum(), leaf)
        times.append(time.perf_counter() - started)
    return float(np.median(times))
