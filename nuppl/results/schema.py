"""The result of a run as xarray groups, which ArviZ reads as InferenceData (0.23) or as a DataTree (1.x).

| group                     | holds                                                   | dims                 |
|---------------------------|---------------------------------------------------------|----------------------|
| /                         | attributes of the file                                  |                      |
| posterior                 | free latents                                            | chain, draw, plates  |
| prior, prior_predictive   | draws of latents and data before any data               | chain, draw, plates  |
| posterior_predictive      | replicas of the data                                    | chain, draw, plates  |
| log_likelihood            | per entry of the data                                   | chain, draw, plates  |
| sample_stats              | what the engine says of each draw, and discrepancies    | chain, draw          |
| observed_data             | the data                                                | plates               |
| constant_data             | fixed sites; centre and width of each pull; expected    | plates               |
|                           | data, their deviation, and the reference expectation    |                      |

Dims and coordinates come from the plates of the program.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from nuppl.errors import InputError
from nuppl.language.program import Program
from nuppl.language.simulation import simulate, tile_seed
from nuppl.language.table import Axis, Site
from nuppl.results.draws import Draws
from nuppl.results.metadata import describe_file, describe_site
from nuppl.results.predictive import Predictive, predict, reference
from nuppl.results.prior import prior_densities
from nuppl.typing import Values

__all__ = ["Groups", "expected", "inferred", "simulated"]

Groups = dict[str, xr.Dataset]
"""The groups of a result by name; "/" carries the attributes of the file."""

PRIOR_DRAWS = 512
PRIOR_STREAM, PREDICTIVE_STREAM = 7001, 7002
"""Streams of random numbers that no engine uses."""


def inferred(program: Program, draws: Draws, seed: int, prior_draws: int = PRIOR_DRAWS) -> Groups:
    """All groups of a posterior.

    Arguments:
        draws: of every free latent.
        seed: the root seed of the run; replicas and prior draws have streams of their own.
        prior_draws: how many draws of the prior to keep with it.

    Raises:
        InputError: latents that `draws` lacks, or names that cannot live in one file.
    """
    missing = [name for name in program.latents if name not in draws.values]
    if missing:
        raise InputError(f"draws of {draws.engine or 'the engine'}: expected every free latent, missing {missing}")
    lanes = draws.lanes()
    predictive = predict(program, lanes, tile_seed(seed, PREDICTIVE_STREAM))
    before, notes = _prior(program, prior_draws, tile_seed(seed, PRIOR_STREAM))
    latents = {name: draws.values[name] for name in program.latents}
    return {
        "/": xr.Dataset(attrs=describe_file(program, draws.engine, seed, draws.attrs, notes)),
        "posterior": _dataset(program, latents, ("chain", "draw")),
        **before,
        **_predictive(program, predictive, draws.shape),
        "sample_stats": _stats(draws, predictive),
        "observed_data": _dataset(program, program.data),
        "constant_data": _constants(program, lanes, predictive),
    }


def simulated(program: Program, sites: Values, seed: int) -> Groups:
    """Draws of a simulation, {site: (n, *site)}, as `prior` (latents) and `prior_predictive` (data)."""
    batch = {name: value[None] for name, value in sites.items()}
    return {
        "/": xr.Dataset(attrs=describe_file(program, "simulate", seed)),
        "prior": _dataset(program, {n: batch[n] for n in program.latents}, ("chain", "draw")),
        "prior_predictive": _dataset(program, {n: batch[n] for n in program.data_sites}, ("chain", "draw")),
        "constant_data": _dataset(program, _shaped(program, program.fixed)),
    }


def expected(program: Program, data: Values) -> Groups:
    """Expected data, {data site: (*site)}, as `observed_data`, with the point they belong to as `constant_data`."""
    point = {**program.nominal(), **program.fixed}
    return {
        "/": xr.Dataset(attrs=describe_file(program, "asimov", 0)),
        "observed_data": _dataset(program, data),
        "constant_data": _dataset(program, _shaped(program, point)),
    }


def _shaped(program: Program, values: Values) -> dict[str, Tensor]:
    return {name: value.detach().reshape(program.sites[name].shape) for name, value in values.items()}


def _prior(program: Program, n: int, seed: int) -> tuple[Groups, tuple[str, ...]]:
    try:
        drawn = simulate(program, n, seed=seed)
    except (RuntimeError, ValueError) as error:
        # Far from the data a program may leave the domain of its distributions (a negative rate): no reason to lose
        # the posterior, but the reader is told.
        return {}, (f"no prior draws: the program could not be simulated from its prior ({error})",)
    batch = {name: value[None] for name, value in drawn.items()}
    return {
        "prior": _dataset(program, {name: batch[name] for name in program.latents}, ("chain", "draw")),
        "prior_predictive": _dataset(program, {name: batch[name] for name in program.data_sites}, ("chain", "draw")),
    }, ()


def _predictive(program: Program, predictive: Predictive, shape: tuple[int, int]) -> Groups:
    found = {"posterior_predictive": predictive.replicated}
    if predictive.log_likelihood:
        found["log_likelihood"] = predictive.log_likelihood
    return {
        group: _dataset(program, {n: v.reshape(*shape, *v.shape[1:]) for n, v in values.items()}, ("chain", "draw"))
        for group, values in found.items()
    }


def _stats(draws: Draws, predictive: Predictive) -> xr.Dataset:
    values = dict(draws.stats)
    values.update({name: value.reshape(draws.shape) for name, value in predictive.discrepancy.items()})
    variables = {name: (("chain", "draw"), value.detach().numpy()) for name, value in values.items()}
    return xr.Dataset(variables, coords=_counted(("chain", "draw"), draws.shape))


def _constants(program: Program, lanes: Values, predictive: Predictive) -> xr.Dataset:
    pulls = [site for site in program.latents.values() if site.kind == "pull"]
    named = {
        "center": {site.name: site.nominal.detach().reshape(site.shape) for site in pulls},
        "sigma": {site.name: site.spread.expand(site.full_shape).reshape(site.shape) for site in pulls},
        "expected": predictive.expected,
        "deviation": predictive.deviation,
        "reference": reference(program, lanes),
    }
    found = _dataset(program, _shaped(program, program.fixed))
    for suffix, values in named.items():
        found = found.merge(_dataset(program, dict(values), suffix=f"_{suffix}"))
    return found.merge(prior_densities(program, lanes))


def _dataset(program: Program, values: Values, leading: tuple[str, ...] = (), suffix: str = "") -> xr.Dataset:
    """Tensors as labelled arrays; fewer axes than the site's own means that its event axes were summed."""
    variables: dict[str, Any] = {}
    axes: dict[str, Axis] = {}
    for name, value in values.items():
        site = program.sites[name]
        own = site.axes[: value.dim() - len(leading)]
        _check_axes(site, own, values)
        axes |= {axis.name: axis for axis in own}
        array = value.detach().to(torch.float64).numpy()
        variables[name + suffix] = ((*leading, *(axis.name for axis in own)), array, describe_site(site))
    coords = {name: np.asarray(axis.coords or range(axis.size)) for name, axis in axes.items()}
    if variables and leading:
        shape = next(iter(values.values())).shape
        coords |= _counted(leading, tuple(shape))
    dataset = xr.Dataset(variables, coords=coords)
    for name, axis in axes.items():
        dataset.coords[name].attrs["unit"] = axis.unit
    return dataset


def _counted(dims: tuple[str, ...], shape: tuple[int, ...]) -> dict[str, NDArray[np.int_]]:
    return {dim: np.arange(size) for dim, size in zip(dims, shape, strict=False)}


def _check_axes(site: Site, own: tuple[Axis, ...], names: Mapping[str, Any]) -> None:
    for axis in own:
        if axis.name in names or axis.name in ("chain", "draw"):
            raise InputError(
                f"plate {axis.name!r} of site {site.name!r}: expected a name that no site has and that is not "
                "'chain' or 'draw', since it becomes a dimension of the result; rename the plate"
            )
