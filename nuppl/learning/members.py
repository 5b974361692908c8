"""The networks of a trained posterior or density, trained one after the other, each with a seed of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from nuppl.neural.estimator import Estimator
from nuppl.neural.registry import Config, build, estimator
from nuppl.neural.seeds import derived
from nuppl.neural.settings import Training
from nuppl.neural.simulations import Fixed
from nuppl.neural.training import State, train
from nuppl.results.checkpoints import Checkpoints
from nuppl.sampling.settings import Settings
from nuppl.typing import Progress

__all__ = ["History", "trained_members", "training"]

_GENTLE: dict[str, float] = {"batch": 256, "rate": 2e-3, "decay": 0.1, "patience": 12}
"""Training where an estimate of the latents was read from the data: little is left to learn, and much to overfit."""

_DECAYED = 1_000
"""Simulations for which an estimator states its weight decay."""

History = list[list[dict[str, float]]]
"""Of each member the numbers of each epoch."""


def training(name: str, settings: Settings, stream: int, simulations: int, gentle: bool) -> Training:
    """How an estimator is trained, with the epochs that were asked for and a stream of seeds.

    Weight decay is a prior on the weights: beside n simulations it counts as 1 / n.
    """
    own = {**estimator(name).training_defaults, **(_GENTLE if gentle else {})}
    chosen = Training(**{**own, "seed": derived(settings.seed, stream)})  # type: ignore[arg-type]
    if not gentle:
        chosen = replace(chosen, decay=chosen.decay * min(1.0, _DECAYED / simulations))
    return replace(chosen, epochs=settings.epochs, least_steps=0) if settings.epochs else chosen


def trained_members(
    config: Config, pairs: Fixed, chosen: Training, seeds: Mapping[str, int], store: Checkpoints, progress: Progress
) -> tuple[list[Estimator], History]:
    """One network for each {name of its checkpoint: seed}."""
    members, history = [], []
    for key, seed in seeds.items():

        def save(state: State, key: str = key) -> None:
            if store.due() or state["finished"]:
                store.save(key, state)

        network = build(config, seed)
        mine = replace(chosen, seed=seed)
        done = train(network, pairs, mine, state=store.load(key), save=save, progress=progress)
        members.append(done.estimator)
        # Without the time, which differs from run to run.
        history.append([{n: v for n, v in row._asdict().items() if n != "seconds"} for row in done.history])
    return members, history
