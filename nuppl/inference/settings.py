"""What a user may choose about an engine, the same for all of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from nuppl.errors import InputError, unknown

__all__ = ["GUIDES", "OWN", "Settings"]


OWN = ("chains", "draws", "warmup")
"""Settings of which every engine has a number of its own."""


GUIDES = ("laplace", "prior", "svi", "tempered")
"""Guides whose draws `importance` weights."""


@dataclass(frozen=True)
class Settings:
    """Choices for one run.

    Attributes:
        seed: the root seed.
        chains: independent chains, islands, or batches of proposals; 0 is the engine's own number.
        draws: kept per chain; 0 is the engine's own number.
        warmup: adaptation steps per chain (hmc, nuts), optimisation steps (svi); 0 is the engine's own number.
        proposals: guide draws per chain (importance).
        particles: per island (smc, and the guide tempered).
        guide: whose draws are weighted (importance): laplace, which finds structure and modes by itself; tempered, a
            population brought there from the prior; svi; prior.
        marginalize: what to integrate in closed form (smc, hmc): "auto", "none", or names of sites with commas.
        scratch: a folder for draws and checkpoints, with which an interrupted engine goes on; nothing is kept where
            None.
    """

    seed: int = 0
    chains: int = 0
    draws: int = 0
    warmup: int = 0
    proposals: int = 2500
    particles: int = 128
    guide: str = "laplace"
    marginalize: str = "auto"
    scratch: Path | None = None

    def __post_init__(self) -> None:
        for name, least in (("chains", 1), ("draws", 4), ("warmup", 1), ("proposals", 4), ("particles", 4)):
            value = getattr(self, name)
            if value < least and not (value == 0 and name in OWN):
                raise InputError(f"{name}: expected at least {least}, got {value}")
        if self.guide not in GUIDES:
            raise unknown("guide", self.guide, GUIDES)
        if self.seed < 0:
            raise InputError(f"seed: expected a non-negative integer, got {self.seed}")

    def filled(self, **own: int) -> Settings:
        """With the engine's own numbers where 0 was given."""
        return replace(self, **{name: value for name, value in own.items() if not getattr(self, name)})  # type: ignore[arg-type]
