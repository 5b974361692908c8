"""Distributions that Pyro lacks: log-uniform, and simulators that can be sampled but have no density."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.transforms import ExpTransform

from nuppl.errors import InputError

__all__ = ["LogUniform", "Simulator"]


class LogUniform(dist.TransformedDistribution):  # type: ignore[misc]
    """Uniform in the logarithm: p(x) = 1 / (x log(high/low)) for low <= x <= high.

    Arguments:
        low, high: the bounds with shape (*), 0 < low < high.

    Raises:
        InputError: bounds that are not positive and increasing.

    >>> x = torch.tensor(0.1, dtype=torch.float64)
    >>> round(float((LogUniform(1e-3, 10.0).log_prob(x).exp() * x).reciprocal().exp()), 6)
    10000.0
    """

    arg_constraints = {"low": constraints.positive, "high": constraints.positive}

    def __init__(self, low: Any, high: Any, validate_args: bool | None = None) -> None:
        low, high = torch.as_tensor(low, dtype=torch.float64), torch.as_tensor(high, dtype=torch.float64)
        if not bool(((low > 0) & (high > low)).all()):
            raise InputError(f"LogUniform: expected 0 < low < high, got low={low.tolist()}, high={high.tolist()}")
        self.low, self.high = torch.broadcast_tensors(low, high)
        base = dist.Uniform(low.log(), high.log(), validate_args=False)
        super().__init__(base, [ExpTransform()], validate_args=validate_args)

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self) -> Any:
        """The closed interval [low, high]."""
        return constraints.interval(self.low, self.high)

    @property
    def mean(self) -> Tensor:
        """(high - low) / log(high/low)."""
        return (self.high - self.low) / (self.base_dist.high - self.base_dist.low)  # type: ignore[no-any-return]

    def expand(self, batch_shape: Any, _instance: Any = None) -> LogUniform:
        """The same distribution with a larger batch shape."""
        new = self._get_checked_instance(LogUniform, _instance)
        new.low, new.high = self.low.expand(batch_shape), self.high.expand(batch_shape)
        return super().expand(batch_shape, _instance=new)  # type: ignore[no-any-return]


class Simulator(TorchDistribution):  # type: ignore[misc]
    """A data site that can be drawn but whose density is not known.

    Arguments:
        draw: takes `parameters`, each broadcast to one batch shape (*), and returns draws with shape (*, *event_shape);
            all randomness from torch.
        parameters: tensors that broadcast against each other.
        event_shape: the shape of one draw.

    A batch in which `draw` raises is bisected: only the lanes that fail become NaN. `log_prob` raises InputError.

    >>> noisy = Simulator(lambda mu: mu[..., None] + torch.randn(*mu.shape, 3), torch.zeros(5), event_shape=(3,))
    >>> tuple(noisy.sample().shape)
    (5, 3)
    """

    arg_constraints: dict[str, Any] = {}
    has_rsample = False

    def __init__(self, draw: Callable[..., Tensor], *parameters: Any, event_shape: tuple[int, ...] = ()) -> None:
        self.draw = draw
        self.parameters = torch.broadcast_tensors(*[torch.as_tensor(p) for p in parameters])
        shape = self.parameters[0].shape if parameters else torch.Size()
        super().__init__(shape, torch.Size(event_shape), validate_args=False)

    @constraints.dependent_property(is_discrete=False)
    def support(self) -> Any:
        """All real events."""
        return constraints.independent(constraints.real, len(self.event_shape))

    def expand(self, batch_shape: Any, _instance: Any = None) -> Simulator:
        """The same simulator with its parameters repeated over a larger batch shape."""
        parameters = [p.expand(batch_shape) for p in self.parameters]
        if not parameters:
            raise InputError("Simulator: expected at least one parameter tensor, since its shape carries the batch")
        return Simulator(self.draw, *parameters, event_shape=tuple(self.event_shape))

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws with shape (*sample_shape, *batch, *event); failed lanes are NaN."""
        shape = torch.Size(sample_shape) + self.batch_shape
        flat = [p.detach().expand(shape).reshape(-1) for p in self.parameters]
        errors: list[Exception] = []
        with torch.no_grad():
            drawn = self._draw(flat, errors)
        if errors and len(drawn) > 1 and bool(drawn.isnan().all()):
            error = errors[-1]
            raise InputError(f"simulator: every one of {len(drawn)} lanes failed, the last with: {error}") from error
        return drawn.reshape(shape + self.event_shape)

    def _draw(self, flat: list[Tensor], errors: list[Exception]) -> Tensor:
        count = len(flat[0])
        try:
            drawn = self.draw(*flat)
        except Exception as error:
            errors.append(error)
            if count == 1:
                return torch.full((1, *self.event_shape), torch.nan)
            halves = [p[: count // 2] for p in flat], [p[count // 2 :] for p in flat]
            return torch.cat([self._draw(half, errors) for half in halves])
        if drawn.shape != (count, *self.event_shape):
            raise InputError(
                f"simulator: expected draws with shape {(count, *self.event_shape)}, got {tuple(drawn.shape)}"
            )
        return drawn

    def log_prob(self, value: Tensor) -> Tensor:
        """Not available: raises InputError."""
        raise InputError("this data site is a simulator without density")
