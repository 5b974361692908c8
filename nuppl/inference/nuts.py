"""The No-U-Turn sampler, Pyro's, on the whitened posterior (Hoffman and Gelman, arXiv:1111.4246).

Exact, and slow: one point at a time. Chains start from points twice as wide as Laplace's approximation, so that R-hat
means something, or from the prior where there is none.
"""

from __future__ import annotations

import torch
from pyro.infer.mcmc import MCMC, NUTS
from torch import Tensor

from nuppl.errors import InputError
from nuppl.inference.registry import resolved
from nuppl.language.density import Whitened
from nuppl.language.diagnosis import explain_no_density
from nuppl.language.precision import double_precision, seeded
from nuppl.language.program import Program
from nuppl.language.simulation import tile_seed
from nuppl.results.checkpoints import Checkpoints, State
from nuppl.results.draws import Draws
from nuppl.sampling.guides import standard_normals
from nuppl.sampling.modes import laplace_guide
from nuppl.sampling.recorder import Recorder
from nuppl.sampling.settings import Settings
from nuppl.typing import Progress, silent

__all__ = ["nuts"]

_STREAM = 1 << 22


@double_precision()
def nuts(program: Program, settings: Settings, progress: Progress = silent) -> Draws:
    """Chains of Pyro's NUTS, one after the other."""
    settings = resolved("nuts", settings)
    whitened = Whitened(program)
    store = Checkpoints(settings.scratch)
    starts = store.once("starts", lambda: _starts(whitened, settings))
    whitened.failures = starts["failures"]
    kept = store.load("chains")
    recorder = Recorder(whitened, settings.chains, settings.draws, settings, kept)
    for number in range(0 if kept is None else kept["chains"], settings.chains):
        u, diverging = _chain(whitened, starts["points"][number], number, settings, progress)
        with torch.no_grad():
            density = whitened.log_prob(u)
        recorder.append(u[None], {"lp": density[None], "diverging": diverging[None]}, number)
        store.save("chains", {**recorder.state(), "chains": number + 1})
    return recorder.finish({"warmup": settings.warmup, "modes_missed": starts["missed"]}, "nuts")


def _starts(whitened: Whitened, settings: Settings) -> State:
    """Where the chains start, `points` with shape (chain, D), how many modes they leave out, `missed`, and how many
    densities were NaN on the way, `failures`."""
    missed = 0
    noise = standard_normals(settings.chains, whitened.dim, settings.seed, _STREAM)
    try:
        guide = laplace_guide(whitened, settings.scratch)
        noise, missed = guide.loc + 2.0 * noise @ guide.scale_tril.T, guide.missed
    except InputError:
        pass
    with torch.no_grad():
        usable = whitened.log_prob(noise).isfinite()
    if not bool(usable.all()):
        raise InputError(explain_no_density(whitened.program))
    return {"points": noise, "missed": missed, "failures": whitened.failures}


def _chain(
    whitened: Whitened, start: Tensor, number: int, settings: Settings, progress: Progress
) -> tuple[Tensor, Tensor]:
    def potential(sites: dict[str, Tensor]) -> Tensor:
        return -whitened.log_prob(sites["u"][None])[0]

    total = settings.warmup + settings.draws
    done = 0

    def hook(*_: object) -> None:
        nonlocal done
        done += 1
        progress(number * total + done, settings.chains * total, "nuts")

    kernel = NUTS(potential_fn=potential)
    with seeded(tile_seed(settings.seed, _STREAM, number)):
        chain = MCMC(
            kernel,
            num_samples=settings.draws,
            warmup_steps=settings.warmup,
            initial_params={"u": start},
            hook_fn=hook,
            disable_progbar=True,
        )
        chain.run()
    flags = torch.zeros(settings.draws)
    flags[chain.diagnostics()["divergences"]["chain 0"]] = 1.0
    return chain.get_samples()["u"], flags
