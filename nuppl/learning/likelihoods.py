"""Training a likelihood or a ratio on a program's simulations, in one round or several.

In later rounds the simulations stand where the network of the last one says that the posterior is, and the next one
learns from all: p(x | u) does not depend on where u were drawn (Papamakarios, Sterratt, Murray, arXiv:1805.07226), nor
does the shape of a contrastive ratio as a function of u (Hermans, Begy, Louppe, arXiv:1903.04057).
"""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor

from nuppl.errors import InputError
from nuppl.language.density import Whitened
from nuppl.language.precision import double_precision
from nuppl.language.program import Program
from nuppl.learning.learned import Learned, summary
from nuppl.learning.members import trained_members, training
from nuppl.learning.proposing import simulated_at
from nuppl.learning.reading import Reading, fitted_reading
from nuppl.learning.simulated import (
    Simulated,
    data_fields,
    flat_data,
    require_success,
    simulated,
    whitened_layout,
)
from nuppl.learning.surrogate_draws import prior_correction, tempered
from nuppl.neural.fields import Field, width
from nuppl.neural.registry import ESTIMATORS, Config
from nuppl.neural.seeds import derived
from nuppl.neural.simulations import Fixed
from nuppl.neural.training import State
from nuppl.results.checkpoints import Checkpoints
from nuppl.sampling.marginal import Marginal
from nuppl.sampling.settings import Settings
from nuppl.sampling.structure import target_of
from nuppl.typing import Progress, silent

__all__ = ["FAILED", "learn"]

FAILED = 0.01
"""Share of simulations that may fail: what learned from the others knows nothing of where the program fails."""

_MOST = 64
"""Whitened latents that a network can condition on."""

_WHOLE = 128
"""Data of more numbers than this are read before a density of them is learned."""

_LIGHT: dict[str, dict[str, int | float]] = {
    "bnre": {"width": 64},
    "nle": {"transforms": 3, "width": 32},
    "nre": {"width": 64},
}
"""And smaller networks."""

_TRAINING, _PROPOSALS = 32, 33
"""Streams of seeds."""


@double_precision()
def learn(
    program: Program, name: str, settings: Settings, progress: Progress = silent, whitened: Whitened | None = None
) -> Learned:
    """Simulate a program and train an estimator of the density of its data.

    Where some data sites are simulators and others are not, it is of the simulators; else of all.

    Arguments:
        name: of the estimator: "nle", "nre" or "bnre".
        settings: of these seed, simulations, rounds, epochs, ensemble, scratch.
        whitened: the posterior, where the program has one: pulls that act nearly linearly are then integrated.

    Raises:
        InputError: another estimator, too many latents, more than 1 % of the simulations failed, or fewer simulations
            than a batch.
    """
    if name not in ESTIMATORS or ESTIMATORS[name].role == "guide":
        known = ", ".join(each for each, info in ESTIMATORS.items() if info.role != "guide")
        raise InputError(f"estimator {name!r}: expected one that learns the density of data, {known}")
    target = None if whitened is None else target_of(whitened, settings, progress)
    marginal = target if isinstance(target, Marginal) else None
    columns = torch.arange(whitened_layout(program).dim) if marginal is None else marginal.outer
    if len(columns) > _MOST:
        raise InputError(
            f"{name}: expected at most {_MOST} latents to condition on, got {len(columns)}; hold some with --set, or "
            "use npe, which learns where they are and not what they do to the data"
        )
    store = Checkpoints(settings.scratch)
    task = _Task(program, name, settings, store, progress, columns, marginal, whitened)
    return task.rounds()


class _Task:
    """One training, from the first simulation to the last epoch."""

    def __init__(
        self,
        program: Program,
        name: str,
        settings: Settings,
        store: Checkpoints,
        progress: Progress,
        columns: Tensor,
        marginal: Marginal | None,
        whitened: Whitened | None,
    ) -> None:
        self.program, self.name, self.settings, self.store, self.progress = program, name, settings, store, progress
        self.columns, self.marginal, self.whitened = columns, marginal, whitened
        without = [site.name for site in program.data_sites.values() if not site.has_density]
        fields = data_fields(program)
        self.fields = tuple(field for field in fields if not without or field.name in without)
        numbers = torch.arange(width(fields)).split([field.size for field in fields])
        self.places = torch.cat([n for n, field in zip(numbers, fields, strict=True) if field in self.fields])

    def rounds(self) -> Learned:
        """The network after the last round."""
        count = self.settings.rounds
        sims = self._from_prior(self.settings.in_rounds[0])
        reading = self._reading(sims)
        found = self._trained(sims, reading, 0)
        for number in range(1, count):
            sims = self._more(sims, found, number)
            found = self._trained(sims, reading, number)
        return found

    def _from_prior(self, n: int | str) -> Simulated:
        settings = self.settings
        sims = simulated(self.program, n, settings.seed, self.columns, self.store, self.progress)
        require_success(sims, FAILED)
        return sims._replace(data=sims.data[:, self.places])

    def _more(self, sims: Simulated, found: Learned, number: int) -> Simulated:
        """All simulations so far, and those at draws of what the last network takes for the posterior."""
        n = self.settings.in_rounds[1]
        seen = found.seen(flat_data(self.program)[None, self.places])
        correction = prior_correction(self.program, self.columns)

        def density(x: Tensor, rows: Tensor) -> Tensor:
            return found.log_density(seen, x) + correction(x)

        def made() -> State:
            seed = derived(self.settings.seed, _PROPOSALS, number)
            x = tempered(density, 1, n, len(self.columns), seed)[0]
            drawn = simulated_at(self.program, x, self.columns, seed, self.progress)
            return {"u": drawn.u, "data": drawn.data[:, self.places], "failed": drawn.failed, "reasons": drawn.reasons}

        new = self.store.once(f"round-{number}", made)
        reasons = dict(Counter(sims.reasons) + Counter(new["reasons"]))
        together = Simulated(
            torch.cat([sims.u, new["u"]]), torch.cat([sims.data, new["data"]]), sims.failed + new["failed"], reasons
        )
        require_success(together, FAILED)
        return together

    def _reading(self, sims: Simulated) -> Reading | None:
        if self.marginal is None and (sims.data.shape[1] <= _WHOLE or ESTIMATORS[self.name].role == "ratio"):
            return None
        return fitted_reading(self.whitened, self.marginal, self.columns, self.fields, sims)

    def _trained(self, sims: Simulated, reading: Reading | None, number: int) -> Learned:
        key = "estimates" if number == 0 else f"estimates-{number}"
        d = len(self.columns)
        chosen = training(self.name, self.settings, _TRAINING, len(sims.u), gentle=reading is not None)
        Fixed(sims.u, sims.data).steps(chosen.validation, chosen.batch)
        kept = {} if reading is None else self.store.once(key, lambda: {"seen": summary(reading, sims.data, d)})
        fields = self.fields if reading is None else (Field("summary", (d,)),)
        options = {} if reading is None else _LIGHT.get(self.name, {})
        config = Config(self.name, (Field("u", (d,)),), fields, options=options)
        pairs = Fixed(sims.u, kept.get("seen", sims.data))
        seeds = {
            f"network-{member}" if number == 0 else f"network-{number}-{member}": derived(chosen.seed, number, member)
            for member in range(self.settings.ensemble)
        }
        members, history = trained_members(config, pairs, chosen, seeds, self.store, self.progress)
        program = self.program
        return Learned(
            config=config,
            members=members,
            sites=tuple(field.name for field in self.fields),
            latents=tuple(program.latents),
            columns=self.columns,
            reading=reading,
            marginal=self.marginal,
            history=history,
            simulations=len(sims.u),
            failed=sims.failed,
            fixed={name: value.reshape(program.sites[name].shape) for name, value in program.fixed.items()},
            observed=flat_data(program)[self.places] if number else None,
        )
