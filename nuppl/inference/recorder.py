"""Draws on their way from an engine to disk: whitened coordinates become sites block by block."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from nuppl.inference.settings import Settings
from nuppl.language.density import CHUNK, Whitened
from nuppl.results.draws import Draws
from nuppl.results.spool import Spool

__all__ = ["Recorder", "collect"]

_BLOCK = 1000
"""Draws per chain turned into sites at a time."""


class Recorder:
    """Collects `chains` times `draws` draws in blocks; memory does not grow with their number."""

    def __init__(self, whitened: Whitened, chains: int, draws: int, settings: Settings) -> None:
        self.whitened = whitened
        self.missing = draws
        self.spool = Spool(chains, draws, settings.scratch)

    def append(self, u: Tensor, stats: Mapping[str, Tensor]) -> None:
        """Add draws u with shape (chain, n, D) and numbers of each, {name: (chain, n)}; those too many are left out."""
        n = min(u.shape[1], self.missing)
        u, chains = u[:, :n], len(u)
        with torch.no_grad():
            parts = [self.whitened.values(part) for part in u.reshape(chains * n, -1).split(CHUNK)]
        values = {
            name: torch.cat([part[name] for part in parts]).reshape(chains, n, *site.shape)
            for name, site in self.whitened.program.latents.items()
        }
        self.spool.append(values, {name: value[:, :n] for name, value in stats.items()})
        self.missing -= n

    def finish(self, attrs: Mapping[str, float | int | str], engine: str) -> Draws:
        """All draws."""
        said = {**attrs, "failures": self.whitened.failures}
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
