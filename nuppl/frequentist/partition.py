"""A regression tree that cuts the parameter space where scores are distributed differently.

    split at the threshold with the largest  max_c |p_left(c) - p_right(c)| / sigma,   if that exceeds four

p(c) is the share of scores below c on each side, sigma the binomial error of the difference. Partitions by trees for
calibration: Cabezas, Otto, Izbicki, Stern, arXiv:2402.07357; for confidence sets: TRUST, arXiv:2411.19368.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Partition"]

_SHARES = (0.5, 0.6827, 0.8, 0.9, 0.95)
"""Of uniform scores, below which they are counted."""

_DEVIATIONS, _LEAST, _CUTS = 4.0, 500, 24
"""Standard deviations that make a split; scores on each side at least; thresholds tried on each axis."""


@dataclass(frozen=True)
class Partition:
    """Leaves of a tree.

    Attributes:
        axis: on which a node splits, with shape (nodes,); -1 in a leaf.
        threshold: below or at which a point goes to the first child, with shape (nodes,).
        children: numbers of both children, with shape (nodes, 2); in a leaf, its own.
    """

    axis: Tensor
    threshold: Tensor
    children: Tensor

    @classmethod
    def grown(cls, points: Tensor, scores: Tensor) -> Partition:
        """For scores with shape (n,) at points with shape (n, K).

        >>> x = torch.rand(4000, 1, generator=torch.Generator().manual_seed(1))
        >>> scores = torch.rand(4000, generator=torch.Generator().manual_seed(2))
        >>> Partition.grown(x, scores).leaves, Partition.grown(x, scores ** (1 + (x[:, 0] > 0.5))).leaves
        (1, 2)
        """
        below = (scores[:, None] <= torch.tensor(_SHARES, dtype=torch.float64)).double()
        nodes: list[tuple[int, float, int, int]] = []
        _grow(points, below, torch.arange(len(points)), nodes)
        axis, threshold, first, second = zip(*nodes, strict=True)
        return cls(
            torch.tensor(axis),
            torch.tensor(threshold, dtype=torch.float64),
            torch.tensor([first, second]).T.contiguous(),
        )

    @property
    def leaves(self) -> int:
        """How many."""
        return int((self.axis < 0).sum())

    def leaf(self, points: Tensor) -> Tensor:
        """The node of the leaf of each point, with shape (n,)."""
        node = torch.zeros(len(points), dtype=torch.long)
        for _ in range(len(self.axis)):
            beyond = points.gather(1, self.axis[node].clamp(min=0)[:, None])[:, 0] > self.threshold[node]
            node = self.children[node, beyond.long()]
        return node


def _grow(points: Tensor, below: Tensor, rows: Tensor, nodes: list[tuple[int, float, int, int]]) -> int:
    """Append the node of some rows and all under it; its number."""
    number = len(nodes)
    nodes.append((-1, 0.0, number, number))
    found = _best(points[rows], below[rows])
    if found is not None:
        axis, threshold = found
        left = points[rows, axis] <= threshold
        children = [_grow(points, below, part, nodes) for part in (rows[left], rows[~left])]
        nodes[number] = (axis, threshold, children[0], children[1])
    return number


def _best(points: Tensor, below: Tensor) -> tuple[int, float] | None:
    best, found = _DEVIATIONS, None
    for axis in range(points.shape[1]):
        for threshold in _thresholds(points[:, axis]):
            left = points[:, axis] <= threshold
            deviation = _deviation(below[left], below[~left])
            if deviation > best:
                best, found = deviation, (axis, threshold)
    return found


def _thresholds(x: Tensor) -> list[float]:
    """Between neighbouring values, spread over them."""
    values = x.unique()
    middle = 0.5 * (values[1:] + values[:-1])
    if len(middle) > _CUTS:
        middle = middle[torch.linspace(0, len(middle) - 1, _CUTS).round().long()]
    return [float(each) for each in middle]


def _deviation(left: Tensor, right: Tensor) -> float:
    if min(len(left), len(right)) < _LEAST:
        return 0.0
    p = torch.cat([left, right]).mean(0)
    sigma = (p * (1.0 - p) * (1.0 / len(left) + 1.0 / len(right))).sqrt().clamp(min=1e-12)
    return float(((left.mean(0) - right.mean(0)).abs() / sigma).max())
