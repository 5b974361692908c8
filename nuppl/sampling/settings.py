"""What a user may choose about an engine, the same for all of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from nuppl.errors import InputError, unknown

__all__ = ["GUIDE", "GUIDES", "OWN", "Settings"]


OWN = ("chains", "draws", "warmup")
"""Settings of which every engine has a number of its own."""


GUIDES = ("laplace", "prior", "svi", "tempered")
"""Guides whose draws `importance` weights."""


GUIDE = "guide.json"
"""What marks the folder of a run that trained a guide."""

_LEAST = {
    "chains": 1,
    "draws": 4,
    "warmup": 1,
    "proposals": 4,
    "particles": 4,
    "simulations": 1,
    "epochs": 0,
    "ensemble": 1,
    "rounds": 1,
}


@dataclass(frozen=True)
class Settings:
    """Choices for one run.

    Attributes:
        seed: the root seed.
        chains: independent chains, islands, or batches of proposals; 0 is the engine's own number.
        draws: kept per chain; 0 is the engine's own number.
        warmup: adaptation steps per chain (hmc, nuts), optimisation steps (svi); 0 is the engine's own number.
        proposals: guide draws per chain (importance, npe, fmpe, npse).
        particles: per island (smc, and the guide tempered).
        guide: whose draws are weighted (importance): laplace, which finds structure and modes by itself; tempered, a
            population brought there from the prior; svi; prior. For neural engines the folder
            of a run whose trained network serves, without training.
        simulations: from which a network learns (npe, fmpe, npse, nle, nre, bnre): how many to draw, or the folder of
            a store.
        epochs: passes over them; 0 stops when nothing is gained any more.
        ensemble: networks, whose mixture is the guide or the surrogate.
        rounds: in which these simulations are made, each where the last says that the posterior is. With more than one
            the network serves these data only.
        marginalize: what to integrate in closed form (smc, hmc): "auto", "none", or names of sites with commas.
        scratch: a folder for draws and checkpoints, with which an interrupted engine goes on; nothing is kept where
            None.
        kept: a folder for a trained network; it is not kept where None.
    """

    seed: int = 0
    chains: int = 0
    draws: int = 0
    warmup: int = 0
    proposals: int = 2500
    particles: int = 128
    guide: str = "laplace"
    simulations: int | str = 10_000
    epochs: int = 0
    ensemble: int = 1
    rounds: int = 1
    marginalize: str = "auto"
    scratch: Path | None = None
    kept: Path | None = None

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if not isinstance(value, str) and value < least and not (value == 0 and name in OWN):
                raise InputError(f"{name}: expected at least {least}, got {value}")
        if self.guide not in GUIDES and not (Path(self.guide) / GUIDE).is_file():
            found = unknown("guide", self.guide, GUIDES)
            raise InputError(
                f"{found}; or the folder of a run of npe, fmpe or npse, or of a surrogate, which holds {GUIDE}"
            )
        if isinstance(self.simulations, str) and self.rounds > 1:
            raise InputError(f"rounds: a store of simulations is of the prior, expected 1, got {self.rounds}")
        if self.seed < 0:
            raise InputError(f"seed: expected a non-negative integer, got {self.seed}")

    @property
    def in_rounds(self) -> tuple[int | str, int]:
        """The simulations of the first round, and how many of each further one.

        >>> Settings(simulations=1001, rounds=2).in_rounds, Settings(simulations="sims").in_rounds
        ((501, 500), ('sims', 0))
        """
        if isinstance(self.simulations, str):
            return self.simulations, 0
        each, rest = divmod(self.simulations, self.rounds)
        return each + rest, each

    def filled(self, **own: int) -> Settings:
        """With the engine's own numbers where 0 was given."""
        return replace(self, **{name: value for name, value in own.items() if not getattr(self, name)})  # type: ignore[arg-type]
