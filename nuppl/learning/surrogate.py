"""A network in the place of data sites: a model whose likelihood was learned, for every engine, fit and scan.

    p(x | latents)  ->  q(x | u),   u the whitened latents that the network knows

Latents that it does not know are no longer in the model: what they do to the data is in q. Where all data sites are
replaced the program itself runs once, to learn its priors; after that nothing of its physics is evaluated.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyro
import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor

from nuppl.errors import InputError
from nuppl.language.model import Model
from nuppl.language.plates import PLATE_DIMS, plate
from nuppl.language.precision import double_precision
from nuppl.language.program import Program
from nuppl.language.transport import transport
from nuppl.learning.learned import Learned
from nuppl.learning.surrogate_plan import Plan, Recorded, planned
from nuppl.learning.surrogate_site import Joint, LearnedDensity
from nuppl.results.draws import Draws

__all__ = ["Surrogate", "described", "stand_in", "surrogate"]

_FARTHEST = 8.0
"""Whitened coordinates beyond this are the same to any prior, and infinite at the edge of a bounded one."""


class Surrogate(Model):
    """A model with a network in the place of data sites; made by `surrogate`.

    Attributes:
        original: the model it was.
        learned_sites: the data sites.
    """

    def __init__(self, original: Model, sites: tuple[str, ...], estimator: str | Path | Learned, name: str) -> None:
        @functools.wraps(original.function)
        def function(**options: Any) -> Any:
            plan = self.plan(options)
            if plan.live:
                with _Replaced(plan):
                    return original.function(**options)
            return _run(plan)

        function.__name__ = name
        super().__init__(
            function, original.interest, None, original.panels, original.starts, original.sources, original.file
        )
        self.original, self.learned_sites, self.estimator = original, sites, estimator
        self._plans: dict[str, Plan] = {}

    def raised(self, error: BaseException) -> bool:
        """Whether an error came out of the original's file."""
        return self.original.raised(error)

    def where(self, error: BaseException) -> str:
        """The line of the original's file."""
        return self.original.where(error)

    def plan(self, options: Mapping[str, Any]) -> Plan:
        """What stands in for the program with these options; made once.

        Raises:
            InputError: a site that is not there, or a network of another model or of other sites.
        """
        chosen = {**self.original.options, **options}
        key = repr(sorted(chosen.items()))
        if key not in self._plans:
            with pyro.poutine.block(), double_precision():
                self._plans[key] = planned(self.original, chosen, self.learned_sites, self.estimator)
            # What was held while the network learned is no longer there.
            held = self._plans[key].learned.fixed
            self.interest = tuple(each for each in self.original.interest if each not in held)
        return self._plans[key]


def surrogate(
    model: Model, site: str | Sequence[str], estimator: str | Path | Learned, *, name: str | None = None
) -> Surrogate:
    """The model with a network in the place of a data site.

    What the network conditions on is what it was trained on: all latents, or those that are left once near-linear pulls
    are integrated. The other latents are no longer in the model. The network is read when the model first runs.

    Arguments:
        model: the model.
        site: the data site, or all those that the network stands for.
        estimator: the run of an engine that learned a density of data (nle, nre, bnre), or what `learning.learn` gives.
        name: of the new model; the old one with `_surrogate` unless given.

    Raises:
        InputError: when it runs: a site that is not there, or a network of another model or of other sites.
    """
    sites = (site,) if isinstance(site, str) else tuple(site)
    return Surrogate(model, sites, estimator, name or f"{model.name}_surrogate")


def stand_in(program: Program, learned: Learned) -> Program:
    """A program with a network in the place of the data sites that it learned, with the program's data."""
    model = Surrogate(program.model, learned.sites, learned, f"{program.model.name}_surrogate")
    return Program(model, program.options, {}, program.data, program.outside)


def described(program: Program, draws: Draws) -> Draws:
    """The draws of an engine, with what a network in the program means for them.

    The integral of a ratio, or of a density of a summary, is no evidence and is taken out.
    """
    if not isinstance(program.model, Surrogate):
        return draws
    learned = program.model.plan(program.options).learned
    attrs = {**draws.attrs, "surrogate": f"{learned.config.estimator} of {', '.join(learned.sites)}"}
    if learned.no_evidence:
        attrs = {name: value for name, value in attrs.items() if not name.startswith("log_evidence")}
        attrs["evidence"] = learned.no_evidence
    return Draws(draws.values, draws.stats, attrs, draws.engine)


def _run(plan: Plan) -> None:
    """The program without its physics: priors, then the learned density."""
    blocks = [_whitened(each.fn, _stated(each, each.fn)) for each in plan.latents.values()]
    joint = _joint(plan, blocks)
    for number, each in enumerate(plan.data.values()):
        _stated(each, _learned(plan, joint, number, each.fn))


def _stated(each: Recorded, fn: Any) -> Tensor:
    with ExitStack() as stack:
        for frame in each.frames:
            axis = plate(frame.name, frame.coords or frame.size, dim=frame.dim, unit=frame.unit)
            stack.enter_context(axis)
        return pyro.sample(each.name, fn, infer=dict(each.infer), obs=each.value)  # type: ignore[no-any-return]


def _joint(plan: Plan, blocks: Sequence[Tensor]) -> Joint:
    lanes = max(len(block) for block in blocks)
    u = torch.cat([block.expand(lanes, -1) for block in blocks], 1)[:, plan.places]
    return Joint(plan.learned, u, plan.memory)


def _learned(plan: Plan, joint: Joint, number: int, fn: Any) -> LearnedDensity:
    shape = tuple(fn.batch_shape)[-PLATE_DIMS:]
    return LearnedDensity(joint, plan.fields, number, (*shape, *fn.event_shape), len(fn.event_shape))


def _whitened(fn: Any, value: Tensor) -> Tensor:
    """The whitened coordinates of a latent, with shape (n or 1, size), finite and with a finite gradient everywhere."""
    mapping = transport(fn)
    if not mapping.exact:
        u = mapping.inverse(value)
        return u.reshape(u.shape[0] if u.dim() > PLATE_DIMS + len(mapping.event_shape) else 1, -1)
    with torch.no_grad():
        flat = mapping.inverse(value).nan_to_num(0.0, _FARTHEST, -_FARTHEST).clamp(-_FARTHEST, _FARTHEST)
        inside = flat.abs() < _FARTHEST
    safe = value if bool(inside.all()) else torch.where(inside, value, mapping.forward(torch.zeros_like(flat)))
    u = torch.where(inside, mapping.inverse(safe), flat)
    event = len(mapping.event_shape)
    lanes = u.shape[0] if u.dim() > PLATE_DIMS + event else 1
    return u.reshape(lanes, -1)


class _Replaced(Messenger):  # type: ignore[misc]
    """The program itself, with the learned density in the place of some sites and without the latents it integrated."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan
        self.blocks: dict[str, Tensor] = {}
        self.joint: Joint | None = None

    def _pyro_sample(self, msg: Any) -> None:
        name = msg["name"]
        if name in self.plan.hidden:
            msg["value"], msg["done"], msg["stop"] = self.plan.hidden[name], True, True
        elif name in self.plan.learned.sites:
            msg["fn"] = _learned(self.plan, self._joint(name), self.plan.learned.sites.index(name), msg["fn"])

    def _pyro_post_sample(self, msg: Any) -> None:
        if msg["name"] in self.plan.latents:
            self.blocks[msg["name"]] = _whitened(msg["fn"], msg["value"])

    def _joint(self, site: str) -> Joint:
        if self.joint is None:
            missing = [name for name in self.plan.latents if name not in self.blocks]
            if missing:
                raise InputError(f"surrogate for {site!r}: expected the latent {missing[0]!r} before it in the program")
            self.joint = _joint(self.plan, [self.blocks[name] for name in self.plan.latents])
        return self.joint
