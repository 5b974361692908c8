"""Goodness of fit: -2 log of the likelihood over that of the saturated model, whose means are the data.

For Poisson data this is chi2 = 2 sum m - n + n log(n/m) (Baker and Cousins 1984), for Gaussian data of known width the
sum of squares; pulls add their squares.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nuppl.language.handlers import lane_sum, log_prob
from nuppl.language.program import Program
from nuppl.language.table import Site
from nuppl.typing import Values

__all__ = ["deviance"]


def deviance(program: Program, values: Values) -> tuple[float, bool]:
    """(statistic, True) where every data site has a saturated model, else (-2 log L, False).

    Arguments:
        program: with data.
        values: every free latent, {site: (*site)}.
    """
    saturated: list[Tensor | None] = []

    def visit(msg: Any, site: Site) -> None:
        value = msg["value"] = program.data_lanes(site) if site.kind == "data" else site.lanes(values[site.name])
        if site.kind == "data":
            saturated.append(_saturated(msg, value, site))
        elif site.kind == "pull":
            saturated.append(lane_sum(log_prob(msg, msg["fn"].mean), site.name, site.batch))

    with torch.no_grad():
        program.run(visit)
        likelihood = float(program.terms(values).likelihood[0])
    if any(part is None for part in saturated) or any(s.kind == "random_effect" for s in program.latents.values()):
        return -2.0 * likelihood, False
    best = sum(float(part.expand(1)[0]) for part in saturated if part is not None)
    return 2.0 * (best - likelihood), True


def _saturated(msg: Any, value: Tensor, site: Site) -> Tensor | None:
    fn = msg["fn"]
    while isinstance(fn, torch.distributions.Independent):
        fn = fn.base_dist
    if isinstance(fn, torch.distributions.Poisson):
        # xlogy: an empty bin contributes exp(-0) = 1.
        term = torch.special.xlogy(value, value) - value - torch.lgamma(value + 1.0)
    elif isinstance(fn, torch.distributions.Normal):
        term = torch.distributions.Normal(value, fn.scale).log_prob(value)
    else:
        return None
    event = tuple(range(-len(site.event), 0))
    return lane_sum(term.sum(event) if event else term, site.name, site.batch)
