"""The prior density of each scalar parameter of interest, on a grid over the range of its posterior.

Draws of a wide prior say little there: of 500 draws from U(0, 0.2) none may lie in a posterior of width 0.002.
"""

from __future__ import annotations

from typing import Any

import torch
import xarray as xr
from torch import Tensor

from nuppl.language.handlers import log_prob
from nuppl.language.program import Program
from nuppl.language.table import Site
from nuppl.typing import Values

__all__ = ["prior_densities"]

POINTS = 129


def prior_densities(program: Program, values: Values) -> xr.Dataset:
    """Variables `<site>_prior` over `<site>_grid`, for scalar sites whose prior does not depend on another latent.

    Arguments:
        values: posterior draws, {site: (n, *site)}.
    """
    found = xr.Dataset()
    for name in program.interest:
        site = program.latents[name]
        if site.shape or site.conditional:
            continue
        grid = _grid(values[name].detach().to(torch.float64), site)
        density = _density(program, site, grid)
        found[f"{name}_prior"] = ((f"{name}_grid",), density.numpy())
        found = found.assign_coords({f"{name}_grid": grid.numpy()})
    return found


def _grid(draws: Tensor, site: Site) -> Tensor:
    low, high = float(draws.min()), float(draws.max())
    margin = 0.5 * (high - low)
    return torch.linspace(
        max(low - margin, float(site.lower)), min(high + margin, float(site.upper)), POINTS, dtype=torch.float64
    )


def _density(program: Program, site: Site, grid: Tensor) -> Tensor:
    held: list[Tensor] = []

    def visit(msg: Any, other: Site) -> None:
        if other.name == site.name:
            lanes = site.lanes(grid)
            held.append(log_prob(msg, lanes).reshape(-1).exp())
        msg["value"] = other.nominal.detach()[None]

    with torch.no_grad():
        program.run(visit)
    return torch.nan_to_num(held[0], nan=0.0)
