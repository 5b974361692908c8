"""Draws on their way from an engine to disk: whitened coordinates become sites block by block."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from nuppl.language.density import Whitened
from nuppl.results.checkpoints import State
from nuppl.results.draws import Draws
from nuppl.results.spool import Spool
from nuppl.sampling.settings import Settings
from nuppl.sampling.target import gradient

__all__ = ["Recorder"]

_SCORED = 4096
"""Draws at which the gradient is taken. Its mean over a posterior is zero: where it is not, draws stop short of a
region that belongs to it, however well the chains agree (Stein's identity)."""


class Recorder:
    """Collects `chains` times `draws` draws in blocks; memory does not grow with their number.

    Arguments:
        kept: the state of a recorder that was interrupted; this one goes on where it stopped.
    """

    def __init__(
        self, whitened: Whitened, chains: int, draws: int, settings: Settings, kept: State | None = None
    ) -> None:
        self.whitened, self.draws = whitened, draws
        self.done = [0] * chains if kept is None else list(kept["done"])
        self.scored: list[Tensor] = [] if kept is None else [kept["scored"]]
        self.spool = Spool(chains, draws, settings.scratch, None if kept is None else kept["spool"])
        self.asked = -(-_SCORED // chains)
        if kept is not None:
            whitened.failures = int(kept["failures"])

    @property
    def missing(self) -> int:
        """Draws that every chain still lacks, at most."""
        return self.draws - min(self.done)

    def state(self) -> State:
        """What a recorder needs to go on."""
        return {
            "done": list(self.done),
            "scored": torch.cat(self.scored),
            "spool": self.spool.state(),
            "failures": self.whitened.failures,
        }

    def append(self, u: Tensor, stats: Mapping[str, Tensor], chain: int | None = None) -> None:
        """Add draws of all chains, or of one; those too many are left out.

        Arguments:
            u: whitened, with shape (chain, n, D).
            stats: numbers of each draw, {name: (chain, n)}.
            chain: the only chain that the draws belong to; the axis `chain` then has size 1.
        """
        before = self.done[chain or 0]
        n = min(u.shape[1], self.draws - before)
        u, chains = u[:, :n], len(u)
        self._score(u[:, : max(self.asked - before, 0)])
        with torch.no_grad():
            parts = [self.whitened.values(part) for part in u.reshape(chains * n, -1).split(self.whitened.chunk)]
        values = {
            name: torch.cat([part[name] for part in parts]).reshape(chains, n, *site.shape)
            for name, site in self.whitened.program.latents.items()
        }
        self.spool.append(values, {name: value[:, :n] for name, value in stats.items()}, chain)
        for number in range(chains) if chain is None else (chain,):
            self.done[number] += n

    def _score(self, u: Tensor) -> None:
        """Keep the gradient at draws with shape (chain, n, D)."""
        some = u.reshape(-1, u.shape[2])
        if len(some):
            self.scored += [gradient(self.whitened, part)[1] for part in some.split(self.whitened.chunk)]

    def _mean_score(self) -> float:
        """The greatest mean of a coordinate's gradient, in units of the gradient's own deviation."""
        scores = torch.cat(self.scored)
        return float((scores.mean(0).abs() / scores.std(0).clamp(min=1e-300)).max())

    def finish(self, attrs: Mapping[str, float | int | str], engine: str) -> Draws:
        """All draws."""
        said = {**attrs, "failures": self.whitened.failures, "mean_score": self._mean_score()}
        return Draws(values=self.spool.values(), stats=self.spool.stats(), attrs=said, engine=engine)
