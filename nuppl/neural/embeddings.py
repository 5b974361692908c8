"""Data of any shape to a vector that conditions a density: one module per field, side by side.

Sets: deep sets, rho(sum_i phi(x_i)) (Zaheer et al., arXiv:1703.06114), and attention without positions, pooled by
learned queries (Lee et al., Set Transformer, arXiv:1810.00825). Missing members have no influence at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from nuppl.errors import InputError, unknown
from nuppl.neural.fields import Field
from nuppl.neural.networks import Residual
from nuppl.neural.standardize import Standardize

__all__ = ["EMBEDDINGS", "MLP", "Attention", "Convolution", "DeepSet", "Embedding", "default"]

FEATURES = 32
"""Numbers that a compressed field becomes."""

_PLAIN = 128
"""Fields up to this size enter a density as they are."""

_LINEAR = 5.0
"""Standard deviations within which data enter as they are; beyond they are compressed, never cut."""


class MLP(nn.Module):
    """A residual network on the flattened field.

    Arguments:
        shape: of the field.
    """

    def __init__(self, shape: tuple[int, ...], features: int = FEATURES, width: int = 128, depth: int = 2) -> None:
        super().__init__()
        self.network = Residual(math.prod(shape), features, width=width, depth=depth)

    def forward(self, x: Tensor) -> Tensor:
        """Values with shape (n, *shape) to features with shape (n, F)."""
        y: Tensor = self.network(x.reshape(len(x), -1))
        return y


class Convolution(nn.Module):
    """Convolutions in one or two dimensions, halved in size until small, then one linear layer.

    Arguments:
        shape: (length,) or (channels, length); in two dimensions (rows, columns) or (channels, rows, columns).
        dimensions: 1 or 2.
    """

    def __init__(self, shape: tuple[int, ...], dimensions: int, features: int = FEATURES, width: int = 16) -> None:
        super().__init__()
        if len(shape) not in (dimensions, dimensions + 1):
            raise InputError(
                f"a convolution in {dimensions} dimension(s) needs a field with {dimensions} axes, or one more for "
                f"channels, got shape {shape}"
            )
        self.axes = dimensions
        channels = shape[0] if len(shape) > dimensions else 1
        sizes = list(shape[-dimensions:])
        convolve = nn.Conv1d if dimensions == 1 else nn.Conv2d
        layers: list[nn.Module] = []
        while min(sizes) > 3 and len(layers) < 10:
            layers += [convolve(channels, width, 3, stride=2, padding=1), nn.SiLU()]
            sizes = [(size + 1) // 2 for size in sizes]
            channels, width = width, 2 * width
        self.network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * math.prod(sizes), features))

    def forward(self, x: Tensor) -> Tensor:
        """Values with shape (n, *shape) to features with shape (n, F)."""
        y: Tensor = self.network(x.unsqueeze(1) if x.ndim == self.axes + 1 else x)
        return y


class DeepSet(nn.Module):
    """Mean and log of the number of members, each through a network; the order of members does not matter.

    Arguments:
        shape: (members, features) of the field.
    """

    def __init__(self, shape: tuple[int, ...], features: int = FEATURES, width: int = 64) -> None:
        super().__init__()
        self.member = Residual(shape[-1], width, width=width, depth=1)
        self.pooled = Residual(width + 1, features, width=width, depth=1)

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        """Members with shape (n, M, f), and which are there with shape (n, M), to features with shape (n, F)."""
        count = present.sum(1, keepdim=True).float()
        total = (self.member(x) * present.unsqueeze(-1)).sum(1)
        y: Tensor = self.pooled(torch.cat((total / count.clamp(min=1), torch.log1p(count) / 3), -1))
        return y


class Attention(nn.Module):
    """Members attend to each other, learned queries to all of them.

    Arguments:
        shape: (members, features) of the field.
    """

    def __init__(
        self, shape: tuple[int, ...], features: int = FEATURES, width: int = 64, heads: int = 4, queries: int = 2
    ) -> None:
        super().__init__()
        self.enter = nn.Linear(shape[-1], width)
        self.among = nn.MultiheadAttention(width, heads, batch_first=True)
        self.member = Residual(width, width, width=width, depth=1)
        self.queries = nn.Parameter(torch.randn(queries, width) / math.sqrt(width))
        self.pool = nn.MultiheadAttention(width, heads, batch_first=True)
        self.pooled = Residual(queries * width + 1, features, width=width, depth=1)

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        """Members with shape (n, M, f), and which are there with shape (n, M), to features with shape (n, F)."""
        count = present.sum(1, keepdim=True)
        # A query needs someone to look at: of an empty set it sees one member, whose answer is then taken away.
        absent = ~present & (count > 0)
        h = self.enter(x)
        h = h + self.among(h, h, h, key_padding_mask=absent, need_weights=False)[0]
        h = h + self.member(h)
        queries = self.queries.expand(len(x), -1, -1)
        seen = self.pool(queries, h, h, key_padding_mask=absent, need_weights=False)[0].flatten(1) * (count > 0)
        y: Tensor = self.pooled(torch.cat((seen, torch.log1p(count.float()) / 3), -1))
        return y


def _cnn1(shape: tuple[int, ...]) -> nn.Module:
    return Convolution(shape, 1)


def _cnn2(shape: tuple[int, ...]) -> nn.Module:
    return Convolution(shape, 2)


class _Identity(nn.Module):
    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), -1)


EMBEDDINGS: dict[str, Callable[[tuple[int, ...]], nn.Module]] = {
    "identity": _Identity,
    "mlp": MLP,
    "cnn1": _cnn1,
    "cnn2": _cnn2,
    "deepset": DeepSet,
    "attention": Attention,
}
"""Constructors by name, each of a field's shape."""

_SETS = ("deepset", "attention")


def default(field: Field) -> str:
    """Small fields as they are, larger ones compressed, sets as sets.

    >>> default(Field("x", (8,))), default(Field("counts", (8, 26))), default(Field("events", (50, 3), ragged=True))
    ('identity', 'mlp', 'deepset')
    """
    if field.ragged:
        return "deepset"
    return "identity" if field.size <= _PLAIN else "mlp"


class Embedding(nn.Module):
    """One module per field; their outputs side by side.

    Arguments:
        data: the fitted map of the data; applied first.
        modules: by field, a name of `EMBEDDINGS` or any module: it takes values with shape (n, *shape), for a set also
            which members are there with shape (n, members), and gives (n, features). `default` where not given.

    Raises:
        InputError: an unknown field or name, or a module that gives something else.
    """

    def __init__(self, data: Standardize, modules: Mapping[str, str | nn.Module] | None = None) -> None:
        super().__init__()
        self.data = data
        given = dict(modules or {})
        for name in given:
            if name not in [field.name for field in data.fields]:
                raise unknown("data field", name, [field.name for field in data.fields])
        self.parts = nn.ModuleList(_module(field, given.get(field.name) or default(field)) for field in data.fields)
        self.parts.float()
        self.features = self._features()

    def forward(self, x: Tensor) -> Tensor:
        """Data with shape (n, X) to features with shape (n, C)."""
        z = _compressed(self.data(x))
        parts = zip(self.data.split(z), self.data.fields, self.parts, strict=True)
        return torch.cat([_embed(module, part, field) for part, field, module in parts], -1)

    def _features(self) -> int:
        blank = torch.zeros(2, self.data.width)
        total = 0
        for part, field, module in zip(self.data.split(blank), self.data.fields, self.parts, strict=True):
            with torch.no_grad():
                y = _embed(module, part, field)
            if y.ndim != 2 or len(y) != 2:
                raise InputError(
                    f"embedding of {field.name!r}: expected features with shape (n, F) of data with shape (n, "
                    f"{', '.join(map(str, field.shape))}), got {tuple(y.shape)} for n = 2"
                )
            total += y.shape[1]
        return total


def _module(field: Field, given: str | nn.Module) -> nn.Module:
    if isinstance(given, nn.Module):
        return given
    if given not in EMBEDDINGS:
        raise unknown("embedding", given, EMBEDDINGS)
    if field.ragged != (given in _SETS):
        fitting = _SETS if field.ragged else [name for name in EMBEDDINGS if name not in _SETS]
        kind = "a set of variable size" if field.ragged else "not a set of variable size"
        raise InputError(f"field {field.name!r} is {kind}: expected one of {', '.join(fitting)}, got {given!r}")
    return EMBEDDINGS[given](field.shape)


def _embed(module: nn.Module, part: Tensor, field: Field) -> Tensor:
    if not field.ragged:
        y: Tensor = module(part)
        return y
    present = ~part.isnan().any(-1)
    # Not a product: NaN times zero is NaN.
    y = module(torch.where(present.unsqueeze(-1), part, 0.0), present)
    return y


def _compressed(z: Tensor) -> Tensor:
    """Identity within five standard deviations, logarithmic beyond: an outlier cannot drown the rest."""
    beyond = z.abs() - _LINEAR
    return torch.where(beyond > 0, z.sign() * (_LINEAR + torch.log1p(beyond.clamp(min=0))), z)
