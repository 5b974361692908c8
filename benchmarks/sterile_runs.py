"""The runs that benchmarks/sterile.py compares: nuppl's smc, the evidence of three flavors, NumPyro's NUTS.

Each is one npz file with draws {name: (chain, draw)} of the parameters compared, and numbers of the run.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import arviz
import jax
import numpy as np
import numpyro
from jax_density import program
from jax_sterile import sterile
from numpy.typing import NDArray
from numpyro.infer import MCMC, NUTS, init_to_median

from nuppl.inference.registry import engine
from nuppl.language.loading import load_model
from nuppl.results.convergence import island_size
from nuppl.results.draws import Draws
from nuppl.sampling.settings import Settings
from nuppl.typing import silent

__all__ = ["INTEREST", "Budget", "Make", "Run", "infer", "kept", "numpyro_nuts"]

MODELS = Path(__file__).parents[1] / "models"
INTEREST = ("sin2_2theta13", "dm2_32", "sin2_2theta14", "dm2_41")


class Budget(NamedTuple):
    """What NumPyro may do."""

    chains: int
    warmup: int
    draws: int
    depth: int

    def __str__(self) -> str:
        return f"{self.chains} chains x ({self.warmup} + {self.draws}), max_tree_depth {self.depth}, diagonal mass"


class Run(NamedTuple):
    """One finished run.

    Attributes:
        draws: {name: (chain, draw)}.
        numbers: of the run: seconds; log_evidence and log_evidence_error; divergences, leapfrogs and `Budget`.
    """

    draws: dict[str, NDArray[np.float64]]
    numbers: dict[str, float]

    def flat(self, name: str) -> NDArray[np.float64]:
        """All draws of a parameter, with shape (n,)."""
        return self.draws[name].reshape(-1)

    def effective(self, name: str) -> float:
        """Effective draws: from the spread of islands, or of chains by their autocorrelation (arXiv:1903.08008)."""
        islands = "log_evidence" in self.numbers
        return island_size(self.draws[name]) if islands else float(arviz.ess(self.draws[name]))

    def r_hat(self, name: str) -> float:
        """Rank-normalised."""
        return float(arviz.rhat(self.draws[name]))


Make = Callable[[], Run]


def kept(file: Path, make: Make | None) -> Run | None:
    """A run, made and written by `make` where that is given, else read; None where there is neither."""
    if make is not None:
        run = make()
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(file, **{f"draws/{name}": part for name, part in run.draws.items()}, **run.numbers)
    if not file.exists():
        return None
    with np.load(file) as stored:
        draws = {name.removeprefix("draws/"): stored[name] for name in stored if name.startswith("draws/")}
        return Run(draws, {name: float(stored[name]) for name in stored if not name.startswith("draws/")})


def infer(model: str, name: str, settings: Settings, **options: str) -> Run:
    """A run of one of nuppl's engines on a file of models/."""
    bound = load_model(str(MODELS / model))[0].bind(options)
    started = time.perf_counter()
    drawn = engine(name)(bound, settings, silent)
    return Run(_compared(drawn), _numbers(drawn) | {"seconds": time.perf_counter() - started})


def _compared(drawn: Draws) -> dict[str, NDArray[np.float64]]:
    return {name: np.array(drawn.values[name]) for name in INTEREST if name in drawn.values}


def _numbers(drawn: Draws) -> dict[str, float]:
    return {name: float(drawn.attrs[name]) for name in ("log_evidence", "log_evidence_error")}


def numpyro_nuts(mixing_prior: str, budget: Budget, seed: int) -> Run:
    """NUTS on the program as its user would write it, chains in parallel; compilation and warm-up count."""
    numpyro.set_host_device_count(budget.chains)
    model = sterile(mixing_prior)
    started = time.perf_counter()
    chains = MCMC(
        NUTS(program(model), init_strategy=init_to_median, max_tree_depth=budget.depth),
        num_warmup=budget.warmup,
        num_samples=budget.draws,
        num_chains=budget.chains,
        chain_method="parallel",
        progress_bar=False,
    )
    chains.run(jax.random.PRNGKey(seed), extra_fields=("diverging", "num_steps"))
    samples = jax.block_until_ready(chains.get_samples(group_by_chain=True))
    seconds = time.perf_counter() - started
    extra = chains.get_extra_fields(group_by_chain=True)
    numbers = {"divergences": float(extra["diverging"].sum()), "leapfrogs": float(extra["num_steps"].mean())}
    numbers |= {field: float(value) for field, value in budget._asdict().items()}
    return Run({name: np.asarray(samples[name]) for name in INTEREST}, numbers | {"seconds": seconds})
