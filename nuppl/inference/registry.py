"""The engines by name, `smc` a function in `smc.py`. A new one is a file, a row here and a row in the tests."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from nuppl.errors import InputError, unknown

if TYPE_CHECKING:
    from nuppl.language.program import Program
    from nuppl.results.draws import Draws
    from nuppl.sampling.settings import Settings
    from nuppl.typing import Progress

__all__ = ["DEFAULT", "ENGINES", "EngineInfo", "choose", "engine", "resolved"]


class EngineInfo(NamedTuple):
    """One engine, before its module is imported."""

    summary: str
    own: dict[str, int]
    """Its own numbers for settings that were not given."""
    module: str = ""
    """Where its function is, if not in a module of its name."""


ENGINES: dict[str, EngineInfo] = {
    "bnre": EngineInfo(
        "a learned balanced ratio, then smc; weighted by the program where it has a density",
        {"chains": 16, "draws": 256},
        "surrogates",
    ),
    "fmpe": EngineInfo(
        "a network by flow matching, weighted by the program: exact, with evidence",
        {"chains": 4, "draws": 1000},
        "neural",
    ),
    "hmc": EngineInfo(
        "many Hamiltonian chains that tune each other: exact, one mode, many dimensions",
        {"chains": 32, "draws": 300, "warmup": 150},
    ),
    "importance": EngineInfo(
        "a guide's draws weighted by the program: exact, with evidence", {"chains": 4, "draws": 1000, "warmup": 500}
    ),
    "laplace": EngineInfo(
        "a Gaussian at the mode; says how good it is, does not correct it", {"chains": 4, "draws": 1000}
    ),
    "nle": EngineInfo(
        "a learned likelihood, then smc; weighted by the program where it has a density",
        {"chains": 16, "draws": 256},
        "surrogates",
    ),
    "npe": EngineInfo(
        "a network (spline flow) weighted by the program: exact, with evidence", {"chains": 4, "draws": 1000}, "neural"
    ),
    "npse": EngineInfo(
        "a network by diffusion, weighted by the program: exact, with evidence",
        {"chains": 4, "draws": 1000},
        "neural",
    ),
    "nre": EngineInfo(
        "a learned likelihood ratio, then smc; weighted by the program where it has a density",
        {"chains": 16, "draws": 256},
        "surrogates",
    ),
    "nuts": EngineInfo("Pyro's No-U-Turn sampler: exact, slow", {"chains": 4, "draws": 1000, "warmup": 500}),
    "smc": EngineInfo(
        "particles tempered from prior to posterior: exact, with evidence, many modes", {"chains": 16, "draws": 256}
    ),
    "svi": EngineInfo("Pyro's full-rank Gaussian autoguide", {"chains": 4, "draws": 1000, "warmup": 500}),
}
"""Engines by name."""

DEFAULT = "auto"
"""The engine that suits the program, by `choose`."""

_MODERATE = 100
"""Latents up to which tempering from the prior costs seconds."""


def choose(program: Program) -> str:
    """smc up to a hundred latents, importance beyond: its guide needs a mode, smc needs none."""
    latents = sum(site.size for site in program.latents.values())
    return "smc" if latents <= _MODERATE else "importance"


def engine(name: str) -> Callable[[Program, Settings, Progress], Draws]:
    """The function of an engine.

    Raises:
        InputError: an unknown name.
    """
    if name not in ENGINES:
        raise unknown("engine", name, ENGINES)
    module = ENGINES[name].module or name
    function = getattr(importlib.import_module(f"nuppl.inference.{module}"), name)

    @functools.wraps(function)
    def draw(program: Program, settings: Settings, *progress: Progress, **more: Progress) -> Draws:
        from nuppl.learning.surrogate import described

        return described(program, function(program, settings, *progress, **more))

    return draw


def resolved(name: str, settings: Settings) -> Settings:
    """The settings with the engine's own numbers where none were given.

    Raises:
        InputError: numbers that the engine cannot work with.
    """
    from nuppl.sampling.settings import GUIDES, Settings

    found = settings.filled(**ENGINES[name].own)
    learns = ENGINES[name].module in ("neural", "surrogates")
    if found.guide not in GUIDES and not learns:
        raise InputError(f"guide: {name} expected one of {', '.join(GUIDES)}, got the run {found.guide!r}")
    if found.guide in GUIDES and found.guide != Settings.guide and learns:
        raise InputError(
            f"guide: {name} trains a network of its own and expected none, or the folder of a run of {name}, got "
            f"{found.guide!r}; --engine importance weights the draws of {found.guide!r}"
        )
    if found.rounds > 1 and not (learns and found.guide in GUIDES):
        what = f"{name} has none" if not learns else f"the network of {found.guide!r} is trained"
        raise InputError(f"rounds: expected 1, as {what}, got {found.rounds}")
    if (name == "smc" or ENGINES[name].module == "surrogates") and found.chains < 2:
        raise InputError(f"chains: {name} expected at least 2 islands, whose spread is its error, got {found.chains}")
    return found
