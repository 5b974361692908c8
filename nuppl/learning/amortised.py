"""A network trained on a program's simulations, from which the posterior of any data set follows without training.

    data -> estimate (`reading`) -> network q(z | estimate, data) -> u = m + s z -> the program's latents

Where the program has structure the network knows the outer latents of its marginal (`marginal`), and the inner ones are
drawn back in closed form; else it knows all latents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nuppl.errors import InputError
from nuppl.language.density import Whitened
from nuppl.language.program import Program
from nuppl.learning.members import History, trained_members, training
from nuppl.learning.neural_guide import NeuralGuide, Posterior, context
from nuppl.learning.reading import Anchor, Reading, fitted_reading
from nuppl.learning.simulated import Simulated, data_fields, flat_data, simulated, whitened_layout
from nuppl.neural.ensemble import ensemble
from nuppl.neural.estimator import Estimator
from nuppl.neural.fields import Field
from nuppl.neural.registry import Config
from nuppl.neural.seeds import derived
from nuppl.neural.simulations import Fixed
from nuppl.results.checkpoints import Checkpoints
from nuppl.sampling.marginal import Marginal
from nuppl.sampling.settings import Settings
from nuppl.sampling.structure import target_of
from nuppl.typing import Progress

__all__ = ["Amortised", "Problem", "trained"]

_WHOLE = 128
"""Data of up to so many numbers enter the network whole, beside what was read from them."""

_LIGHT: dict[str, dict[str, int | float]] = {
    "fmpe": {"width": 64, "steps": 16},
    "npe": {"transforms": 3, "width": 32},
    "npse": {"width": 64},
}
"""And smaller networks, with fewer steps of integration: paths to a near-normal posterior are smooth."""

_TRAINING = 31
"""The stream of seeds of the networks."""


@dataclass(frozen=True, eq=False)
class Amortised:
    """A trained posterior.

    Attributes:
        config: of the networks.
        members: at least one.
        columns: the whitened latents that it knows, with shape (d,).
        reading: what is read from data first; None for data of which only a network can make something.
        anchor: what the reading leaves.
        marginal: how the other latents follow; None if there are none.
        history: of the training.
        simulations: that succeeded.
        failed: that did not.
        observed: with shape (M,), the only data that it serves, if it learned in rounds.
    """

    config: Config
    members: Sequence[Estimator]
    columns: Tensor
    reading: Reading | None
    anchor: Anchor
    marginal: Marginal | None
    history: History
    simulations: int
    failed: int
    observed: Tensor | None = None

    @property
    def network(self) -> Posterior:
        """The member, or the mixture of all."""
        found = self.members[0] if len(self.members) == 1 else ensemble(self.members)
        return found  # type: ignore[return-value]

    def outer(self, program: Program) -> NeuralGuide:
        """The posterior of the latents that the network knows, given the program's data.

        Raises:
            InputError: other data than those that it learned for in rounds.
        """
        data = flat_data(program)[None]
        if self.observed is not None and not torch.equal(data[0], self.observed):
            raise InputError(
                "this network learned in rounds, near the posterior of one data set, and serves no other: train one "
                "with --rounds 1 for these data"
            )
        raw = entering(self.config.data[1:], data)
        return NeuralGuide.given(self.network, self.anchor, read(self.reading, data), raw)

    def of(self, whitened: Whitened) -> Marginal | None:
        """The marginal with the data of a program."""
        return self.marginal and replace(self.marginal, whitened=whitened, data=flat_data(whitened.program))


@dataclass(frozen=True, eq=False)
class Problem:
    """What a network is to learn of a program.

    Attributes:
        program: what is simulated.
        whitened: its posterior; None for a program without density.
        name: of the estimator.
        settings: of the training.
        marginal: where the program has structure.
        columns: the whitened latents that the network is to know, with shape (d,).
    """

    program: Program
    whitened: Whitened | None
    name: str
    settings: Settings
    marginal: Marginal | None
    columns: Tensor

    @classmethod
    def of(
        cls, program: Program, whitened: Whitened | None, name: str, settings: Settings, progress: Progress
    ) -> Problem:
        """With the structure of the program."""
        target = None if whitened is None else target_of(whitened, settings, progress)
        marginal = target if isinstance(target, Marginal) else None
        columns = torch.arange(whitened_layout(program).dim) if marginal is None else marginal.outer
        return cls(program, whitened, name, settings, marginal, columns)

    def learned(self, sims: Simulated, store: Checkpoints, progress: Progress) -> Amortised:
        """What networks learn from simulations.

        Raises:
            InputError: fewer simulations than a batch.
        """
        chosen = training(self.name, self.settings, _TRAINING, len(sims.u), gentle=self.whitened is not None)
        Fixed(sims.u, sims.data).steps(chosen.validation, chosen.batch)
        reading = fitted_reading(self.whitened, self.marginal, self.columns, data_fields(self.program), sims)
        estimate = store.once("estimates", lambda: {"estimate": read(reading, sims.data)})["estimate"]
        anchor = Anchor.fit(estimate, sims.u)
        mean, log_scale = anchor(estimate)
        fields = data_fields(self.program)
        raw = fields if reading is None or sims.data.shape[1] <= _WHOLE else ()
        seen = context(mean, estimate, entering(raw, sims.data))
        summary = Field("summary", (mean.shape[1] + estimate.shape[1],))
        options = _LIGHT.get(self.name, {}) if self.whitened is not None else {}
        config = Config(self.name, (Field("z", (len(self.columns),)),), (summary, *raw), options=options)
        pairs = Fixed((sims.u - mean) * (-log_scale).exp(), seen)
        seeds = {f"network-{number}": derived(chosen.seed, number) for number in range(self.settings.ensemble)}
        members, history = trained_members(config, pairs, chosen, seeds, store, progress)
        return Amortised(
            config, members, self.columns, reading, anchor, self.marginal, history, len(sims.u), sims.failed
        )


def trained(
    program: Program, whitened: Whitened | None, name: str, settings: Settings, progress: Progress
) -> Amortised:
    """Simulate a program and train an estimator on it.

    Arguments:
        whitened: the posterior; None for a program without density.
        name: of the estimator.

    Raises:
        InputError: all simulations failed, or fewer of them than a batch.
    """
    problem = Problem.of(program, whitened, name, settings, progress)
    store = Checkpoints(settings.scratch)
    sims = simulated(program, settings.simulations, settings.seed, problem.columns, store, progress)
    return problem.learned(sims, store, progress)


def read(reading: Reading | None, data: Tensor) -> Tensor:
    """Estimates with shape (n, k), of data with shape (n, M)."""
    return data[:, :0] if reading is None else reading(data)


def entering(raw: Sequence[Field], data: Tensor) -> Tensor:
    """What of the data enters the network as it is: all or nothing."""
    return data if raw else data[:, :0]
