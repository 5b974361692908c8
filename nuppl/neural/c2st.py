"""The classifier two-sample test: how well a network tells two sets of draws apart; 0.5 is not at all.

Lopez-Paz and Oquab, arXiv:1610.06545, as Lueckmann et al. (arXiv:2101.04653) use it: both sets are brought to zero mean
and unit variance of the first; a network with two layers of ten times the dimension learns with Adam until its loss
stagnates; the accuracy is the mean over five folds. All folds of many pairs train side by side as one batch.

Folds, first weights and order are those that scikit-learn's KFold, MLPClassifier and cross_val_score have for the same
seed, so that numbers can be compared with published ones: they differ by rounding alone, which training amplifies.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from torch import Tensor

from nuppl.errors import InputError

__all__ = ["c2st"]

_RATE, _BATCH, _DECAY, _TOLERANCE, _PATIENCE, _EPOCHS = 1e-3, 200, 1e-4, 1e-4, 10, 10_000
"""Defaults of scikit-learn's MLPClassifier, which the published tables were made with."""


def c2st(reference: Tensor, draws: Tensor, seed: int = 1, folds: int = 5) -> Tensor:
    """The accuracy of telling draws from reference.

    Arguments:
        reference, draws: each with shape (n, D), or (pairs, n, D) for many pairs at once; as many of both.
        seed: of folds, first weights and order.
        folds: of the cross-validation.

    Returns:
        accuracies with shape () or (pairs).

    Raises:
        InputError: different shapes, fewer draws than folds, or draws that are not finite.

    >>> a, b = torch.randn(2, 400, 2, generator=torch.Generator().manual_seed(1))
    >>> 0.4 < float(c2st(a, b)) < 0.6, float(c2st(a, b + 9)) > 0.99
    (True, True)
    """
    if reference.shape != draws.shape or draws.ndim not in (2, 3):
        raise InputError(
            f"c2st: expected two sets with the same shape (n, D) or (pairs, n, D), got {tuple(reference.shape)} and "
            f"{tuple(draws.shape)}"
        )
    if draws.shape[-2] < folds or not (reference.isfinite().all() and draws.isfinite().all()):
        raise InputError(f"c2st: expected at least {folds} finite draws in each set")
    first, second = (x.reshape(-1, *x.shape[-2:]).double() for x in (reference, draws))
    loc, scale = first.mean(1, keepdim=True), first.std(1, keepdim=True)
    both = (torch.cat((first, second), 1) - loc) / torch.where(scale > 0, scale, 1.0)
    labels = torch.cat((torch.zeros(first.shape[1]), torch.ones(first.shape[1])))
    return _accuracy(both.float(), labels.float(), seed, folds).reshape(draws.shape[:-2])


def _accuracy(x: Tensor, labels: Tensor, seed: int, folds: int) -> Tensor:
    """Mean accuracy with shape (pairs,) over folds; the same folds for all pairs."""
    pairs, n, _ = x.shape
    order = np.arange(n)
    np.random.RandomState(seed).shuffle(order)
    parts = torch.from_numpy(order).tensor_split(folds)
    size = n - max(map(len, parts))
    learned = torch.stack([torch.cat([*parts[:k], *parts[k + 1 :]]).sort().values[:size] for k in range(folds)])
    networks = _Networks(pairs * folds, x.shape[-1], seed)
    networks.fit(x[:, learned].flatten(0, 1), labels[learned].repeat(pairs, 1))
    right = torch.empty(pairs, folds, dtype=torch.float64)
    for k, part in enumerate(parts):
        held = x[:, part].repeat_interleave(folds, 0)
        answers = (networks.logits(held) > 0).float().unflatten(0, (pairs, folds))[:, k]
        right[:, k] = (answers == labels[part]).double().mean(-1)
    return right.mean(-1)


class _Networks:
    """Many networks of one shape; each stops on its own."""

    def __init__(self, count: int, dimension: int, seed: int) -> None:
        self.count, self.randomness = count, np.random.RandomState(seed)
        sizes = (dimension, 10 * dimension, 10 * dimension, 1)
        self.weights: list[Tensor] = []
        for before, after in itertools.pairwise(sizes):
            bound = math.sqrt(6.0 / (before + after))  # Glorot and Bengio (2010)
            for shape in ((before, after), (1, after)):
                uniform = torch.from_numpy(self.randomness.uniform(-bound, bound, shape)).float()
                self.weights.append(uniform.repeat(count, 1, 1))

    def logits(self, x: Tensor) -> Tensor:
        """Inputs with shape (networks, n, D) to logits with shape (networks, n)."""
        a, b, c, d, e, f = self.weights
        h = torch.baddbmm(b, x, a).relu_()
        return torch.baddbmm(f, torch.baddbmm(d, h, c).relu_(), e).squeeze(-1)

    def fit(self, x: Tensor, labels: Tensor) -> None:
        """Learn from inputs with shape (networks, n, D) and labels with shape (networks, n)."""
        n, step = x.shape[1], 0
        mean = [torch.zeros_like(weight) for weight in self.weights]
        square = [torch.zeros_like(weight) for weight in self.weights]
        best, stale = torch.full((self.count,), math.inf), torch.zeros(self.count)
        active = torch.arange(self.count)
        finished = [weight.clone() for weight in self.weights]
        order = torch.arange(n)
        for _ in range(_EPOCHS):
            total = torch.zeros(len(active))
            order = order[torch.from_numpy(self._shuffled(n))]
            for rows in order.split(min(_BATCH, n)):
                step += 1
                loss, slopes = self._slopes(x[:, rows], labels[:, rows])
                total += loss * len(rows) / n
                _adam(self.weights, slopes, mean, square, step)
            stale = torch.where(total > best - _TOLERANCE, stale + 1, 0.0)
            best = torch.minimum(best, total)
            going = stale <= _PATIENCE
            if going.all():
                continue
            for whole, part in zip(finished, self.weights, strict=True):
                whole[active] = part
            if not going.any():
                break
            active, best, stale, x, labels = (v[going] for v in (active, best, stale, x, labels))
            self.weights, mean, square = ([v[going] for v in vs] for vs in (self.weights, mean, square))
        for whole, part in zip(finished, self.weights, strict=True):
            whole[active] = part
        self.weights = finished

    def _shuffled(self, n: int) -> np.typing.NDArray[np.int64]:
        numbers = np.arange(n)
        self.randomness.shuffle(numbers)
        return numbers

    def _slopes(self, x: Tensor, labels: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The loss with shape (networks,), and its gradient by hand: three layers do not need a tape."""
        a, b, c, d, e, f = self.weights
        n = x.shape[1]
        h = torch.baddbmm(b, x, a).relu_()
        g = torch.baddbmm(d, h, c).relu_()
        logit = torch.baddbmm(f, g, e).squeeze(-1)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logit, labels, reduction="none").mean(-1)
        loss = loss + sum(w.square().sum((1, 2)) for w in (a, c, e)) * (_DECAY / 2 / n)
        out = ((torch.sigmoid(logit) - labels) / n).unsqueeze(-1)
        at_g = (out * e.mT) * (g > 0)
        at_h = torch.bmm(at_g, c.mT) * (h > 0)
        slopes = []
        for inputs, weight, at in ((x, a, at_h), (h, c, at_g), (g, e, out)):
            slopes += [torch.baddbmm(weight, inputs.mT, at, beta=_DECAY / n), at.sum(1, keepdim=True)]
        return loss, slopes


def _adam(weights: list[Tensor], slopes: list[Tensor], mean: list[Tensor], square: list[Tensor], step: int) -> None:
    """One step for all networks (Kingma and Ba, arXiv:1412.6980)."""
    rate = _RATE * math.sqrt(1 - 0.999**step) / (1 - 0.9**step)
    for weight, slope, m, s in zip(weights, slopes, mean, square, strict=True):
        m.lerp_(slope, 0.1)
        s.mul_(0.999).addcmul_(slope, slope, value=0.001)
        weight.addcdiv_(m, s.sqrt().add_(1e-8), value=-rate)
