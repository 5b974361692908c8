"""Step and length of the trajectories of many chains, from what all of them do.

The step follows their acceptance. The length maximises ChEES, the change of the squared distance from the mean,
E[(|x' - m|^2 - |x - m|^2)^2] / 4, whose derivative with the length is a mean over chains (Hoffman, Radul and Sountsov,
AISTATS 2021).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from torch import Tensor

from nuppl.sampling.leapfrog import Move
from nuppl.sampling.moves import LENGTH

__all__ = ["MOST_LEAPS", "Tuning"]

_ACCEPT = 0.75
_RATE, _DECAY = 0.025, 0.95
"""Adam's step in the log of the length, and its memory."""

MOST_LEAPS = 50


@dataclass
class Tuning:
    """Step and length of trajectories in standard coordinates, and what their adaptation remembers."""

    step: float
    length: float = LENGTH
    seen: int = 0
    square: float = 0.0
    steps: list[float] = field(default_factory=list)

    def update(self, before: Tensor, move: Move, after: Tensor, jitter: float) -> None:
        """Learn from one trajectory of all chains; `before` and `after` in standard coordinates, shape (n, d)."""
        self.seen += 1
        gain = self.seen**-0.6
        self.step *= math.exp(gain * (float(move.acceptance.mean()) - _ACCEPT))
        self.steps.append(math.log(self.step))
        slope = chees_slope(before, after, move.velocity, move.acceptance) * jitter
        self.square = _DECAY * self.square + (1.0 - _DECAY) * slope**2
        if self.square > 0.0:
            corrected = math.sqrt(self.square / (1.0 - _DECAY**self.seen))
            self.length *= math.exp(_RATE * max(-1.0, min(1.0, slope / corrected)))
        self.length = min(max(self.length, self.step), MOST_LEAPS * self.step)

    def settle(self) -> None:
        """The mean of the last half of the steps, on a log scale."""
        late = self.steps[len(self.steps) // 2 :]
        self.step = math.exp(sum(late) / len(late))


def chees_slope(before: Tensor, after: Tensor, velocity: Tensor, acceptance: Tensor) -> float:
    """The derivative of the criterion with the length, up to a factor; chains count by their acceptance."""
    share = acceptance / acceptance.sum().clamp(min=1e-12)
    then, now = before - before.mean(0), after - share @ after
    change = now.square().sum(1) - then.square().sum(1)
    slope = change * (now * velocity).sum(1)
    return float((share * slope.nan_to_num(0.0, 0.0, 0.0)).sum())
