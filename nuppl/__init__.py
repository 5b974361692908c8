"""nuppl: a probabilistic-programming language for neutrino and particle physics.

Names are loaded when first used, so that the command line answers before torch is imported.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "LogUniform": "language.distributions",
    "Model": "language.model",
    "Simulator": "language.distributions",
    "auxiliary": "language.sites",
    "guide": "learning.pyro_guide",
    "marginalize": "sampling.structure",
    "model": "language.model",
    "observe": "language.sites",
    "open_run": "report.opened",
    "parameter": "language.sites",
    "plate": "language.plates",
    "pull": "language.sites",
    "random_effect": "language.sites",
    "scope": "language.plates",
    "surrogate": "learning.surrogate",
    "workspace": "experiments.workspace",
}

__all__ = [
    "LogUniform",
    "Model",
    "Simulator",
    "auxiliary",
    "guide",
    "marginalize",
    "model",
    "observe",
    "open_run",
    "parameter",
    "plate",
    "pull",
    "random_effect",
    "scope",
    "surrogate",
    "workspace",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"nuppl.{_HOME[name]}"), name)
    raise AttributeError(f"module 'nuppl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
