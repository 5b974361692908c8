"""A learned density on disk: guide.json and guide.pt, as `neural_files` keeps every network."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from nuppl.language.density import Whitened
from nuppl.language.program import Program
from nuppl.learning.learned import Learned
from nuppl.learning.neural_files import (
    marginal_state,
    open_network,
    read_guide,
    reading_state,
    restored_marginal,
    restored_reading,
    write_network,
)
from nuppl.learning.simulated import data_fields
from nuppl.neural.registry import ESTIMATORS

__all__ = ["held_sites", "keep_learned", "restore_learned"]


def keep_learned(folder: Path | None, learned: Learned, program: Program) -> None:
    """Write a learned density.

    Raises:
        RunFolderError: the folder cannot be written.
    """
    if folder is None:
        return
    tensors = {
        "columns": learned.columns,
        "reading": reading_state(learned.reading),
        **marginal_state(learned.marginal),
        **({} if learned.observed is None else {"observed": learned.observed}),
    }
    write_network(folder, learned, {"sites": list(learned.sites)}, tensors, program)


def restore_learned(folder: Path, name: str | None, program: Program, whitened: Whitened | None) -> Learned:
    """A learned density for a program.

    Arguments:
        name: the estimator it must be; any of a density of data where None.
        whitened: the posterior of the program, where it has one.

    Raises:
        InputError: it is of another model or estimator, or for data of another shape; says what differs.
    """
    densities = tuple(each for each, info in ESTIMATORS.items() if info.role != "guide")
    said, config, members, tensors = open_network(folder, (name,) if name else densities, program)
    sites = tuple(said["sites"])
    fields = tuple(field for field in data_fields(program) if field.name in sites)
    return Learned(
        config=config,
        members=members,
        sites=sites,
        latents=tuple(program.latents),
        columns=tensors["columns"],
        reading=restored_reading(tensors["reading"], fields, whitened),
        marginal=restored_marginal(tensors, whitened),
        history=said["training"],
        simulations=int(said["simulations"]),
        failed=int(said["failed"]),
        fixed=held_sites(folder),
        observed=tensors.get("observed"),
    )


def held_sites(folder: Path) -> dict[str, Tensor]:
    """The sites that were held while a network learned, {site: value}."""
    return {
        name: torch.tensor(value, dtype=torch.float64) for name, value in read_guide(folder)["program"]["fixed"].items()
    }
