"""Neural posterior estimators as engines: trained on the program's own simulations, weighted by its density.

    simulate, train (`amortised`), q(u | data) as a guide (`neural_guide`), weights as in `importance`

So draws and evidence are exact in the limit of many proposals whatever the network learned, and effective size and
Pareto k say whether the limit is near. Without a density the draws are the network's own.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from nuppl.errors import InputError
from nuppl.inference.registry import resolved
from nuppl.language.density import Whitened
from nuppl.language.diagnosis import explain_no_density
from nuppl.language.precision import double_precision
from nuppl.language.program import Program
from nuppl.learning.amortised import Amortised, trained
from nuppl.learning.learned import Learned
from nuppl.learning.neural_files import keep_guide, restore
from nuppl.learning.neural_guide import NeuralGuide
from nuppl.learning.retaken import retaken
from nuppl.learning.sequential import sequential
from nuppl.learning.simulated import flat_data, latent_values
from nuppl.results.draws import Draws
from nuppl.sampling.conditional import conditional
from nuppl.sampling.guides import Guide, standard_normals
from nuppl.sampling.settings import GUIDES, Settings
from nuppl.sampling.structured import MarginalGuide
from nuppl.sampling.target import Direct
from nuppl.sampling.weights import by_weight, weighted_draws
from nuppl.typing import Progress, silent

__all__ = ["fmpe", "npe", "npse", "posterior_of", "training_attrs"]

_RESAMPLE, _PRIOR_STREAM = 26 << 24, 27 << 24

_BATCHES = 16
"""Batches of prior draws in which a finite density is looked for."""


@double_precision()
def npe(program: Program, settings: Settings, progress: Progress = silent) -> Draws:
    """A spline flow. Raises as `nuppl.learning.amortised.trained` does, or where nothing overlaps."""
    return _draws("npe", program, settings, progress)


@double_precision()
def fmpe(program: Program, settings: Settings, progress: Progress = silent) -> Draws:
    """Flow matching. Raises as `npe`."""
    return _draws("fmpe", program, settings, progress)


@double_precision()
def npse(program: Program, settings: Settings, progress: Progress = silent) -> Draws:
    """A diffusion. Raises as `npe`."""
    return _draws("npse", program, settings, progress)


def _draws(name: str, program: Program, settings: Settings, progress: Progress) -> Draws:
    settings = resolved(name, settings)
    flat_data(program)  # a message before the training, not after
    whitened = posterior_of(program, settings.seed)
    if settings.guide in GUIDES:
        learn = trained if settings.rounds == 1 else sequential
        amortised = learn(program, whitened, name, settings, progress)
        keep_guide(settings.kept, amortised, program)
    else:
        amortised = restore(Path(settings.guide), name, program, whitened)
    outer = amortised.outer(program)
    said = training_attrs(amortised, settings)
    if whitened is None:
        return Draws(_own(program, outer, settings), attrs=said, engine=name)
    return _weighted(name, whitened, amortised, outer, said, settings, progress)


def posterior_of(program: Program, seed: int) -> Whitened | None:
    """The posterior, None where a data site is a simulator.

    Raises:
        InputError: none of many draws from the prior has a finite density.
    """
    if not all(site.has_density for site in program.data_sites.values()):
        return None
    whitened = Whitened(program)
    for batch in range(_BATCHES):
        with torch.no_grad():
            log_p = whitened.log_prob(standard_normals(whitened.chunk, whitened.dim, seed, _PRIOR_STREAM + batch))
        if bool(log_p.isfinite().any()):
            whitened.failures = 0
            return whitened
    raise InputError(explain_no_density(whitened.program))


def _weighted(
    name: str,
    whitened: Whitened,
    amortised: Amortised,
    outer: NeuralGuide,
    said: dict[str, float | int | str],
    settings: Settings,
    progress: Progress,
) -> Draws:
    marginal = amortised.of(whitened)
    if marginal is not None and settings.guide not in GUIDES:
        marginal = retaken(marginal, outer, settings.seed)
    guide: Guide = outer.fitted((marginal or Direct(whitened)).log_prob, settings.seed)
    if marginal is not None:
        guide = MarginalGuide(guide, conditional(marginal, guide, settings.seed))
    keep = by_weight(settings, _RESAMPLE)
    recorder, found = weighted_draws(whitened, guide, settings.proposals, keep, settings, progress)
    return recorder.finish({**found, **said}, name)


def _own(program: Program, outer: NeuralGuide, settings: Settings) -> dict[str, Tensor]:
    """The network's own draws, {site: (chain, draw, *site)}."""
    chains, draws = settings.chains, settings.draws
    u = torch.cat([outer.sample(draws, settings.seed, chain)[0] for chain in range(chains)])
    values = latent_values(program, u)
    return {name: value.reshape(chains, draws, *value.shape[1:]) for name, value in values.items()}


def training_attrs(trained: Amortised | Learned, settings: Settings) -> dict[str, float | int | str]:
    """What a result says of the networks behind it."""
    return {
        "simulations": trained.simulations,
        "failed_simulations": trained.failed,
        "networks": len(trained.members),
        "epochs": max(len(rows) for rows in trained.history),
        **({} if trained.observed is None else {"rounds": settings.rounds}),
        **({} if settings.guide in GUIDES else {"guide": settings.guide}),
    }
