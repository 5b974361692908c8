"""Stochastic variational inference with Pyro's autoguide for a full-rank Gaussian, on the whitened posterior.

The guide maximises the evidence lower bound E_q[log p(u, data) - log q(u)] (Kucukelbir et al., arXiv:1603.00788).
"""

from __future__ import annotations

from collections.abc import Callable

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoMultivariateNormal
from pyro.optim import ClippedAdam

from nuppl.errors import InputError
from nuppl.inference.registry import resolved
from nuppl.language.density import Whitened
from nuppl.language.diagnosis import explain_no_density
from nuppl.language.plates import BATCH_DIM
from nuppl.language.precision import double_precision, program_settings, seeded
from nuppl.language.program import Program
from nuppl.language.simulation import tile_seed
from nuppl.results.checkpoints import Checkpoints, State
from nuppl.results.draws import Draws
from nuppl.sampling.guides import GaussianGuide
from nuppl.sampling.settings import Settings
from nuppl.sampling.weights import everything, weighted_draws
from nuppl.typing import Progress, silent

__all__ = ["svi", "svi_guide"]

_PARTICLES = 16
_STREAM = 1 << 21


@double_precision()
def svi(program: Program, settings: Settings, progress: Progress = silent) -> Draws:
    """Draws of the fitted guide, with their importance weights as a certificate."""
    settings = resolved("svi", settings)
    whitened = Whitened(program)
    guide = svi_guide(whitened, settings, progress)
    recorder, said = weighted_draws(whitened, guide, settings.draws, everything, settings, progress)
    return recorder.finish(said, "svi")


def svi_guide(whitened: Whitened, settings: Settings, progress: Progress = silent) -> GaussianGuide:
    """The guide after `settings.warmup` steps of Adam with a rate that falls by a factor of 100."""
    settings = resolved("svi", settings)

    def model() -> None:
        base = dist.Normal(torch.zeros(whitened.dim), 1.0).to_event(1)
        u = pyro.sample("u", base)
        lanes = u.reshape(-1, whitened.dim)
        prior, likelihood = whitened.split(lanes)
        # Where a transport is not exact its density differs from the standard normal's.
        correction = prior - base.log_prob(lanes)
        pyro.factor("likelihood", (likelihood + correction).reshape(u.shape[:-1]))

    if not bool(whitened.log_prob(torch.zeros(1, whitened.dim)).isfinite()):
        raise InputError(explain_no_density(whitened.program))
    store = Checkpoints(settings.scratch)
    with pyro.get_param_store().scope(), seeded(tile_seed(settings.seed, _STREAM)), program_settings():
        fit = Fit(model, settings.warmup)
        kept = store.load("optimisation")
        if kept is not None:
            fit.restore(kept["fit"])
            whitened.failures = kept["failures"]
        while fit.steps < settings.warmup:
            fit.step()
            progress(fit.steps, settings.warmup, "evidence bound")
            if store.due() or fit.steps == settings.warmup:
                store.save("optimisation", {"fit": fit.state(), "failures": whitened.failures})
        return fit.gaussian()


class Fit:
    """The optimisation of a guide, which can stop after any step and go on."""

    def __init__(self, model: Callable[[], None], steps: int) -> None:
        self.steps = 0
        self.guide = AutoMultivariateNormal(model, init_scale=0.1)
        self.optimizer = ClippedAdam({"lr": 0.05, "lrd": 0.01 ** (1.0 / steps)})
        elbo = Trace_ELBO(num_particles=_PARTICLES, vectorize_particles=True, max_plate_nesting=-BATCH_DIM)
        self._svi = SVI(model, self.guide, self.optimizer, elbo)

    def step(self) -> None:
        """One step of the optimiser."""
        self._svi.step()
        self.steps += 1

    def state(self) -> State:
        """Guide, optimiser and random numbers."""
        return {
            "steps": self.steps,
            "guide": self.guide.state_dict(),
            "optimizer": self.optimizer.get_state(),
            "random": torch.get_rng_state(),
        }

    def restore(self, state: State) -> None:
        """Go on from a state."""
        self.guide()  # makes the guide's parameters
        self.guide.load_state_dict(state["guide"])
        self.optimizer.set_state(state["optimizer"])
        self.steps = state["steps"]
        torch.set_rng_state(state["random"])

    def gaussian(self) -> GaussianGuide:
        """The guide as it is now."""
        posterior = self.guide.get_posterior()
        return GaussianGuide(posterior.loc.detach().clone(), posterior.scale_tril.detach().clone())
