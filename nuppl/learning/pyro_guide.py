"""A trained posterior as a Pyro guide: it samples every latent of a model, given whatever data the model has.

    noise ~ N(0, 1)^D  ->  network  ->  whitened latents u  ->  T(u)

The noise is an auxiliary site, and so is u, whose log density holds the Jacobian of the network; each latent is a Delta
whose log density holds that of its whitening. Together they are log q(latents | data), as in Pyro's own AutoGuides.
Networks enter by `pyro.module`: `SVI` goes on training them, on the program's density.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.poutine.handlers import block
from torch import Tensor, nn

from nuppl.errors import InputError
from nuppl.language.density import Whitened
from nuppl.language.layout import Layout
from nuppl.language.model import Model
from nuppl.language.plates import PLATE_DIMS, plate
from nuppl.language.precision import double_precision
from nuppl.language.program import Program
from nuppl.language.table import Site
from nuppl.language.transport import transport
from nuppl.learning.amortised import Amortised
from nuppl.learning.neural_files import read_guide, restore
from nuppl.learning.neural_guide import NeuralGuide
from nuppl.learning.simulated import whitened_layout
from nuppl.sampling.target import log_normal

__all__ = ["TrainedGuide", "guide"]


@double_precision()
def guide(model: Model, run: str | Path, data: Mapping[str, Any] | None = None) -> TrainedGuide:
    """The network of a run as a Pyro guide of a model, for `SVI`, `Predictive` and `Importance`.

    Arguments:
        model: the model that it was trained on, with the same or other data.
        run: a run of npe, fmpe or npse.
        data: replaces what the model observes, {site: value}; then condition the model on them as well.

    Raises:
        InputError: no such run, or a network of another model or for data of another shape; says what differs.
    """
    folder = Path(run)
    program = model.bind(data=data)
    name = str(read_guide(folder)["config"]["estimator"])
    return TrainedGuide(model, restore(folder, name, program, _posterior(program)), data)


class TrainedGuide(nn.Module):
    """A guide; called with the arguments of its model, options that choose other data among them.

    Attributes:
        model: whose latents it samples.
        networks: their weights are parameters of the guide.
    """

    def __init__(self, model: Model, amortised: Amortised, data: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.model, self.data = model, dict(data or {})
        self._amortised = amortised
        self._last: tuple[dict[str, Any], _Bound] | None = None
        self.networks = nn.ModuleList(amortised.members).requires_grad_(True)

    def given(self, data: Mapping[str, Any]) -> TrainedGuide:
        """The same networks, weights shared, for other data {site: value}."""
        return TrainedGuide(self.model, self._amortised, data)

    @double_precision()
    def forward(self, **options: Any) -> dict[str, Tensor]:
        """Sample every latent of the model: {site: value}."""
        bound = self._bound(options)
        pyro.module(f"{self.model.name}_guide", self.networks)
        noise = self._auxiliary("noise", dist.Normal(torch.zeros(bound.layout.dim), 1.0).to_event(1))
        lanes = noise.reshape(-1, bound.layout.dim)
        u, log_q = self._point(bound, lanes)
        change = (log_q - log_normal(lanes)).reshape(noise.shape[:-1])
        point = self._auxiliary("point", dist.Delta(u.reshape(noise.shape), change, event_dim=1))
        batch = bound.outside(tuple(noise.shape[:-1]))
        found = bound.latents(point.reshape(-1, bound.layout.dim))
        return {name: self._latent(bound, name, *pair, batch) for name, pair in found.items()}

    def _auxiliary(self, what: str, distribution: Any) -> Tensor:
        name = f"_{self.model.name}_{what}"
        return pyro.sample(name, distribution, infer={"is_auxiliary": True})  # type: ignore[no-any-return]

    def _point(self, bound: _Bound, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Whitened latents and their log density, of noise with shape (n, D)."""
        outer, marginal = bound.outer, bound.marginal
        first, second = noise.split([len(outer.loc), noise.shape[1] - len(outer.loc)], 1)
        z, log_q = self._answers(first, outer.context)
        x = outer.loc + z @ outer.factor.T
        log_q = log_q - outer.factor.diagonal().log().sum()
        if marginal is None:
            return x, log_q
        u, log_inner = marginal.drawn(x, second)
        return u, log_q + log_inner

    def _answers(self, noise: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """The networks' z and the log density of their mixture there, of noise with shape (n, d)."""
        members: list[Any] = list(self.networks)
        if len(members) == 1:
            return members[0].transported(noise, context)  # type: ignore[no-any-return]
        uniform = dist.Categorical(torch.ones(len(noise), len(members)))
        # Not a site: the mixture's own density counts, whichever member drew.
        chosen = uniform.sample()
        each = torch.stack([member.transported(noise, context)[0] for member in members])
        z = each.gather(0, chosen[None, :, None].expand(1, *noise.shape))[0]
        log_q = torch.stack([member.log_prob(z, context) for member in members]).logsumexp(0)
        return z, log_q - math.log(len(members))

    def _latent(self, bound: _Bound, name: str, value: Tensor, change: Tensor, batch: tuple[int, ...]) -> Tensor:
        """One latent with its plates; value with shape (n, *full_shape), change with shape (n, *batch)."""
        site = bound.program.latents[name]
        plates = site.batch[PLATE_DIMS - bound.depth :]
        if not batch:  # no empty axes on the left then, as in the model itself
            plates = site.plain_shape[: len(site.plain_shape) - len(site.event)]
        shape = (*batch, *plates)
        fn = dist.Delta(value.reshape((*shape, *site.event)), change.reshape(shape), event_dim=len(site.event))
        with ExitStack() as stack:
            for axis in site.axes:
                if axis.dim is not None:
                    stack.enter_context(plate(axis.name, axis.size, dim=axis.dim))
            found: Tensor = pyro.sample(name, fn)
        return found

    def _bound(self, options: dict[str, Any]) -> _Bound:
        if self._last is None or not _same(self._last[0], options):
            with block():  # the sites of the survey are none of the guide's
                self._last = options, _Bound(self.model.bind(options, data=self.data), self._amortised)
        return self._last[1]


class _Bound:
    """A program with its data, and what the network reads of them.

    Attributes:
        depth: how many axes, counted from the right, the plates of the program may use.
    """

    def __init__(self, program: Program, amortised: Amortised) -> None:
        self.program = program
        self.layout: Layout = whitened_layout(program)
        self.outer: NeuralGuide = amortised.outer(program)
        whitened = _posterior(program)
        self.marginal = None if whitened is None else amortised.of(whitened)
        self.depth = -min((axis.dim or 0 for site in program.sites.values() for axis in site.axes), default=0)

    def outside(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The part of a batch shape that lies left of the program's own plates.

        Raises:
            InputError: a plate around the guide whose axis is one of the program's.
        """
        first = max(len(shape) - self.depth, 0)
        if any(size > 1 for size in shape[first:]):
            raise InputError(
                f"guide of {self.program.model.name!r}: expected plates around it left of its own, with dim below "
                f"{-self.depth}, got the batch shape {shape}"
            )
        return shape[:first]

    def latents(self, u: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """At u with shape (n, D), {site: (value (n, *full_shape), -log |dT/du| (n, *batch))}."""
        blocks = self.layout.cut(u)
        found: dict[str, tuple[Tensor, Tensor]] = {}

        def visit(msg: Any, site: Site) -> None:
            if site.kind == "data":
                msg["value"] = self.program.data_lanes(site)
                return
            mapping, point = transport(msg["fn"]), blocks[site.name]
            value = msg["value"] = mapping.forward(point)
            change = msg["fn"].log_prob(value) - mapping.log_density(point, value)
            found[site.name] = value.expand(len(u), *site.full_shape), change.expand(len(u), *site.batch)

        self.program.run(visit)
        return found


def _posterior(program: Program) -> Whitened | None:
    return Whitened(program) if all(site.has_density for site in program.data_sites.values()) else None


def _same(some: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether options are the same; tensors are not compared number by number."""
    return some.keys() == other.keys() and all(
        some[name] is other[name] or (not isinstance(some[name], Tensor) and some[name] == other[name]) for name in some
    )
