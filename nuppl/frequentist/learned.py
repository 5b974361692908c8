"""Critical values at all levels over a parameter space, learned from toys thrown once or a few times at each point.

Half of the toys teach networks the distribution of the statistic, F(t | theta), each network all but one fold. Where
the scores v = F(t | theta) of the toys that a network has not seen are not uniform, a tree cuts the parameter space.
The other half calibrates: in each leaf, with m toys there,

    t_c(theta)  solves  F(t_c | theta) = v_(ceil((m + 1) c)),   F the mean over networks,

so that P(t <= t_c) >= c for toys at points drawn from that leaf, whatever the networks learned, for any m (conformal:
Vovk et al. 2005; locally, by partitions, TRUST: arXiv:2411.19368). The error holds the binomial one of the rank and the
spread of the networks as a jackknife over folds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nuppl.errors import InputError
from nuppl.frequentist.critical import Critical, check_levels
from nuppl.frequentist.partition import Partition
from nuppl.neural.cumulative import Cumulative
from nuppl.neural.fields import Field
from nuppl.neural.seeds import apart, derived
from nuppl.neural.settings import Training
from nuppl.neural.simulations import Fixed
from nuppl.neural.standardize import Standardize
from nuppl.neural.training import State, train
from nuppl.results.checkpoints import Checkpoints
from nuppl.typing import Progress, silent

__all__ = ["LEAST", "LearnedCritical", "learn_critical"]

LEAST = 2_000
"""Toys at least."""

_FOLDS, _HALVINGS, _STREAM = 5, 60, 45
"""Networks; steps of bisection; the stream of seeds."""


@dataclass(frozen=True, eq=False)
class LearnedCritical:
    """The distribution of a statistic over a parameter space.

    Attributes:
        members: the networks.
        partition: of the parameter space.
        leaf: of each calibrating toy, with shape (m,).
        scores: of these, with shape (m,).
        top: no statistic lies above.
    """

    members: Sequence[Cumulative]
    partition: Partition
    leaf: Tensor
    scores: Tensor
    top: float

    def critical(self, levels: Sequence[float], theta: Tensor) -> Critical:
        """Critical values and errors with shape (L, n) at parameters with shape (n, K).

        Raises:
            InputError: a level that is not between 0 and 1.
        """
        tables = [member.table(theta) for member in self.members]
        found = [self._at_level(level, tables, self.partition.leaf(theta)) for level in check_levels(levels)]
        value, error = zip(*found, strict=True)
        return Critical(torch.stack(value), torch.stack(error))

    def p_value(self, statistic: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Of statistics with shape (n,) at parameters with shape (n, K), and its binomial error; never zero."""
        score = self._score(statistic, [member.table(theta) for member in self.members])
        leaf = self.partition.leaf(theta)
        p, error = torch.ones_like(score), torch.zeros_like(score)
        for node in leaf.unique():
            here, own = leaf == node, self.scores[self.leaf == node]
            above = (own[None] >= score[here, None] - 1e-12).sum(1)
            p[here] = (above.double() + 1.0) / (len(own) + 1.0)
            error[here] = (p[here] * (1.0 - p[here]) / max(1, len(own))).sqrt()
        return p, error

    def _at_level(self, level: float, tables: Sequence[Tensor], leaf: Tensor) -> tuple[Tensor, Tensor]:
        ranks = torch.stack([_ranks(self.scores[self.leaf == node], level) for node in leaf.unique()])
        low, middle, high = ranks[torch.searchsorted(leaf.unique(), leaf)].T
        value = self._inverse(middle, self.members, tables)
        binomial = 0.5 * (self._inverse(high, self.members, tables) - self._inverse(low, self.members, tables))
        alone = torch.stack(
            [self._inverse(middle, [member], [table]) for member, table in zip(self.members, tables, strict=True)]
        )
        count = len(self.members)
        folds = (count - 1.0) / count * (alone - alone.mean(0)).square().sum(0)
        return value, (binomial.square() + folds).sqrt()

    def _score(self, t: Tensor, tables: Sequence[Tensor]) -> Tensor:
        return _mean_cumulative(t, self.members, tables)

    def _inverse(self, share: Tensor, members: Sequence[Cumulative], tables: Sequence[Tensor]) -> Tensor:
        """The smallest t with F(t) >= share, with shape (n,)."""
        low = torch.full_like(share, min(float(member.edges[0]) for member in members) - 1e-9)
        high = torch.full_like(share, self.top)
        for _ in range(_HALVINGS):
            middle = 0.5 * (low + high)
            enough = _mean_cumulative(middle, members, tables) >= share - 1e-12
            low, high = torch.where(enough, low, middle), torch.where(enough, middle, high)
        return high


def learn_critical(
    names: Sequence[str],
    theta: Tensor,
    statistic: Tensor,
    *,
    seed: int = 0,
    store: Checkpoints | None = None,
    progress: Progress = silent,
) -> LearnedCritical:
    """Learn from toys.

    Arguments:
        names: of the K parameters.
        theta: where each toy was thrown, with shape (n, K), in coordinates in which the region is evenly filled.
        statistic: t of each toy, with shape (n,), each with random numbers of its own; values that are not finite
            count as the largest.
        seed: the root seed.
        store: where trained networks are kept, and an interrupted one goes on.
        progress: told of each epoch.

    Raises:
        InputError: fewer toys than `LEAST`, or shapes that do not fit.
    """
    if theta.dim() != 2 or theta.shape != (len(statistic), len(names)) or len(statistic) < LEAST:
        raise InputError(
            f"learned critical values: expected at least {LEAST} toys, parameters with shape (n, {len(names)}) and "
            f"statistics with shape (n,), got {tuple(theta.shape)} and {tuple(statistic.shape)}; throw more toys"
        )
    finite = statistic.isfinite()
    top = float(statistic[finite].max()) + 1e-9
    t, store = torch.where(finite, statistic, top).double(), store or Checkpoints(None)
    order = torch.randperm(len(t), generator=torch.Generator().manual_seed(derived(seed, _STREAM)))
    half = len(order) // 2
    taught, calibrating = order[:half], order[half:]
    fold = torch.arange(half) % _FOLDS
    members = []
    for number in range(_FOLDS):
        rows = taught[fold != number]
        members.append(_trained(names, theta[rows], t[rows], seed, number, store, progress))
    held = torch.zeros(half, dtype=torch.float64)
    for number, member in enumerate(members):
        rows = taught[fold == number]
        held[fold == number] = member.cumulative(t[rows], member.table(theta[rows]))
    partition = Partition.grown(theta[taught], held)
    tables = [member.table(theta[calibrating]) for member in members]
    scores = _mean_cumulative(t[calibrating], members, tables)
    return LearnedCritical(members, partition, partition.leaf(theta[calibrating]), scores, top)


def _trained(
    names: Sequence[str], theta: Tensor, t: Tensor, seed: int, number: int, store: Checkpoints, progress: Progress
) -> Cumulative:
    own = derived(seed, _STREAM, number)
    with apart(own, 1):
        network = Cumulative(Standardize(tuple(map(Field, names))), Standardize((Field("statistic"),)))
    settings = Training(**network.training_defaults)  # type: ignore[arg-type]
    settings = replace(settings, seed=own, batch=min(settings.batch, max(2, len(t) // 16)))

    def save(state: State) -> None:
        if store.due() or state["finished"]:
            store.save(f"critical-{number}", state)

    pairs = Fixed(theta.double(), t[:, None])
    found = train(network, pairs, settings, state=store.load(f"critical-{number}"), save=save, progress=progress)
    assert isinstance(found.estimator, Cumulative)
    return found.estimator


def _mean_cumulative(t: Tensor, members: Sequence[Cumulative], tables: Sequence[Tensor]) -> Tensor:
    return torch.stack([m.cumulative(t, table) for m, table in zip(members, tables, strict=True)]).mean(0)


def _ranks(scores: Tensor, level: float) -> Tensor:
    """The conformal score of a level, between those one binomial deviation below and above, with shape (3,)."""
    ordered, m = torch.cat([scores.sort().values, torch.ones(1, dtype=torch.float64)]), len(scores)
    spread = (m * level * (1.0 - level)) ** 0.5
    places = [(m + 1) * level - spread, (m + 1) * level, (m + 1) * level + spread]
    rank = torch.tensor(places, dtype=torch.float64)
    return ordered[(rank - 1e-9).ceil().long().clamp(1, m + 1) - 1]
