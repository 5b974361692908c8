"""The one training loop: Adam with decoupled decay (Loshchilov and Hutter, arXiv:1711.05101) on any estimator's loss.

After each epoch the moving average of the weights is judged on held-out simulations, always with the same random
numbers, and the best is what training returns. All randomness belongs to (seed, epoch), so the state between two epochs
is a dictionary of tensors, numbers and strings: torch.load(weights_only=True) reads it, and whoever goes on from it,
after any epoch, gets the same result bit for bit.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nuppl.errors import InputError
from nuppl.neural.estimator import Estimator
from nuppl.neural.seeds import apart, generator
from nuppl.neural.settings import Training
from nuppl.neural.simulations import Pairs, Simulations
from nuppl.typing import Progress, silent

__all__ = ["Row", "State", "Trained", "train"]

State = dict[str, Any]
"""Tensors, numbers and strings, in dictionaries and lists."""

_LEARN, _JUDGE, _WEIGHTS = 111, 112, 113
"""Streams of the seed."""

_SCALED = 20_000
"""Simulations from which scales are learned."""

_JUDGED = 1_000
"""Held-out simulations at a time."""


class Row(NamedTuple):
    """What happened in one epoch: mean losses, the last learning rate, and seconds since the last start or resume."""

    epoch: int
    train: float
    validation: float
    rate: float
    seconds: float


class Trained(NamedTuple):
    """The result.

    Attributes:
        estimator: with the best weights, frozen.
        history: one row per epoch.
        best: the epoch it is from.
        simulations: how many were used, held-out ones included.
    """

    estimator: Estimator
    history: list[Row]
    best: int
    simulations: int


def train(
    estimator: Estimator,
    simulations: Simulations,
    settings: Training | None = None,
    *,
    state: State | None = None,
    save: Callable[[State], None] | None = None,
    progress: Progress = silent,
) -> Trained:
    """Train an estimator, in place.

    Arguments:
        estimator: untrained, or any of the same build where a state is given.
        simulations: what it learns from.
        settings: the estimator's own where not given.
        state: of an interrupted training, as `save` got it.
        save: told the state after each epoch; the last one says that it is finished.
        progress: told of each epoch.

    Raises:
        InputError: fewer simulations than a batch, values that are not finite, a state of another training, or a loss
            that was never finite.
    """
    settings = settings or Training(**estimator.training_defaults)  # type: ignore[arg-type]
    loop = _Loop(estimator, simulations, settings)
    loop.begin() if state is None else loop.load(state)
    while not loop.finished:
        loop.epoch()
        last = loop.history[-1]
        if save is not None:
            save(loop.state())
        progress(last.epoch, loop.epochs, f"held-out loss {last.validation:.3f}")
    return loop.result()


class _Loop:
    def __init__(self, estimator: Estimator, simulations: Simulations, settings: Training) -> None:
        self.estimator, self.simulations, self.settings = estimator, simulations, settings
        self.steps = simulations.steps(settings.validation, settings.batch)
        self.epochs = max(settings.epochs, -(-settings.least_steps // self.steps))
        self.held_out = self._checked(simulations.held_out(settings.validation, settings.seed))
        estimator.requires_grad_(True)
        self.weights = [weight for weight in estimator.parameters() if weight.requires_grad]
        self.optimizer = torch.optim.AdamW(self.weights, settings.rate, weight_decay=settings.decay, fused=True)
        self.history: list[Row] = []
        self.best, self.best_loss = 0, float("inf")
        self.started = time.monotonic()

    @property
    def finished(self) -> bool:
        done = len(self.history)
        return done >= self.epochs or done - self.best >= self.settings.patience

    def begin(self) -> None:
        first = self.simulations.first(self.settings.validation, self.settings.seed, _SCALED)
        self.estimator.fit_spaces(*self._checked(first))
        self.average = copy.deepcopy(self.estimator)
        self.kept = _copied(self.average.state_dict())

    def epoch(self) -> None:
        settings, number = self.settings, len(self.history) + 1
        self.estimator.train()
        randomness = generator(settings.seed, _LEARN, number)
        losses = []
        with apart(settings.seed, _WEIGHTS, number):
            batches = self.simulations.batches(settings.validation, settings.seed, number, settings.batch)
            for step, batch in enumerate(batches, (number - 1) * self.steps):
                losses.append(self._step(step, self._checked(batch), randomness))
        held_out = self._judge()
        if held_out < self.best_loss:
            self.best, self.best_loss = number, held_out
            self.kept = _copied(self.average.state_dict())
        mean = float(torch.stack(losses).mean())
        rate, seconds = self.optimizer.param_groups[0]["lr"], time.monotonic() - self.started
        self.history.append(Row(number, mean, held_out, rate, seconds))

    def state(self) -> State:
        return {
            "settings": asdict(self.settings),
            "weights": _copied(self.estimator.state_dict()),
            "average": _copied(self.average.state_dict()),
            "optimizer": copy.deepcopy(self.optimizer.state_dict()),
            "kept": _copied(self.kept),
            "best": self.best,
            "best_loss": self.best_loss,
            "history": [row._asdict() for row in self.history],
            "simulations": self.simulations.used(len(self.history)),
            "finished": self.finished,
        }

    def load(self, state: State) -> None:
        now, then = asdict(self.settings), state["settings"]
        changed = [f"{name} was {then.get(name)}, is {now[name]}" for name in now if now[name] != then.get(name)]
        if changed:
            raise InputError(
                f"training cannot go on with other settings: {'; '.join(changed)}; start anew, or restore them"
            )
        _loaded(self.estimator, state["weights"])
        self.average = copy.deepcopy(self.estimator)
        _loaded(self.average, state["average"])
        self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
        self.kept = _copied(state["kept"])
        self.best, self.best_loss = state["best"], state["best_loss"]
        self.history = [Row(**row) for row in state["history"]]

    def result(self) -> Trained:
        if not self.best:
            raise InputError(
                f"training: the held-out loss was not finite in any of {len(self.history)} epochs: expected "
                "simulations on a scale that their kind describes; look for extreme values, or lower the rate"
            )
        self.estimator.load_state_dict(self.kept)
        self.estimator.eval().requires_grad_(False)
        return Trained(self.estimator, self.history, self.best, self.simulations.used(len(self.history)))

    def _step(self, step: int, batch: Pairs, randomness: torch.Generator) -> Tensor:
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.rate_at(step, self.epochs * self.steps)
        self.optimizer.zero_grad()
        loss = self.estimator.loss(*batch, randomness).mean()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.weights, self.settings.clip)
        # One impossible batch must not spoil the weights; a loss that stays so is reported at the end.
        if torch.isfinite(norm):
            self.optimizer.step()
            self._follow(step)
        return loss.detach()

    def _follow(self, step: int) -> None:
        """Move the average; it forgets its start faster than its decay says."""
        decay = min(self.settings.average, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.estimator.parameters()), 1 - decay)
            for mine, its in zip(self.average.buffers(), self.estimator.buffers(), strict=True):
                mine.copy_(its)

    def _judge(self) -> float:
        randomness = generator(self.settings.seed, _JUDGE)
        self.average.eval()
        theta, x = self.held_out
        with torch.no_grad(), apart(self.settings.seed, _JUDGE):
            losses = [self.average.loss(*pair, randomness) for pair in _pieces(theta, x)]
        mean = float(torch.cat(losses).mean())
        return mean if mean == mean else float("inf")

    def _checked(self, pairs: Pairs) -> Pairs:
        theta, x = pairs
        self.estimator.theta_space.check(theta, "simulated parameters")
        self.estimator.data_space.check(x, "simulated data")
        return pairs


def _pieces(theta: Tensor, x: Tensor) -> Iterator[Pairs]:
    """About equal ones: a ratio cannot be judged on a last piece of one row."""
    count = max(1, len(theta) // _JUDGED)
    return zip(theta.tensor_split(count), x.tensor_split(count), strict=True)


def _copied(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in weights.items()}


def _loaded(estimator: Estimator, weights: dict[str, Tensor]) -> None:
    try:
        estimator.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError("training state: expected one of this estimator, but the weights do not fit") from error
