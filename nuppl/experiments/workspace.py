"""Likelihoods published as pyhf JSON workspaces (HistFactory), as models of nuppl.

L = product over channels and bins of Poisson(n | rate(parameters)) x product of auxiliary measurements, with pyhf's
default interpolation, all constant terms included. Each channel is a data site, each parameter a site by its own name;
the parameter of interest is that of the measurement. In the Bayesian reading, what nothing measures is uniform between
its bounds. Source: pyhf, JOSS 6 (2021) 2823, https://doi.org/10.21105/joss.02823; agreement was proved with 0.7.6.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from nuppl.errors import InputError, unknown
from nuppl.experiments.workspace_files import Measurement, Workspace, read_json, read_workspace
from nuppl.experiments.workspace_parameters import Block, blocks, gather, names_for, settle
from nuppl.experiments.workspace_patch import patched, read_patch
from nuppl.experiments.workspace_rates import Rates
from nuppl.language.model import Model
from nuppl.language.plates import plate
from nuppl.language.sites import observe

__all__ = ["workspace", "workspaces"]


def workspace(
    file: str | Path | Mapping[str, Any],
    measurement: str | None = None,
    patch: str | Path | Sequence[Mapping[str, Any]] | None = None,
) -> Model:
    """The model of a pyhf workspace.

    Arguments:
        file: a JSON file, or what one holds.
        measurement: which of its measurements; the first unless given.
        patch: applied first: a file with a JSON patch, "patchset.json:NAME", or a list of operations.

    Returns:
        A model with a data site per channel (its name made a valid one), one site per parameter, and the auxiliary
        measurements: pulls where they are Gaussian, data sites `<parameter>_measured` where they are Poisson or where a
        bound of the parameter is within reach.

    Raises:
        InputError: a broken workspace; says which channel, sample and modifier, what was expected and what came.

    >>> uncertain = {"name": "rate", "type": "normsys", "data": {"lo": 0.9, "hi": 1.1}}
    >>> free = {"name": "mu", "type": "normfactor", "data": None}
    >>> spec = {
    ...     "channels": [{"name": "region", "samples": [
    ...         {"name": "signal", "data": [5.0, 10.0], "modifiers": [free]},
    ...         {"name": "background", "data": [50.0, 60.0], "modifiers": [uncertain]}]}],
    ...     "observations": [{"name": "region", "data": [57.0, 69.0]}],
    ...     "measurements": [{"name": "strength", "config": {"poi": "mu", "parameters": []}}]}
    >>> list(workspace(spec).bind().sites)
    ['mu', 'rate', 'region']
    """
    read, path = _read(file, patch)
    names = [each.name for each in read.measurements]
    if measurement is not None and measurement not in names:
        raise unknown(f"measurement of {read.where}", measurement, names)
    return _model(read, read.measurements[0 if measurement is None else names.index(measurement)], path)


def workspaces(file: str | Path) -> dict[str, Model]:
    """The models of a workspace file by name: one for each measurement.

    Raises:
        InputError: as `workspace`.
    """
    read, path = _read(file, None)
    models = [_model(read, measurement, path) for measurement in read.measurements]
    return {model.name: model for model in models}


def _read(file: str | Path | Mapping[str, Any], patch: Any) -> tuple[Workspace, Path | None]:
    path = None if isinstance(file, Mapping) else Path(file)
    content = file if path is None else read_json(path)
    where = "workspace" if path is None else f"workspace {str(path)!r}"
    if patch is not None:
        operations = read_patch(patch) if isinstance(patch, str | Path) else patch
        content = patched(content, operations)
    return read_workspace(content, where), path


def _model(read: Workspace, measurement: Measurement, path: Path | None) -> Model:
    where = f"{read.where}, measurement {measurement.name!r}"
    found, effects = gather(read)
    settled = {name: settle(each, name, measurement, where) for name, each in found.items()}
    if measurement.interest and measurement.interest not in found:
        raise InputError(f"{where}, poi: {unknown('parameter', measurement.interest, found)}")
    taken: set[str] = set()
    sites = names_for(found, taken)
    channels = names_for([channel.name for channel in read.channels], taken)
    bins = {name: f"{site}_bin" for name, site in channels.items()}
    parts = {name: blocks(each, sites[name], bins.get(each.channel, "")) for name, each in settled.items()}
    columns = _columns(parts)
    size = sum(len(of_name) for of_name in columns.values())
    rates = Rates(read.channels, [(effect, columns[name]) for effect, name in effects], size)
    observed = [
        (site, bins[name], torch.tensor(channel.observed, dtype=torch.float64))
        for (name, site), channel in zip(channels.items(), read.channels, strict=True)
    ]
    function = _program([block for of_name in parts.values() for block in of_name], rates, observed)
    function.__name__ = names_for([each.name for each in read.measurements], set())[measurement.name]
    function.__doc__ = f"Measurement {measurement.name!r} of {path.name if path else 'a workspace'}."
    interest = (sites[measurement.interest],) if measurement.interest else ()
    return Model(function, interest, file=path)


def _columns(parts: Mapping[str, Sequence[Block]]) -> dict[str, list[int]]:
    """Where each entry of each parameter lies when all blocks are put side by side."""
    found: dict[str, list[int]] = {}
    first = 0
    for name, of_name in parts.items():
        order = [entry for block in of_name for entry in block.entries]
        found[name] = [first + order.index(entry) for entry in range(len(order))]
        first += len(order)
    return found


def _program(parts: Sequence[Block], rates: Rates, observed: Sequence[tuple[str, str, Tensor]]) -> Any:
    held = {block.site: block.start for block in parts if block.held}

    def program() -> None:
        with pyro.condition(data=held):
            values = [block.sample() for block in parts]
        for (site, bins, counts), expected in zip(observed, rates(_side_by_side(values)), strict=True):
            with plate(bins, len(counts), dim=-1):
                observe(site, dist.Poisson(expected), counts)

    return program


def _side_by_side(values: Sequence[Tensor]) -> Tensor:
    """Scalars and vectors as one vector with shape (*, P + 1), whose last entry is 1."""
    vectors = [value if value.dim() else value[None] for value in values]
    lanes = torch.broadcast_shapes(*(vector.shape[:-1] for vector in vectors))
    one = torch.ones(1, dtype=torch.float64)
    return torch.cat([vector.expand(*lanes, vector.shape[-1]) for vector in (*vectors, one)], dim=-1)
