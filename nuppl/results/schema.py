"""The result of a run as xarray groups, which ArviZ reads as InferenceData (0.23) or as a DataTree (1.x).

| group                     | holds                                                   | dims                 |
|---------------------------|---------------------------------------------------------|----------------------|
| /                         | attributes of the file                                  |                      |
| posterior                 | free latents                                            | chain, draw, plates  |
| prior, prior_predictive   | draws of latents and data before any data               | chain, draw, plates  |
| posterior_predictive      | replicas of the data                                    | chain, draw, plates  |
| log_likelihood            | per entry of the data                                   | chain, draw, plates  |
| sample_stats              | what the engine says of each draw, and discrepancies    | chain, draw; or      |
|                           | between data, replicas and their expectation            | chain, kept_draw     |
| observed_data             | the data                                                | plates               |
| constant_data             | fixed sites; centre and width of each pull; expected    | plates               |
|                           | data, their deviation, and the reference expectation    |                      |

Dims and coordinates come from the plates of the program. Of many draws, posterior_predictive, log_likelihood, the
discrepancies and the expectations are computed at no more than 4000, evenly spaced along the chains: their `draw` (of
the discrepancies, beside statistics of all draws, `kept_draw`) counts as the posterior's does, and a note says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
from nuppl.results.arrays import lazy
from nuppl.results.draws import Draws
from nuppl.results.metadata import describe_file, describe_site
from nuppl.results.predictive import Predictive, predict, reference
from nuppl.results.prior import prior_densities
from nuppl.typing import Values

__all__ = ["Groups", "expected", "inferred", "simulated"]

Groups = dict[str, xr.Dataset]
"""The groups of a result by name; "/" carries the attributes of the file."""

PRIOR_DRAWS, PREDICTIVE_DRAWS = 512, 4000
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
    few, numbers = draws.thinned(PREDICTIVE_DRAWS)
    lanes = few.lanes()
    predictive = predict(program, lanes, tile_seed(seed, PREDICTIVE_STREAM))
    before, notes = _prior(program, prior_draws, tile_seed(seed, PRIOR_STREAM))
    notes = (*notes, *_thinning(draws, few))
    return {
        "/": xr.Dataset(attrs=describe_file(program, draws.engine, seed, draws.attrs, notes)),
        "posterior": _dataset(program, draws.values, ("chain", "draw"), names=tuple(program.latents), data=lazy),
        **before,
        **_predictive(program, predictive, numbers, few.shape),
        "sample_stats": _stats(draws, predictive, numbers),
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


def _thinning(draws: Draws, few: Draws) -> tuple[str, ...]:
    if few.shape == draws.shape:
        return ()
    kept, every = (chains * n for chains, n in (few.shape, draws.shape))
    return (f"replicas, likelihoods and discrepancies are those of {kept} of the {every} draws, evenly spaced",)


def _predictive(program: Program, predictive: Predictive, numbers: Tensor, shape: tuple[int, int]) -> Groups:
    found = {"posterior_predictive": predictive.replicated}
    if predictive.log_likelihood:
        found["log_likelihood"] = predictive.log_likelihood
    groups = {
        group: _dataset(program, {n: v.reshape(*shape, *v.shape[1:]) for n, v in values.items()}, ("chain", "draw"))
        for group, values in found.items()
    }
    return {group: dataset.assign_coords(draw=numbers.numpy()) for group, dataset in groups.items()}


def _stats(draws: Draws, predictive: Predictive, numbers: Tensor) -> xr.Dataset:
    chains, n = draws.shape
    kept = "draw" if len(numbers) == n else "kept_draw"
    variables: dict[str, Any] = {name: (("chain", "draw"), lazy(draws.stats, name)) for name in draws.stats}
    for name, value in predictive.discrepancy.items():
        variables[name] = (("chain", kept), value.reshape(chains, len(numbers)).numpy())
    return xr.Dataset(variables, coords={**_counted(("chain", "draw"), draws.shape), kept: numbers.numpy()})


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


def _whole(values: Values, name: str) -> Any:
    return values[name].detach().to(torch.float64).numpy()


def _dataset(
    program: Program,
    values: Values,
    leading: tuple[str, ...] = (),
    suffix: str = "",
    names: tuple[str, ...] | None = None,
    data: Callable[[Values, str], Any] = _whole,
) -> xr.Dataset:
    """Tensors as labelled arrays; fewer axes than the site's own means that its event axes were summed.

    Arguments:
        names: the sites wanted, by default all.
        data: how an array holds its tensor; one tensor at a time is asked for, since each may be a mapped file.
    """
    variables: dict[str, Any] = {}
    axes: dict[str, Axis] = {}
    shape: tuple[int, ...] = ()
    for name in values if names is None else names:
        site, shape = program.sites[name], tuple(values[name].shape)
        own = site.axes[: len(shape) - len(leading)]
        _check_axes(site, own, values)
        axes |= {axis.name: axis for axis in own}
        dims = (*leading, *(axis.name for axis in own))
        variables[name + suffix] = (dims, data(values, name), describe_site(site))
    coords = {name: np.asarray(axis.coords or range(axis.size)) for name, axis in axes.items()}
    dataset = xr.Dataset(variables, coords={**coords, **_counted(leading, shape)})
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
