"""NumPyro's NUTS on a model in JAX: on nuppl's whitened density, or on the program as a user would write it.

Every run compiles anew, and its time includes that and the warm-up. Chains start near the prior's centre.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax_density import Binned, log_density, program, values_of
from numpy.typing import NDArray
from numpyro.infer import MCMC, NUTS, init_to_median
from posterior_effective import Series, flat

__all__ = ["Choice", "draw", "repeat"]

_SPREAD = 0.1  # of starting points around the prior's centre, in prior deviations


@dataclass(frozen=True)
class Choice:
    """How NumPyro runs.

    Attributes:
        own: on NumPyro's own program; otherwise on the whitened density.
        chains, warmup, draws: per run.
        dense: sites with one dense mass matrix; all where True, none where False.
        method: "parallel" (one core each) or "vectorized".
    """

    own: bool
    chains: int
    warmup: int
    draws: int
    dense: bool | tuple[str, ...] = False
    method: str = "parallel"

    @property
    def label(self) -> str:
        """One line for the table."""
        if isinstance(self.dense, tuple):
            mass = f"mass dense in {len(self.dense)} sites"
        else:
            mass = "dense mass" if self.dense else "diagonal mass"
        return f"{self.chains} {self.method} x ({self.warmup} + {self.draws}), {mass}"


def draw(model: Binned, choice: Choice, seed: int) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.int64], float]:
    """Draws {site: (chain, draw, *site)}, leapfrog steps with shape (chain, draw), and seconds."""
    jax.clear_caches()
    started = time.perf_counter()
    start = None if choice.own else _start(model, choice.chains, seed)
    chains = MCMC(
        _kernel(model, choice),
        num_warmup=choice.warmup,
        num_samples=choice.draws,
        num_chains=choice.chains,
        chain_method=choice.method,
        progress_bar=False,
    )
    chains.run(jax.random.PRNGKey(seed), init_params=start, extra_fields=("num_steps",))
    samples = jax.block_until_ready(chains.get_samples(group_by_chain=True))
    seconds = time.perf_counter() - started
    if not choice.own:
        samples = jax.vmap(jax.vmap(lambda u: values_of(model, u)))(samples)
    values = {name: np.asarray(samples[name]) for name in model.priors}
    return values, np.asarray(chains.get_extra_fields(group_by_chain=True)["num_steps"]), seconds


def repeat(model: Binned, choice: Choice, runs: int) -> Series:
    """Runs that differ in their seed."""
    means, times, steps = [], [], []
    for seed in range(runs):
        values, leapfrogs, seconds = draw(model, choice, seed)
        means.append(flat(values).mean(1))
        times.append(seconds)
        steps.append(leapfrogs.mean())
    return Series(
        means=np.concatenate(means),
        chains=choice.chains,
        draws=choice.draws,
        seconds=float(np.mean(times)),
        leapfrogs=float(np.mean(steps)),
    )


def _kernel(model: Binned, choice: Choice) -> Any:
    dense = [choice.dense] if isinstance(choice.dense, tuple) else choice.dense
    if choice.own:
        return NUTS(program(model), dense_mass=dense, init_strategy=init_to_median)
    density = log_density(model)
    return NUTS(potential_fn=lambda u: -density(u), dense_mass=dense)


def _start(model: Binned, chains: int, seed: int) -> dict[str, jax.Array]:
    """Points near the prior's centre by site, with a leading axis of chains where there are several."""
    leading = (chains,) if chains > 1 else ()
    keys = jax.random.split(jax.random.PRNGKey(seed + 1_000_000), len(model.priors))
    return {
        name: _SPREAD * jax.random.normal(key, leading + prior.batch_shape)
        for key, (name, prior) in zip(keys, model.priors.items(), strict=True)
    }
