"""The profile likelihood ratio, and its one-sided form for upper limits.

    likelihood ratio   t = 2 [min_a (-log L)(theta, a) - min (-log L)]
    q-tilde            q = t where the free mu lies at or below the tested one, else 0, with mu >= 0

Wilks' theorem gives the first as chi2; the second was made by Cowan, Cranmer, Gross and Vitells, Eur. Phys. J. C 71
(2011) 1554 (arXiv:1007.1727), eq. 16.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nuppl.errors import InputError
from nuppl.frequentist.critical import wilks
from nuppl.frequentist.experiments import Experiments
from nuppl.frequentist.grid import Grid
from nuppl.frequentist.profile import Profile
from nuppl.language.program import Program

__all__ = ["check_one_sided", "likelihood_ratio", "q_tilde", "wilks_everywhere"]


def likelihood_ratio(experiments: Experiments) -> Tensor:
    """t with shape (n,)."""
    return 2.0 * (experiments.fixed.value - experiments.free.value).clamp(min=0.0)


def q_tilde(experiments: Experiments) -> Tensor:
    """q with shape (n,)."""
    above = experiments.estimate[:, 0] > experiments.tested[:, 0]
    return torch.where(above, 0.0, likelihood_ratio(experiments))


def check_one_sided(program: Program, grid: Grid) -> None:
    """Raise InputError unless one parameter is scanned that ends at zero."""
    if len(grid.axes) != 1:
        raise InputError(f"statistic 'q-tilde': expected one scanned parameter, got {', '.join(grid.names)}")
    site = program.latents[grid.names[0]]
    if site.kind != "parameter" or float(site.lower) != 0.0:
        ends = "no bound (it is a pull)" if site.kind != "parameter" else f"{float(site.lower):g}"
        raise InputError(
            f"statistic 'q-tilde': expected a parameter whose lower bound is 0, got {site.name!r} with {ends}; "
            "bound it in the model, as in dist.Uniform(0.0, 10.0)"
        )


def wilks_everywhere(profile: Profile, levels: Sequence[float]) -> Tensor:
    """Critical values of chi2 with shape (L, G)."""
    return wilks(levels, len(profile.grid.axes))[:, None].repeat(1, profile.grid.size)
