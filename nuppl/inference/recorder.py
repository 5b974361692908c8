"""Draws on their way from an engine to disk: whitened coordinates become sites block by block."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from nuppl.inference.settings import Settings
from nuppl.inference.target import gradient
from nuppl.language.density import Whitened
from nuppl.results.draws import Draws
from nuppl.results.spool import Spool

__all__ = ["Recorder", "collect"]

_SCORED = 1024
"""Draws at which the gradient is taken. Its mean over a posterior is zero: where it is not, draws stop short of a
region that belongs to it, however well the chains agree (Stein's identity)."""

_BLOCK = 1000
"""Draws per chain turned into sites at a time."""


class Recorder:
    """Collects `chains` times `draws` draws in blocks; memory does not grow with their number."""

    def __init__(self, whitened: Whitened, chains: int, draws: int, settings: Settings) -> None:
        self.whitened = whitened
        self.missing = draws
        self.spool = Spool(chains, draws, settings.scratch)
        self.asked = -(-_SCORED // chains)
        self.scored: list[Tensor] = []

    def append(self, u: Tensor, stats: Mapping[str, Tensor]) -> None:
        """Add draws u with shape (chain, n, D) and numbers of each, {name: (chain, n)}; those too many are left out."""
        n = min(u.shape[1], self.missing)
        u, chains = u[:, :n], len(u)
        self._score(u)
        with torch.no_grad():
            parts = [self.whitened.values(part) for part in u.reshape(chains * n, -1).split(self.whitened.chunk)]
        values = {
            name: torch.cat([part[name] for part in parts]).reshape(chains, n, *site.shape)
            for name, site in self.whitened.program.latents.items()
        }
        self.spool.append(values, {name: value[:, :n] for name, value in stats.items()})
        self.missing -= n

    def _score(self, u: Tensor) -> None:
        """Keep the gradient at the first draws of every chain."""
        some = u[:, : self.asked].reshape(-1, u.shape[2])
        self.asked -= min(self.asked, u.shape[1])
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


def collect(
    whitened: Whitened,
    settings: Settings,
    u: Tensor,
    stats: Mapping[str, Tensor],
    attrs: Mapping[str, float | int | str],
    engine: str,
) -> Draws:
    """Draws u with shape (chain, draw, D) that are all there at once."""
    recorder = Recorder(whitened, len(u), u.shape[1], settings)
    for start in range(0, u.shape[1], _BLOCK):
        rows = slice(start, start + _BLOCK)
        recorder.append(u[:, rows], {name: value[:, rows] for name, value in stats.items()})
    return recorder.finish(attrs, engine)
