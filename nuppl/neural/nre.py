"""Neural ratio estimation: a classifier between joint and independent pairs learns log p(x | theta)/p(x).

Contrastive (Miller, Weniger, Forre, arXiv:2210.06170), with K others theta_k of the same batch and odds gamma between
"one of them is the true one" and "none is", f the network:

    loss = -1/(1 + gamma) log q(none | others) - gamma/(1 + gamma) log q(the true one | true, others),
    q(k) = gamma e^{f_k} / (K + gamma sum_j e^{f_j}),   q(none) = K / (K + gamma sum_j e^{f_j})

Balanced (Delaunoy et al., Towards Reliable Simulation-Based Inference with Balanced Neural Ratio Estimation,
arXiv:2208.13624): cross entropy plus lambda (E_joint[s(f)] + E_apart[s(f)] - 1)^2, which keeps it from overconfidence.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import softplus

from nuppl.errors import InputError
from nuppl.neural.embeddings import Embedding
from nuppl.neural.estimator import Ratio
from nuppl.neural.networks import Residual
from nuppl.neural.standardize import Standardize

__all__ = ["BNRE", "NRE"]


class NRE(Ratio):
    """The contrastive ratio; free of any factor that depends on the data.

    Arguments:
        width, depth: of the network.
        others: K.
        odds: gamma.
    """

    training_defaults = {"epochs": 120, "batch": 128, "rate": 5e-4, "patience": 25}

    def __init__(
        self,
        theta_space: Standardize,
        embedding: Embedding,
        width: int = 128,
        depth: int = 2,
        others: int = 16,
        odds: float = 1.0,
    ) -> None:
        super().__init__(theta_space, embedding)
        self.network = Residual(theta_space.width + embedding.features, 1, width=width, depth=depth).float()
        self.others, self.odds = others, odds

    def loss(self, theta: Tensor, x: Tensor, generator: torch.Generator) -> Tensor:
        """The contrastive loss, with shape (n,)."""
        z, context = self.theta_space(theta), self.embedding(x)
        others = _others(len(z), self.others, generator)
        count = others.shape[1]
        pairs = torch.cat((torch.arange(len(z)).unsqueeze(1), others), 1)
        f = self._logit(z[pairs], context.unsqueeze(1).expand(-1, count + 1, -1))
        log_count, log_odds = math.log(count), math.log(self.odds)
        none = log_count - _log_sum(f[:, 1:] + log_odds, log_count)
        true = f[:, 0] + log_odds - _log_sum(f[:, :-1] + log_odds, log_count)
        return -(none + self.odds * true) / (1 + self.odds)

    def _logit(self, z: Tensor, context: Tensor) -> Tensor:
        f: Tensor = self.network(torch.cat((z, context), -1)).squeeze(-1)
        return f


class BNRE(Ratio):
    """The balanced ratio.

    Arguments:
        width, depth: of the network.
        balance: lambda.
    """

    training_defaults = {"epochs": 120, "batch": 128, "rate": 5e-4, "patience": 25}

    def __init__(
        self, theta_space: Standardize, embedding: Embedding, width: int = 128, depth: int = 2, balance: float = 100.0
    ) -> None:
        super().__init__(theta_space, embedding)
        self.network = Residual(theta_space.width + embedding.features, 1, width=width, depth=depth).float()
        self.balance = balance

    def loss(self, theta: Tensor, x: Tensor, generator: torch.Generator) -> Tensor:
        """Cross entropy with shape (n,), plus the balance of the whole batch on each."""
        z, context = self.theta_space(theta), self.embedding(x)
        apart = self._logit(z[_others(len(z), 1, generator)[:, 0]], context)
        joint = self._logit(z, context)
        balance = (torch.sigmoid(joint).mean() + torch.sigmoid(apart).mean() - 1).square()
        return softplus(-joint) + softplus(apart) + self.balance * balance

    def _logit(self, z: Tensor, context: Tensor) -> Tensor:
        f: Tensor = self.network(torch.cat((z, context), -1)).squeeze(-1)
        return f


def _log_sum(f: Tensor, log_count: float) -> Tensor:
    """log(K + sum_k e^{f_k}), with shape (n,)."""
    return torch.logaddexp(f.logsumexp(-1), torch.full_like(f[:, 0], log_count))


def _others(n: int, count: int, generator: torch.Generator) -> Tensor:
    """For each of n rows, the numbers of other rows, with shape (n, min(count, n - 1)); no row is its own."""
    if n < 2:
        raise InputError("a ratio is learned from at least 2 simulations in a batch, got 1")
    shifts = torch.randperm(n - 1, generator=generator)[:count] + 1
    return (torch.arange(n).unsqueeze(1) + shifts) % n
