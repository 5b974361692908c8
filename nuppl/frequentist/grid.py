"""The points of a scan."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nuppl.errors import InputError, unknown
from nuppl.language.program import Program

__all__ = ["Axis", "Grid"]


@dataclass(frozen=True)
class Axis:
    """One scanned parameter.

    Attributes:
        name: of its site.
        values: ascending, with shape (k,), in its own unit.
        log: whether they are evenly spaced in the logarithm.
    """

    name: str
    values: Tensor
    log: bool

    @property
    def edges(self) -> Tensor:
        """Of the cells around the values with shape (k + 1,), halfway to the neighbours."""
        x = self.values.log() if self.log else self.values
        middle = 0.5 * (x[1:] + x[:-1])
        ends = torch.cat([2 * x[:1] - middle[:1], middle, 2 * x[-1:] - middle[-1:]])
        return ends.exp() if self.log else ends


@dataclass(frozen=True)
class Grid:
    """All combinations of the values of some axes, the last running fastest.

    Attributes:
        axes: at least one.
    """

    axes: tuple[Axis, ...]

    @classmethod
    def over(cls, program: Program, asked: Sequence[str], counts: Sequence[int]) -> Grid:
        """A grid over parameters, each `NAME` for its whole range or `NAME=LOW:HIGH`.

        Arguments:
            program: whose parameters they are.
            asked: one or more.
            counts: values per axis; one for all, or one each.

        Raises:
            InputError: not a parameter of the program, outside its bounds, or too few values.
        """
        if not asked:
            raise InputError("a scan: expected at least one parameter, got none")
        if len(counts) not in (1, len(asked)):
            raise InputError(
                f"grid: expected one number of points, or one for each of {len(asked)} parameters, got {len(counts)}"
            )
        several = list(counts) * (len(asked) if len(counts) == 1 else 1)
        axes = tuple(_axis(program, text, count) for text, count in zip(asked, several, strict=True))
        names = [axis.name for axis in axes]
        if len(set(names)) < len(names):
            raise InputError(f"a scan: expected different parameters, got {', '.join(names)}")
        return cls(axes)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the parameters."""
        return tuple(axis.name for axis in self.axes)

    @property
    def shape(self) -> tuple[int, ...]:
        """Points along each axis."""
        return tuple(len(axis.values) for axis in self.axes)

    def levels(self) -> Iterator[tuple[Tensor, Tensor]]:
        """From coarse to fine: points that are new at a level with shape (n,), and two known ones around each, (n, 2).

        At the coarsest level nothing is known, and these have shape (n, 0).
        """
        index = torch.cartesian_prod(*(torch.arange(count) for count in self.shape)).reshape(self.size, -1)
        weights = torch.tensor([math.prod(self.shape[axis + 1 :]) for axis in range(len(self.shape))])
        most = torch.tensor(self.shape) - 1
        strides = [2**level for level in range(max(1, int(most.max()).bit_length() - 2))][::-1]
        known = torch.zeros(self.size, dtype=torch.bool)
        for stride in strides:
            new = (index % stride == 0).all(1) & ~known
            coarse = 2 * stride
            low = index[new] // coarse * coarse
            high = torch.minimum(low + torch.where(index[new] > low, coarse, 0), most // coarse * coarse)
            around = torch.stack([(low * weights).sum(1), (high * weights).sum(1)], 1)
            compact = _interleaved(index[new]).argsort()
            yield new.nonzero()[compact, 0], (around[:, :0] if stride == strides[0] else around)[compact]
            known |= new

    @property
    def size(self) -> int:
        """Points G."""
        return math.prod(self.shape)

    @property
    def points(self) -> Tensor:
        """All of them with shape (G, K)."""
        return torch.stack([x.reshape(-1) for x in torch.meshgrid(*(a.values for a in self.axes), indexing="ij")], 1)

    @property
    def coordinates(self) -> Tensor:
        """Their coordinates with shape (G, K): logarithms where an axis is spaced in the logarithm."""
        return self.to_coordinates(self.points)

    def to_coordinates(self, values: Tensor) -> Tensor:
        """Coordinates of values, both with shape (n, K)."""
        log = torch.tensor([axis.log for axis in self.axes])
        return torch.where(log, torch.where(log, values, 1.0).log(), values)

    @property
    def log_volumes(self) -> Tensor:
        """Logarithms of the weights of the trapezoidal rule in these coordinates, with shape (G,)."""
        parts = []
        for axis in self.axes:
            x = axis.values.log() if axis.log else axis.values
            width = torch.zeros_like(x)
            width[1:] += 0.5 * x.diff()
            width[:-1] += 0.5 * x.diff()
            parts.append(width.log())
        return torch.stack([x.reshape(-1) for x in torch.meshgrid(*parts, indexing="ij")]).sum(0)

    def nearest(self, values: Tensor) -> Tensor:
        """Numbers with shape (n,) of the points next to values with shape (n, K)."""
        found = torch.zeros(len(values), dtype=torch.long)
        for axis, x in zip(self.axes, values.T, strict=True):
            inner = torch.searchsorted(axis.edges[1:-1].contiguous(), x.contiguous())
            found = found * len(axis.values) + inner
        return found

    def neighbours(self) -> Iterator[Tensor]:
        """For each direction, the number of the next point with shape (G,); at an edge, its own."""
        numbers = torch.arange(self.size).reshape(self.shape)
        for dim in range(len(self.shape)):
            first, last = numbers.narrow(dim, 0, 1), numbers.narrow(dim, self.shape[dim] - 1, 1)
            inner = self.shape[dim] - 1
            yield torch.cat([numbers.narrow(dim, 1, inner), last], dim).reshape(-1)
            yield torch.cat([first, numbers.narrow(dim, 0, inner)], dim).reshape(-1)


def _interleaved(index: Tensor) -> Tensor:
    """The bits of several indices with shape (n, K), taken in turns: neighbours in this order lie in compact blocks."""
    bits = int(index.max()).bit_length()
    return sum(
        ((index[:, axis] >> bit) & 1) << (bit * index.shape[1] + axis)
        for bit in range(bits)
        for axis in range(index.shape[1])
    ) + torch.zeros(len(index), dtype=torch.int64)


def _axis(program: Program, text: str, count: int) -> Axis:
    name, _, span = text.strip().partition("=")
    if name not in program.latents:
        held = f" ({name!r} is held)" if name in program.fixed else ""
        raise unknown("parameter" + held, name, program.latents)
    site = program.latents[name]
    if site.size != 1:
        raise InputError(f"parameter {name!r}: expected a single number to scan, got {site.size} of them")
    if count < 2:
        raise InputError(f"grid: expected at least 2 points for {name!r}, got {count}")
    bounds = (float(site.lower), float(site.upper)) if site.kind == "parameter" else (-math.inf, math.inf)
    low, high = _span(name, span, bounds)
    log = site.distribution == "LogUniform"
    ends = (math.log(low), math.log(high)) if log else (low, high)
    values = torch.linspace(*ends, count, dtype=torch.float64)
    # The ends themselves, not the exponentials of their logarithms, which may lie outside.
    return Axis(name, (values.exp() if log else values).clamp(low, high), log)


def _span(name: str, text: str, bounds: tuple[float, float]) -> tuple[float, float]:
    if not text:
        if not all(map(math.isfinite, bounds)):
            raise InputError(f"parameter {name!r} has no finite bounds: expected a range, as in {name}=-3:3")
        return bounds
    try:
        low, high = map(float, text.split(":"))
    except ValueError:
        raise InputError(f"range of {name!r}: expected LOW:HIGH, got {text!r}") from None
    if not low < high:
        raise InputError(f"range of {name!r}: expected LOW below HIGH, got {text}")
    if low < bounds[0] or high > bounds[1]:
        raise InputError(
            f"range of {name!r}: expected values within its bounds {bounds[0]:g} to {bounds[1]:g}, got {text}"
        )
    return low, high
