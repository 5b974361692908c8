"""Sites side by side in one flat vector."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from nuppl.language.table import Site
from nuppl.typing import Values

__all__ = ["Layout"]


class Block(NamedTuple):
    """Where a site lies in the vector."""

    start: int
    stop: int
    shape: tuple[int, ...]


class Layout:
    """The order of latents in a flat vector with shape (n, D).

    Attributes:
        blocks: {site: where it lies}.
        dim: D.
    """

    def __init__(self, sites: Iterable[Site], whitened: bool) -> None:
        self.blocks: dict[str, Block] = {}
        self.dim = 0
        for site in sites:
            shape = (*site.batch, *(site.u_event if whitened else site.event))
            size = int(torch.Size(shape).numel())
            self.blocks[site.name] = Block(self.dim, self.dim + size, shape)
            self.dim += size

    def cut(self, flat: Tensor) -> dict[str, Tensor]:
        """The blocks of all sites, each with shape (n, *full_shape); one cut, so one gradient comes back."""
        parts = flat.split([block.stop - block.start for block in self.blocks.values()], dim=1)
        return {
            name: part.reshape(-1, *block.shape) for (name, block), part in zip(self.blocks.items(), parts, strict=True)
        }

    def pack(self, values: Values) -> Tensor:
        """{site: (n, *full_shape)} to (n, D)."""
        if not self.blocks:
            return torch.zeros(1, 0, dtype=torch.float64)
        flat = [values[name].reshape(len(values[name]), -1) for name in self.blocks]
        n = max(len(block) for block in flat)
        return torch.cat([block.expand(n, -1) for block in flat], dim=1)

    def names(self) -> list[str]:
        """One name per coordinate: `site`, or `site[i]` with the flat index inside the site."""
        return [
            name if block.stop - block.start == 1 else f"{name}[{i}]"
            for name, block in self.blocks.items()
            for i in range(block.stop - block.start)
        ]

    def columns(self, names: Iterable[str]) -> list[int]:
        """The coordinates of some sites."""
        return [i for name in names for i in range(self.blocks[name].start, self.blocks[name].stop)]
