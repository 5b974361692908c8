"""The engines by name. A new one is a file, a row here and a row in the conformance test."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from nuppl.errors import unknown

if TYPE_CHECKING:
    from nuppl.inference.settings import Settings
    from nuppl.language.program import Program
    from nuppl.results.draws import Draws
    from nuppl.typing import Progress

__all__ = ["DEFAULT", "ENGINES", "EngineInfo", "engine"]


class EngineInfo(NamedTuple):
    """One engine, before its module is imported."""

    module: str
    summary: str


ENGINES: dict[str, EngineInfo] = {
    "hmc": EngineInfo("hmc", "many Hamiltonian chains that tune each other: exact, one mode, many dimensions"),
    "importance": EngineInfo("importance", "a guide's draws weighted by the program: exact, with evidence"),
    "laplace": EngineInfo("laplace", "a Gaussian at the mode; says how good it is, does not correct it"),
    "nuts": EngineInfo("nuts", "Pyro's No-U-Turn sampler: exact, slow"),
    "smc": EngineInfo("smc", "particles tempered from prior to posterior: exact, with evidence, finds many modes"),
    "svi": EngineInfo("svi", "Pyro's full-rank Gaussian autoguide"),
}
"""Engines by name."""

DEFAULT = "importance"
"""Laplace's guide with exact weights."""


def engine(name: str) -> Callable[[Program, Settings, Progress], Draws]:
    """The function of an engine.

    Raises:
        InputError: an unknown name.
    """
    if name not in ENGINES:
        raise unknown("engine", name, ENGINES)
    module = importlib.import_module(f"nuppl.inference.{ENGINES[name].module}")
    return getattr(module, name)  # type: ignore[no-any-return]
