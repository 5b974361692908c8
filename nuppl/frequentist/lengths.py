"""How long the confidence intervals of many experiments are."""

from __future__ import annotations

from torch import Tensor

__all__ = ["lengths"]


def lengths(values: Tensor, statistic: Tensor, critical: Tensor) -> Tensor:
    """The total length of what each experiment accepts, with shape (n,); ends by linear interpolation.

    Arguments:
        values: of the parameter, ascending, with shape (G,).
        statistic: of n experiments tested at each value, with shape (G, n).
        critical: with shape (G,).

    >>> import torch
    >>> t = torch.tensor([[3.0], [1.0], [0.0], [2.0]])
    >>> lengths(torch.arange(4.0), t, torch.full((4,), 1.5))
    tensor([2.])
    """
    above = (statistic - critical[:, None]).clamp(-1e9, 1e9)
    first, second = above[:-1], above[1:]
    # Of two neighbours one of which is accepted, the part up to the crossing.
    inside = (-first).clamp(min=0.0) + (-second).clamp(min=0.0)
    share = inside / (first.abs() + second.abs()).clamp(min=1e-300)
    return (share * values.diff()[:, None]).sum(0)
