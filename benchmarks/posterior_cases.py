"""Which posteriors are sampled, and by whom. A new engine is an `Entry` here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

from jax_density import Binned
from jax_near_far import near_far
from jax_reactor import reactor
from posterior_engines import Entry
from posterior_numpyro import Choice

from nuppl.sampling.settings import Settings

__all__ = ["CASES", "Case"]


class Case(NamedTuple):
    """One posterior.

    Attributes:
        file: the model file.
        twin: the same model in JAX.
        reference: the long run whose moments everything is judged by.
        peers: how NumPyro runs.
        entries: how nuppl runs.
        pyro: a short run of Pyro's NUTS.
        runs: repetitions with other seeds: of NumPyro, and of nuppl.
    """

    file: str
    twin: Callable[[], Binned]
    reference: Choice | Entry
    peers: list[Choice]
    entries: list[Entry]
    pyro: Settings
    runs: tuple[int, int]


def entries(proposals: int, chains: int) -> list[Entry]:
    """Every exact engine, on the density alone and with what the program's structure offers."""
    weighted = Settings(chains=chains, proposals=proposals, draws=proposals)
    plain = dataclasses.replace(weighted, marginalize="none")
    return [
        Entry("importance", plain, False, f"{chains} x {proposals} proposals"),
        Entry("smc", Settings(marginalize="none"), False, "16 islands"),
        Entry("hmc", Settings(marginalize="none"), False, "32 chains"),
        Entry("importance", weighted, True, f"{chains} x {proposals} proposals, pulls integrated"),
        Entry("smc", Settings(), True, "16 islands, pulls integrated"),
        Entry("hmc", Settings(), True, "32 chains, pulls integrated"),
    ]


# Chains, warm-up, draws, dense mass, method: NumPyro's defaults, then what served it best.
NEAR_FAR_CHAINS = (
    (2, 1000, 1000, False, "parallel"),
    (2, 500, 20_000, True, "parallel"),
    (16, 500, 1000, True, "vectorized"),
)

CASES = {
    "near_far": Case(
        file="examples/near_far.py",
        twin=near_far,
        reference=Choice(own=True, chains=2, warmup=1000, draws=40_000, dense=True),
        peers=[Choice(own, *how) for own in (False, True) for how in NEAR_FAR_CHAINS],
        entries=entries(20_000, 16),
        pyro=Settings(chains=2, warmup=20, draws=20),
        runs=(2, 2),
    ),
    "reactor": Case(
        file="models/reactor.py",
        twin=reactor,
        # NumPyro's chains are too short here to be a reference; its own means are held against this one.
        reference=Entry("importance", Settings(seed=7_000, chains=8, proposals=5_000, draws=5_000), True, ""),
        # A dense mass matrix, whole or without the 904 spectrum errors, needs a longer warm-up than the budget has.
        peers=[Choice(own, 2, 200, 200) for own in (False, True)],
        entries=[
            Entry("hmc", Settings(marginalize="none", chains=128, warmup=80, draws=300), False, "128 x (80 + 300)"),
            Entry("importance", Settings(chains=8), True, "8 x 2500 proposals, pulls integrated"),
            Entry("smc", Settings(), True, "16 islands, pulls integrated"),
        ],
        pyro=Settings(chains=2, warmup=50, draws=50),
        runs=(2, 1),
    ),
}
