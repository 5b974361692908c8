"""What a user may choose about an engine, the same for all of them."""

from __future__ import annotations

from dataclasses import dataclass

from nuppl.errors import InputError

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """Choices for one run.

    Attributes:
        seed: the root seed.
        chains: independent chains, or independent batches of proposals.
        draws: kept per chain.
        warmup: adaptation steps per chain (nuts), optimisation steps (svi).
        proposals: guide draws per chain (importance).
        guide: whose draws are weighted (importance): laplace, svi or prior.
    """

    seed: int = 0
    chains: int = 4
    draws: int = 1000
    warmup: int = 500
    proposals: int = 2500
    guide: str = "laplace"

    def __post_init__(self) -> None:
        for name, least in (("chains", 1), ("draws", 4), ("warmup", 1), ("proposals", 4)):
            if getattr(self, name) < least:
                raise InputError(f"{name}: expected at least {least}, got {getattr(self, name)}")
        if self.seed < 0:
            raise InputError(f"seed: expected a non-negative integer, got {self.seed}")
