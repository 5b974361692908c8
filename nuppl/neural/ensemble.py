"""Several estimators of one problem as one: q = (1/M) sum_m q_m, wider where they disagree.

Lakshminarayanan, Pritzel, Blundell, arXiv:1612.01474; for simulation-based inference Hermans et al., arXiv:2110.06581.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nuppl.errors import InputError
from nuppl.neural.estimator import Estimator, Guide, Likelihood, Ratio

__all__ = ["GuideEnsemble", "LikelihoodEnsemble", "RatioEnsemble", "ensemble"]


class _Ensemble(nn.Module):
    def __init__(self, members: Sequence[Estimator]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def _mean(self, values: list[Tensor]) -> Tensor:
        return torch.stack(values).logsumexp(0) - math.log(len(values))


class GuideEnsemble(_Ensemble):
    """A mixture of guides."""

    def sample(self, x: Tensor, n: int, generator: torch.Generator) -> Tensor:
        """Draws with shape (*, n, D), in turn from each member."""
        each = math.ceil(n / len(self.members))
        draws = torch.stack([member.sample(x, each, generator) for member in self.members], -2)  # type: ignore[operator]
        return draws.flatten(-3, -2)[..., :n, :]

    def sample_with_log_prob(self, x: Tensor, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draws with shape (*, n, D) and the log density of the mixture there with shape (*, n)."""
        draws = self.sample(x, n, generator)
        return draws, self.log_prob(draws, x.unsqueeze(-2))

    def log_prob(self, theta: Tensor, x: Tensor) -> Tensor:
        """The log density of the mixture with shape (*)."""
        return self._mean([member.log_prob(theta, x) for member in self.members])  # type: ignore[operator]


class LikelihoodEnsemble(_Ensemble):
    """A mixture of likelihoods."""

    def sample(self, theta: Tensor, generator: torch.Generator) -> Tensor:
        """One data set with shape (*, X) for each of the parameters, each from a member drawn at random."""
        draws = torch.stack([member.sample(theta, generator) for member in self.members])  # type: ignore[operator]
        chosen = torch.randint(len(self.members), draws.shape[1:-1], generator=generator)
        return draws.gather(0, chosen[None, ..., None].expand(1, *draws.shape[1:]))[0]

    def log_prob(self, x: Tensor, theta: Tensor) -> Tensor:
        """The log density of the mixture with shape (*)."""
        return self._mean([member.log_prob(x, theta) for member in self.members])  # type: ignore[operator]


class RatioEnsemble(_Ensemble):
    """A mean of ratios."""

    def log_ratio(self, theta: Tensor, x: Tensor) -> Tensor:
        """The log of the mean ratio with shape (*)."""
        return self._mean([member.log_ratio(theta, x) for member in self.members])  # type: ignore[operator]


def ensemble(members: Sequence[Estimator]) -> GuideEnsemble | LikelihoodEnsemble | RatioEnsemble:
    """The ensemble of trained estimators of one kind.

    Raises:
        InputError: none, of different kinds, or of different parameters or data.
    """
    for base, kind in ((Guide, GuideEnsemble), (Likelihood, LikelihoodEnsemble), (Ratio, RatioEnsemble)):
        if members and all(isinstance(member, base) for member in members):
            fields = {(member.theta_space.fields, member.data_space.fields) for member in members}
            if len(fields) > 1:
                raise InputError("ensemble: expected members of the same parameters and data, got different fields")
            return kind(members)
    given = ", ".join(type(member).__name__ for member in members) or "none"
    raise InputError(f"ensemble: expected guides, likelihoods or ratios, all of one kind, got {given}")
