"""What a user may choose about training, the same for all estimators."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from nuppl.errors import InputError, unknown

__all__ = ["SCHEDULES", "Training"]

_WARMUP = 0.02
"""Share of all steps in which the rate rises from zero."""


def _constant(done: float) -> float:
    return 1.0


def _cosine(done: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * done))


SCHEDULES: dict[str, Callable[[float], float]] = {"constant": _constant, "cosine": _cosine}
"""The share of the learning rate after a share of all steps."""


@dataclass(frozen=True)
class Training:
    """Choices for one training.

    Attributes:
        epochs: at most this many passes; of a small set as many more as `least_steps` asks for.
        least_steps: a set of simulations is passed until there were this many steps, unless it stops early.
        batch: simulations in a step.
        rate: the highest learning rate of Adam.
        schedule: of the rate, one of `SCHEDULES`, after a short rise.
        decay: weight decay (AdamW).
        validation: share of the simulations held out.
        patience: epochs without improvement of the held-out loss after which training stops.
        clip: largest norm of a gradient.
        average: decay of the moving average of the weights per step; 0 for none.
        seed: the root seed.

    Raises:
        InputError: a number out of its range.
    """

    epochs: int = 120
    least_steps: int = 5_000
    batch: int = 128
    rate: float = 1e-3
    schedule: str = "cosine"
    decay: float = 0.0
    validation: float = 0.1
    patience: int = 25
    clip: float = 5.0
    average: float = 0.99
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("least_steps", 0), ("batch", 2), ("patience", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise InputError(f"{name}: expected at least {least}, got {getattr(self, name)}")
        for name in ("rate", "clip"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name}: expected a number above zero, got {getattr(self, name)}")
        if not 0 < self.validation < 1:
            raise InputError(f"validation: expected a share between 0 and 1, got {self.validation}")
        if not 0 <= self.average < 1:
            raise InputError(f"average: expected a decay from 0 to below 1, got {self.average}")
        if self.schedule not in SCHEDULES:
            raise unknown("schedule", self.schedule, SCHEDULES)

    def rate_at(self, step: int, total: int) -> float:
        """The learning rate of one step of so many."""
        rise = min(1.0, (step + 1) / max(1.0, _WARMUP * total))
        return self.rate * rise * SCHEDULES[self.schedule](step / total)
