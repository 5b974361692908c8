"""Which kind of file holds the models: a Python file, or the JSON of a pyhf workspace."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nuppl.language.model import Model

__all__ = ["models_of"]


def models_of(file: str) -> dict[str, Model]:
    """The models of a file by name, in the order written; of a workspace, its measurements.

    Raises:
        InputError: see `load_models` and `workspaces`.
    """
    if Path(file).suffix == ".json":
        from nuppl.experiments.workspace import workspaces

        return workspaces(file)
    from nuppl.language.loading import load_models

    return load_models(file)
