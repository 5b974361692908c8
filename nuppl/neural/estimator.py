"""What a trained network can be asked: three protocols, and the border between them and the rest of the house.

    Guide        q(theta | x)       sample(x, n, generator), log_prob(theta, x)
    Likelihood   q(x | theta)       sample(theta, generator), log_prob(x, theta)
    Ratio        q(x | theta) / q(x) up to a factor of x       log_ratio(theta, x)

All have loss(theta, x, generator), which training lowers. A new estimator subclasses one of the three in a file of its
own, and gets a row in `registry` and in the tests. At the border all is float64 and in the users' units; the methods
with an underscore see standardised float32 numbers. Batch axes broadcast from the right.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from nuppl.errors import InputError
from nuppl.neural.embeddings import Embedding
from nuppl.neural.standardize import Standardize

__all__ = ["Estimator", "Guide", "Likelihood", "Ratio", "normal_log_density"]

_CHUNK = 16_384
"""Rows at a time."""


class Estimator(nn.Module, ABC):
    """Base of all.

    Arguments:
        theta_space, data_space: the maps of parameters and data.

    Attributes:
        training_defaults: settings of `training.Training` that suit this estimator.
    """

    training_defaults: dict[str, int | float | str] = {}

    def __init__(self, theta_space: Standardize, data_space: Standardize) -> None:
        super().__init__()
        self.theta_space = theta_space
        self.data_space = data_space
        if any(field.ragged for field in theta_space.fields):
            raise InputError("parameters: expected fields of fixed size, got a set of variable size")

    def fit_spaces(self, theta: Tensor, x: Tensor) -> None:
        """Learn the scales of parameters with shape (n, D) and data with shape (n, X)."""
        self.theta_space.fit(theta)
        self.data_space.fit(x)

    @abstractmethod
    def loss(self, theta: Tensor, x: Tensor, generator: torch.Generator) -> Tensor:
        """What to lower, with shape (n,), for parameters with shape (n, D) and data with shape (n, X)."""


class Reader(Estimator):
    """What reads data through an embedding.

    Arguments:
        embedding: of the data; its own map is the data space.
    """

    def __init__(self, theta_space: Standardize, embedding: Embedding) -> None:
        super().__init__(theta_space, embedding.data)
        self.embedding = embedding

    def _context(self, x: Tensor) -> Tensor:
        """Features with shape (*, C) of data with shape (*, X)."""
        self.data_space.check(x, "data")
        features: Tensor = self.embedding(x.reshape(-1, x.shape[-1]))
        return features.reshape(*x.shape[:-1], -1)


class Guide(Reader):
    """A density of parameters given data."""

    @property
    def dimension(self) -> int:
        """Parameters D."""
        return self.theta_space.width

    def sample(self, x: Tensor, n: int, generator: torch.Generator) -> Tensor:
        """Draws with shape (*, n, D) given data with shape (*, X).

        Raises:
            InputError: data of another shape than trained on, or not finite.
        """
        return self._draws(x, n, generator, density=False)[0]

    def sample_with_log_prob(self, x: Tensor, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The draws of `sample` and their log density with shape (*, n), for the price of one of them."""
        return self._draws(x, n, generator, density=True)

    def log_prob(self, theta: Tensor, x: Tensor) -> Tensor:
        """The log density with shape (*) of parameters with shape (*, D) given data with shape (*, X).

        Raises:
            InputError: parameters or data of another shape than trained on, or not finite.
        """
        self.theta_space.check(theta, "parameters")
        context = self._context(x)
        shape = torch.broadcast_shapes(theta.shape[:-1], context.shape[:-1])
        rows = _rows(self.theta_space(theta), shape), _rows(context, shape)
        inside = _in_chunks(self._log_density, *rows)[0].reshape(shape)
        return inside.double() + self.theta_space.log_slope(theta).sum(-1)

    @abstractmethod
    def _log_density(self, z: Tensor, context: Tensor) -> tuple[Tensor]:
        """The log density with shape (N,) at standardised parameters (N, D) given a context (N, C)."""

    @abstractmethod
    def _push(self, noise: Tensor, context: Tensor, density: bool) -> tuple[Tensor, Tensor]:
        """Standard normals (N, D) to standardised parameters (N, D), and their log density (N,) if asked, or zeros."""

    def transported(self, noise: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """What standard normals with shape (*, D) become given data with shape (*, X): parameters and log density.

        Gradients reach the weights, so that a program can learn them.
        """
        return self._carried(noise, self._context(x), density=True)

    def _draws(self, x: Tensor, n: int, generator: torch.Generator, density: bool) -> tuple[Tensor, Tensor]:
        shape = (*x.shape[:-1], n, self.dimension)
        noise = torch.randn(*shape, generator=generator, dtype=torch.float32)
        return self._carried(noise, self._context(x).unsqueeze(-2), density)

    def _carried(self, noise: Tensor, context: Tensor, density: bool) -> tuple[Tensor, Tensor]:
        shape = torch.broadcast_shapes(noise.shape[:-1], context.shape[:-1])
        rows = _rows(noise.to(context), shape), _rows(context, shape)
        z, inside = _in_chunks(lambda e, c: self._push(e, c, density), *rows)
        theta = self.theta_space.inverse(z).reshape(*shape, self.dimension)
        if not density:
            return theta, inside
        return theta, inside.double().reshape(shape) + self.theta_space.log_slope(theta).sum(-1)


class Likelihood(Estimator):
    """A density, or a probability for counts and labels, of data given parameters."""

    def __init__(self, theta_space: Standardize, data_space: Standardize) -> None:
        super().__init__(theta_space, data_space)
        ragged = [field.name for field in data_space.fields if field.ragged]
        if ragged:
            raise InputError(
                f"data field {ragged[0]!r} is a set of variable size: a likelihood estimator needs data of fixed size; "
                "use a guide or a ratio"
            )

    def sample(self, theta: Tensor, generator: torch.Generator) -> Tensor:
        """One data set with shape (*, X) for each of the parameters with shape (*, D)."""
        self.theta_space.check(theta, "parameters")
        rows = _rows(self.theta_space(theta), theta.shape[:-1])
        return self._simulate(rows, generator).reshape(*theta.shape[:-1], self.data_space.width)

    def log_prob(self, x: Tensor, theta: Tensor) -> Tensor:
        """The log density with shape (*) of data with shape (*, X) given parameters with shape (*, D)."""
        self.theta_space.check(theta, "parameters")
        self.data_space.check(x, "data")
        shape = torch.broadcast_shapes(theta.shape[:-1], x.shape[:-1])
        rows = _rows(x.double(), shape), _rows(self.theta_space(theta), shape)
        return _in_chunks(self._log_density, *rows)[0].double().reshape(shape)

    @abstractmethod
    def _log_density(self, x: Tensor, z: Tensor) -> tuple[Tensor]:
        """The log density with shape (N,) at data (N, X), in the users' units, given standardised parameters (N, D)."""

    @abstractmethod
    def _simulate(self, z: Tensor, generator: torch.Generator) -> Tensor:
        """Data (N, X), in the users' units, given standardised parameters (N, D)."""


class Ratio(Reader):
    """The log of p(x | theta) / p(x), up to a term that depends on the data alone."""

    def log_ratio(self, theta: Tensor, x: Tensor) -> Tensor:
        """The log ratio with shape (*) of parameters with shape (*, D) and data with shape (*, X)."""
        self.theta_space.check(theta, "parameters")
        context = self._context(x)
        shape = torch.broadcast_shapes(theta.shape[:-1], context.shape[:-1])
        rows = _rows(self.theta_space(theta), shape), _rows(context, shape)
        return _in_chunks(lambda z, c: (self._logit(z, c),), *rows)[0].double().reshape(shape)

    @abstractmethod
    def _logit(self, z: Tensor, context: Tensor) -> Tensor:
        """The log ratio with shape (*) of standardised parameters (*, D) and a context (*, C)."""


def normal_log_density(z: Tensor, scale: float = 1.0) -> Tensor:
    """Independent normals of one scale: values with shape (*, D) to the log density with shape (*)."""
    standard = -0.5 * (z / scale).square() - 0.5 * torch.log(torch.tensor(2 * torch.pi * scale**2)).to(z)
    return standard.sum(-1)


def _rows(values: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Values with shape (*, K) broadcast to a batch shape, as rows (N, K)."""
    return values.expand(*shape, values.shape[-1]).reshape(-1, values.shape[-1])


def _in_chunks(function: Callable[[Tensor, Tensor], tuple[Tensor, ...]], a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
    parts = [function(*pair) for pair in zip(a.split(_CHUNK), b.split(_CHUNK), strict=True)]
    return tuple(torch.cat(part) for part in zip(*parts, strict=True))
