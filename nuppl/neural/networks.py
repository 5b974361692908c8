"""Residual networks.

    h_0 = W x + b,   h_{i+1} = h_i + V_i a(U_i h_i + C_i c + b_i),   y = A a(h_L) + d

The condition c enters every block, as in the residual networks of Durkan et al., Neural Spline Flows, arXiv:1906.04032.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Residual", "TimeFeatures", "Waves"]


class _Block(nn.Module):
    def __init__(self, width: int, condition: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, width)
        self.outer = nn.Linear(width, width)
        self.condition = nn.Linear(condition, width, bias=False) if condition else None

    def forward(self, h: Tensor, c: Tensor | None) -> Tensor:
        inner = self.inner(functional.silu(h))
        if self.condition is not None and c is not None:
            inner = inner + self.condition(c)
        moved: Tensor = h + self.outer(functional.silu(inner))
        return moved


class Residual(nn.Module):
    """A residual network from inputs with shape (*, I) and a condition with shape (*, C) to outputs with shape (*, O).

    Arguments:
        inputs, outputs: I and O.
        condition: C, or 0 for none.
        width: of the hidden layers.
        depth: number of blocks, two layers each.
    """

    def __init__(self, inputs: int, outputs: int, condition: int = 0, width: int = 128, depth: int = 2) -> None:
        super().__init__()
        self.enter = nn.Linear(inputs, width)
        self.blocks = nn.ModuleList(_Block(width, condition) for _ in range(depth))
        self.leave = nn.Linear(width, outputs)

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """Outputs with shape (*, O)."""
        h = self.enter(x)
        for block in self.blocks:
            h = block(h, c)
        y: Tensor = self.leave(functional.silu(h))
        return y


class TimeFeatures(nn.Module):
    """Waves of a log noise level: it runs over many scales, where time itself hardly moves.

    Arguments:
        count: frequencies; the features are twice as many, and the level itself.
        longest: wavelength of the slowest.
    """

    frequency: Tensor

    def __init__(self, count: int = 8, longest: float = 32.0) -> None:
        super().__init__()
        steps = torch.arange(1, count + 1, dtype=torch.float32)
        self.register_buffer("frequency", 2 * math.pi / longest * steps, persistent=False)
        self.features = 2 * count + 1

    def forward(self, level: Tensor) -> Tensor:
        """Levels with shape (*, 1) to features with shape (*, 2 count + 1)."""
        phase = level * self.frequency
        return torch.cat((level / 4, phase.sin(), phase.cos()), -1)


class Waves(nn.Module):
    """Values, and their sines and cosines of wavelengths 8, 4, 2, ...: a network finds fine structure sooner with them.

    Tancik et al., Fourier Features Let Networks Learn High Frequency Functions, arXiv:2006.10739.

    Arguments:
        count: wavelengths; 0 for the values alone.
    """

    frequency: Tensor

    def __init__(self, count: int) -> None:
        super().__init__()
        octaves = 2.0 ** torch.arange(count, dtype=torch.float32)
        self.register_buffer("frequency", math.pi / 4 * octaves, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Values with shape (*, D) to features with shape (*, D (1 + 2 count))."""
        if not len(self.frequency):
            return x
        phase = (x.unsqueeze(-1) * self.frequency).flatten(-2)
        return torch.cat((x, phase.sin(), phase.cos()), -1)
