"""Learned densities as engines: a network for the density of the data (`learning`), then `smc` on it.

    nle         a likelihood, with the evidence that it gives
    nre, bnre   a ratio: its integral is no evidence

Where the program has a density the draws u of the learned posterior s(u) are weighted by p(u, data) / s(u) and
resampled, and so is the evidence, Z = Z_s E[w]: exact in the limit of many particles whatever the network learned;
efficiency and Pareto k say whether the limit is near. Else the draws are what the network says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from nuppl.inference.neural import posterior_of, training_attrs
from nuppl.inference.registry import resolved
from nuppl.inference.smc import sampled
from nuppl.language.density import Whitened
from nuppl.language.precision import double_precision
from nuppl.language.program import Program
from nuppl.learning.learned import Learned
from nuppl.learning.likelihoods import learn
from nuppl.learning.simulated import flat_data
from nuppl.learning.surrogate import described, stand_in
from nuppl.learning.surrogate_files import keep_learned, restore_learned
from nuppl.results.draws import Draws
from nuppl.sampling.marginal import Marginal
from nuppl.sampling.settings import GUIDES, Settings
from nuppl.sampling.target import Direct, Target, log_normal
from nuppl.typing import Progress, silent

__all__ = ["bnre", "nle", "nre"]


@double_precision()
def nle(program: Program, settings: Settings, progress: Progress = silent) -> Draws:
    """A likelihood. Raises as `learn` and `smc` do."""
    return _draws("nle", program, settings, progress)


@double_precision()
def nre(program: Program, settings: Settings, progress: Progress = silent) -> Draws:
    """A contrastive ratio. Raises as `nle`."""
    return _draws("nre", program, settings, progress)


@double_precision()
def bnre(program: Program, settings: Settings, progress: Progress = silent) -> Draws:
    """A balanced ratio. Raises as `nle`."""
    return _draws("bnre", program, settings, progress)


_PRICE = 0.1
"""Where draws are weighted a learned posterior is sampled at the inverse temperature b < 1 that costs this share of the
efficiency if it is right (of normals in d dimensions, (2 b - b^2)^(d/2) is left): where it is too narrow, weights then
stay bounded."""


@dataclass(frozen=True)
class Weighted:
    """A learned posterior whose draws are weighted by the exact one; a `Target`.

    s(u) = N(u; 0, 1) (learned(u) / N(u; 0, 1))^b,   b below one.

    Attributes:
        learned: over the same latents as `exact`.
        exact: the posterior, or its marginal.
    """

    learned: Target
    exact: Target

    @property
    def whitened(self) -> Whitened:
        """The exact posterior of all latents."""
        return self.exact.whitened

    @property
    def dim(self) -> int:
        """d."""
        return self.learned.dim

    @property
    def _beta(self) -> float:
        return 1.0 - math.sqrt(1.0 - (1.0 - _PRICE) ** (2.0 / self.dim))

    def log_prob(self, x: Tensor) -> Tensor:
        """log s."""
        return self._beta * self.learned.log_prob(x) + (1.0 - self._beta) * log_normal(x)

    def forces(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """log s and its gradient."""
        value, force = self.learned.forces(x)
        beta = self._beta
        return beta * value + (1.0 - beta) * log_normal(x), beta * force - (1.0 - beta) * x

    def complete(self, x: Tensor, log_p: Tensor, seed: int, stream: int) -> tuple[Tensor, Tensor]:
        """All latents, and their log weights against s."""
        if isinstance(self.exact, Marginal):
            return self.exact.complete(x, log_p, seed, stream)
        return x, self.exact.log_prob(x) - log_p


@dataclass(frozen=True)
class Outer:
    """The posterior of those latents that a network knows, of which it knows no others; a `Target`.

    Attributes:
        network: the learned density.
        seen: what it reads of the data, with shape (1, C).
        whitened: the exact posterior of all latents.
    """

    network: Learned
    seen: Tensor
    whitened: Whitened

    @property
    def dim(self) -> int:
        """d."""
        return len(self.network.columns)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density."""
        with torch.no_grad():
            return log_normal(x) + self.network.log_density(self.seen, x)

    def forces(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Log density and gradient."""
        leaf = x.detach().requires_grad_()
        value = log_normal(leaf) + self.network.log_density(self.seen, leaf)
        (force,) = torch.autograd.grad(value.sum(), leaf)
        return value.detach(), torch.where(force.isfinite(), force, 0.0)

    def complete(self, x: Tensor, log_p: Tensor, seed: int, stream: int) -> tuple[Tensor, Tensor]:
        """Not by itself: it knows no other latents."""
        raise NotImplementedError


def _draws(name: str, program: Program, settings: Settings, progress: Progress) -> Draws:
    settings = resolved(name, settings)
    flat_data(program)  # a message before the training, not after
    whitened = posterior_of(program, settings.seed)
    if settings.guide in GUIDES:
        learned = learn(program, name, settings, progress, whitened)
        keep_learned(settings.kept, learned, program)
    else:
        learned = restore_learned(Path(settings.guide), name, program, whitened)
    replaced = stand_in(program, learned)
    target = _target(program, learned, replaced, whitened)
    recorder, found = sampled(target, settings, progress)
    drawn = recorder.finish({**found, **training_attrs(learned, settings)}, name)
    return drawn if whitened is not None else described(replaced, drawn)


def _target(program: Program, learned: Learned, replaced: Program, whitened: Whitened | None) -> Target:
    if whitened is None or learned.marginal is None:
        direct = Direct(Whitened(replaced))
        return direct if whitened is None else Weighted(direct, Direct(whitened))
    marginal = replace(learned.marginal, whitened=whitened, data=flat_data(program))
    return Weighted(Outer(learned, learned.seen(flat_data(program)[None]), whitened), marginal)
