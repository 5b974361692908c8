"""Estimators on the classical tasks: trained once on simulations alone, then asked for the posterior of an observation.

Guides are trained as `nuppl infer --engine npe` trains them for a program without density. Likelihoods and ratios learn
in whitened coordinates u of the parameters, whose prior is the standard normal, and particles tempered from it to
N(u; 0, 1) q(x | u) are the draws. Whatever the estimator, no draw lies outside the prior.
"""

import time
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch

from nuppl.language.precision import double_precision
from nuppl.learning.amortised import Problem
from nuppl.learning.simulated import data_fields, flat_data, latent_values
from nuppl.neural.estimator import Likelihood
from nuppl.neural.fields import Field
from nuppl.neural.registry import ESTIMATORS, Config, build, estimator
from nuppl.neural.seeds import generator
from nuppl.neural.settings import Training
from nuppl.neural.simulations import Fixed
from nuppl.neural.training import train
from nuppl.results.checkpoints import Checkpoints
from nuppl.sampling.metric import from_particles
from nuppl.sampling.moves import Mover
from nuppl.sampling.settings import Settings
from nuppl.sampling.target import log_normal
from nuppl.sampling.temper import temper
from nuppl.typing import silent

__all__ = ["Guide", "Surrogate", "learn", "parameters"]

DRAWS = 10_000
ISLANDS, PARTICLES = 2, 2_500


@double_precision()
def learn(program, name, sims, seed=0):
    """An estimator of a program's posterior, trained on `Simulated` pairs: a `Guide` or a `Surrogate`."""
    start, clock = time.process_time(), time.monotonic()
    made = _guide if ESTIMATORS[name].role == "guide" else _surrogate
    found, history = made(program, name, sims, seed)
    losses = [row["validation"] for row in history]
    found.said = {
        "simulations": len(sims.u),
        "epochs": len(losses),
        "best_epoch": losses.index(min(losses)) + 1,
        "held_out_loss": round(min(losses), 4),
        "processor_seconds": round(time.process_time() - start, 1),
        "seconds": round(time.monotonic() - clock, 1),
    }
    return found


@dataclass
class Guide:
    """A trained guide."""

    amortised: Any
    said: dict = field(default_factory=dict)

    @double_precision()
    @torch.no_grad()
    def u(self, program, seed):
        """Whitened parameters with shape (10000, D), given the data of a program."""
        outer = self.amortised.outer(program)
        z = outer.network.sample(outer.context, DRAWS, generator(seed, 1)).double()
        return outer.loc + z @ outer.factor.T


def _guide(program, name, sims, seed):
    settings = Settings(seed=seed, simulations=len(sims.u))
    found = Problem.of(program, None, name, settings, silent).learned(sims, Checkpoints(None), silent)
    return Guide(found), found.history[0]


@dataclass
class Surrogate:
    """A trained likelihood or ratio."""

    network: Any
    said: dict = field(default_factory=dict)

    @double_precision()
    def u(self, program, seed):
        """Whitened parameters with shape (10000, D): tempered particles, moved for a few rounds."""
        target = Learned(self.network, flat_data(program), self.network.theta_space.width)
        mover = Mover(target, seed, 4 << 24, step=target.dim**-0.25)
        population = temper(target, ISLANDS, PARTICLES, mover, Checkpoints(None))
        kept = [population.points.x]
        while sum(map(len, kept)) < DRAWS:
            points = population.points
            population.points = mover.move(points, from_particles(points.x), 1.0, population.groups)
            kept.append(population.points.x)
        return torch.cat(kept)[:DRAWS]


def _surrogate(program, name, sims, seed):
    network = build(Config(name, (Field("u", (sims.u.shape[1],)),), data_fields(program)), seed)
    settings = Training(**{**estimator(name).training_defaults, "seed": seed})
    found = train(network, Fixed(sims.u, sims.data), settings)
    return Surrogate(found.estimator), [row._asdict() for row in found.history]


@dataclass(frozen=True)
class Learned:
    """A log posterior over whitened parameters, for `temper`."""

    network: Any
    data: torch.Tensor
    dim: int
    whitened: Any = field(default_factory=lambda: SimpleNamespace(failures=0))

    def log_prob(self, x):
        """With shape (n,)."""
        with torch.no_grad():
            return self._log_prob(x)

    def forces(self, x):
        """Log density with shape (n,) and gradient with shape (n, d)."""
        leaf = x.detach().requires_grad_()
        value = self._log_prob(leaf)
        (force,) = torch.autograd.grad(value.sum(), leaf)
        usable = value.isfinite()[:, None] & force.isfinite()
        return value.detach(), torch.where(usable, force, 0.0)

    def _log_prob(self, x):
        learned = isinstance(self.network, Likelihood)
        log_l = self.network.log_prob(self.data, x) if learned else self.network.log_ratio(x, self.data)
        return (log_normal(x) + log_l).nan_to_num(-torch.inf, -torch.inf, -torch.inf)


@double_precision()
def parameters(program, u):
    """Whitened parameters to a task's own, with shape (n, D), in the order of its sites."""
    values = latent_values(program, u)
    return torch.cat([values[name].reshape(len(u), -1) for name in program.latents], 1)
