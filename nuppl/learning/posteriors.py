"""Posteriors of many data sets, for calibration: one protocol, and its two implementations.

`Posteriors` is all that `nuppl.diagnostics.calibration` knows of an engine:

    posteriors(data, truth, count, seed, number) -> Drawn

with data of n data sets side by side, shape (n, M), in the order of `simulated.data_fields`, and the whitened latents
that they were drawn with, shape (n, D). A new kind of engine either implements it over a batch of data sets, as
`NetworkPosteriors` does for a trained guide, or needs nothing, as `RepeatedEngine` runs any function of
`registry.engine` on one data set after the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from nuppl.errors import InputError
from nuppl.language.density import Whitened
from nuppl.language.program import Program
from nuppl.language.simulation import tile_seed
from nuppl.language.table import Site
from nuppl.language.transport import transport
from nuppl.learning.amortised import Amortised, entering, read
from nuppl.learning.neural_guide import context
from nuppl.learning.simulated import whitened_layout
from nuppl.neural.continuous import ContinuousGuide
from nuppl.results.draws import Draws
from nuppl.sampling.settings import Settings
from nuppl.typing import Progress, Values, silent

__all__ = [
    "Drawn",
    "Engine",
    "NetworkPosteriors",
    "Posteriors",
    "RepeatedEngine",
    "interest_columns",
    "whitened_values",
]

_STREAM, _ENGINE_STREAM = 41 << 24, 42 << 24

_DENSITIES = 24
"""Draws of a network that integrates in time of which the density is asked for."""

Engine = Callable[[Program, Settings, Progress], Draws]
"""What `registry.engine` returns."""


class Drawn(NamedTuple):
    """Draws of n posteriors, L of each; NaN where a data set gave none.

    Attributes:
        u: the whitened latents of interest, with shape (n, L, d), in the order of `interest_columns`.
        own: the posteriors' own log density at the first K of the draws and at the truth, with shapes (n, K) and (n,);
            None where it is not known. Of a network it is that of all latents that it knows.
        log_p: the program's log density of all latents at all draws and at the truth, up to a term of the data; None
            where there is none.
    """

    u: Tensor
    own: tuple[Tensor, Tensor] | None = None
    log_p: tuple[Tensor, Tensor] | None = None


class Posteriors(Protocol):
    """The posteriors of any data sets."""

    @property
    def batch(self) -> int:
        """Data sets to ask for at a time."""
        ...

    def __call__(self, data: Tensor, truth: Tensor, count: int, seed: int, number: int) -> Drawn:
        """Draws of the posteriors of n data sets.

        Arguments:
            data: with shape (n, M).
            truth: all whitened latents, with shape (n, D), at which log densities are wanted beside the draws.
            count: L, draws of each.
            seed: the root seed.
            number: of the batch, a stream of random numbers.
        """
        ...


@dataclass(frozen=True, eq=False)
class NetworkPosteriors:
    """What a trained network says by itself, without weights, for a batch of data sets at once.

    Attributes:
        amortised: the network, with all its members.
        program: of which it is.
        whitened: its posterior, where the program's density is wanted at the draws; only for a network that knows all
            latents, else it would take the other latents' draws.
        batch: data sets at a time.

    Raises:
        InputError: a network that learned in rounds for one data set.
    """

    amortised: Amortised
    program: Program
    whitened: Whitened | None = None
    batch: int = 64

    def __post_init__(self) -> None:
        if self.amortised.observed is not None:
            raise InputError(
                "this network learned in rounds, near the posterior of one data set, and serves no other: expected one "
                "trained with --rounds 1"
            )

    @torch.no_grad()
    def __call__(self, data: Tensor, truth: Tensor, count: int, seed: int, number: int) -> Drawn:
        """Draws and densities, as `Posteriors`."""
        known = self.amortised
        estimate = read(known.reading, data)
        mean, log_scale = known.anchor(estimate)
        seen = context(mean, estimate, entering(known.config.data[1:], data))
        generator = torch.Generator().manual_seed(tile_seed(seed, _STREAM, number))
        z, log_q = self._sample(seen, count, generator)
        u = mean[:, None] + log_scale.exp()[:, None] * z.double()
        volume = log_scale.sum(1)
        there = known.network.log_prob((truth[:, known.columns] - mean) * (-log_scale).exp(), seen).double() - volume
        places = torch.searchsorted(known.columns, interest_columns(self.program))
        return Drawn(u[:, :, places], (log_q.double() - volume[:, None], there), self._log_p(u, truth, data))

    def _sample(self, seen: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Answers with shape (n, L, d), and log densities with shape (n, K): those of a flow in time are dear."""
        network = self.amortised.network
        if not isinstance(self.amortised.members[0], ContinuousGuide):
            return network.sample_with_log_prob(seen, count, generator)
        z = network.sample(seen, count, generator)
        return z, network.log_prob(z[:, :_DENSITIES], seen[:, None])

    def _log_p(self, u: Tensor, truth: Tensor, data: Tensor) -> tuple[Tensor, Tensor] | None:
        if self.whitened is None or self.amortised.marginal is not None:
            return None
        both = torch.cat([u, truth[:, None]], 1)
        rows, count = both.reshape(-1, both.shape[2]), both.shape[1]
        found = _log_p(self.whitened, rows, data.repeat_interleave(count, 0)).reshape(-1, count)
        return found[:, :-1], found[:, -1]


@dataclass(frozen=True, eq=False)
class RepeatedEngine:
    """An engine run on each data set: slow, and what the result of a run with its settings is worth.

    Attributes:
        engine: the function.
        program: with any data.
        settings: of every run; seeds apart.
        progress: told of what each run does.
        batch: data sets at a time: one, so that each is kept when it is done.
    """

    engine: Engine
    program: Program
    settings: Settings
    progress: Progress = silent
    batch: int = 1

    def __call__(self, data: Tensor, truth: Tensor, count: int, seed: int, number: int) -> Drawn:
        """Draws and densities, as `Posteriors`; where the engine refuses a data set they are NaN."""
        parts = [
            self._one(values, point, count, tile_seed(seed, _ENGINE_STREAM, number, i))
            for i, (values, point) in enumerate(zip(data, truth, strict=True))
        ]
        u = torch.stack([part.u for part in parts])
        pairs = [part.log_p for part in parts if part.log_p is not None]
        if len(pairs) < len(parts):
            return Drawn(u)
        there, here = (torch.stack(values) for values in zip(*pairs, strict=True))
        return Drawn(u, log_p=(there, here))

    def _one(self, data: Tensor, truth: Tensor, count: int, seed: int) -> Drawn:
        exact = all(site.has_density for site in self.program.data_sites.values())
        try:
            program = self.program.with_(data=_by_site(self.program, data))
            drawn = self.engine(program, replace(self.settings, seed=seed), self.progress)
        except InputError:
            empty = torch.full((count,), torch.nan)
            width = len(interest_columns(self.program))
            return Drawn(empty[:, None].expand(count, width), log_p=(empty, empty[0]) if exact else None)
        u = whitened_values(program, _evenly(drawn, count))
        found = u[:, interest_columns(program)]
        if not exact:
            return Drawn(found)
        with torch.no_grad():
            log_p = Whitened(program).log_prob(torch.cat([u, truth[None]]))
        return Drawn(found, log_p=(log_p[:-1], log_p[-1]))


def interest_columns(program: Program) -> Tensor:
    """Where the interest lies among the whitened latents, with shape (d,), ascending."""
    return torch.tensor(sorted(whitened_layout(program).columns(program.interest)))


def whitened_values(program: Program, values: Values) -> Tensor:
    """The whitened coordinates with shape (n, D) of latents {site: (n, *site)}; no density is needed."""
    layout = whitened_layout(program)
    found: dict[str, Tensor] = {}

    def visit(msg: Any, site: Site) -> None:
        if site.kind == "data":
            msg["value"] = program.data_lanes(site)
            return
        value = msg["value"] = site.lanes(values[site.name])
        block = transport(msg["fn"]).inverse(value)
        found[site.name] = block.reshape(-1, *layout.blocks[site.name].shape)

    with torch.no_grad():
        program.run(visit)
    return layout.pack(found)


def _by_site(program: Program, data: Tensor) -> dict[str, Tensor]:
    """Data with shape (*, M), side by side, as {site: (*, *site)}."""
    shapes = {name: site.shape for name, site in program.data_sites.items()}
    parts = data.split([math.prod(shape) for shape in shapes.values()], -1)
    return {name: part.reshape((*data.shape[:-1], *shapes[name])) for name, part in zip(shapes, parts, strict=True)}


def _log_p(whitened: Whitened, u: Tensor, data: Tensor) -> Tensor:
    """The log density with shape (n,), at points with shape (n, D), each with data of its own."""
    pieces = zip(u.split(whitened.chunk), data.split(whitened.chunk), strict=True)
    return torch.cat([whitened.log_prob(part, _by_site(whitened.program, seen)) for part, seen in pieces])


def _evenly(drawn: Draws, count: int) -> dict[str, Tensor]:
    """So many draws of all chains, evenly spaced."""
    chains, draws = drawn.shape
    numbers = torch.arange(count) * (chains * draws) // count
    return {name: value[numbers] for name, value in drawn.lanes().items()}
