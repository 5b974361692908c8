"""A likelihood, or a posterior, around its maximum: where that is, and the inverse Hessian of minus its logarithm.

In natural coordinates. A posterior is that of the coordinates in which a fit works: logarithms of log-uniform
parameters, so that uniform and log-uniform priors are flat.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nuppl.errors import InputError
from nuppl.language.density import Natural
from nuppl.language.precision import double_precision
from nuppl.language.program import Program
from nuppl.language.table import Site
from nuppl.optimize.estimates import inverse_hessian, slopes
from nuppl.optimize.newton import Minimum, minimize
from nuppl.optimize.objective import Objective, natural_objective
from nuppl.typing import Values

__all__ = ["NEAR", "Expansion", "expand", "expand_quickly"]


_STEPS, NEAR = 12, 5e-3
"""Newton steps from the start, and how far minus the logarithm may still be expected to fall: a tenth of an error, too
little to be seen in first-order quantities. Kinks of binned responses can keep a fit from coming nearer."""


@dataclass(frozen=True)
class Expansion:
    """The neighbourhood of a maximum, in the D coordinates of a fit.

    Attributes:
        natural: the coordinates.
        objective: minus the log likelihood, or posterior.
        minimum: of the objective.
        covariance: inverse Hessian with shape (D, D), zero for coordinates at a bound.
        prior: whether priors of parameters count (a posterior) or not (a likelihood).
        fisher: whether the Hessian of the data's terms is Fisher's information.
    """

    natural: Natural
    objective: Objective
    minimum: Minimum
    covariance: Tensor
    prior: bool
    fisher: bool = False

    @property
    def program(self) -> Program:
        """The program."""
        return self.natural.program

    @property
    def interest(self) -> list[int]:
        """The coordinates of interest that are not at a bound."""
        return self.free(self.program.interest)

    def free(self, names: tuple[str, ...]) -> list[int]:
        """The coordinates of some sites that are not at a bound."""
        return [column for column in self.natural.layout.columns(names) if not bool(self.minimum.at_bound[column])]

    def values(self, point: Tensor | None = None) -> Tensor:
        """The interest in its own units with shape (I,), at coordinates with shape (D,); at the maximum by default."""
        values = self.natural.values((self.minimum.point if point is None else point)[None])
        return torch.cat([values[name].reshape(-1) for name in self.natural.layout.blocks])[self.interest]

    def slopes(self) -> Tensor:
        """d value / d coordinate of the interest with shape (I,)."""
        return slopes(self.natural, self.minimum.point)[self.interest]

    def response(self, columns: list[int]) -> Tensor:
        """How all coordinates follow when some are moved by hand, C_ag C_gg^-1, with shape (D, len(columns))."""
        factor = torch.linalg.cholesky(self.covariance[columns][:, columns])
        return torch.cholesky_solve(self.covariance[columns], factor).T


@double_precision()
def expand(program: Program, start: Values, *, prior: bool = False) -> Expansion:
    """Go from `start` to the maximum next to it and expand there.

    Arguments:
        program: with data.
        start: every free latent, {site: (*site)}: a best fit, or the mean of a posterior.
        prior: whether priors of parameters count.

    Raises:
        InputError: no maximum with errors is found, or all of the interest lies at bounds.
    """
    natural, objective = _coordinates(program, prior)
    minimum = minimize(objective, natural.coordinates(start)[0], max_steps=_STEPS)
    if not (minimum.converged or minimum.decrease < NEAR):
        raise InputError(
            f"no impacts: after {minimum.steps} steps -2 log L can still fall by {2.0 * minimum.decrease:.2g}; "
            "expected a start near the best fit"
        )
    covariance, warnings = inverse_hessian(objective, minimum)
    if warnings:
        raise InputError(f"no impacts: {warnings[0]}")
    found = Expansion(natural, objective, minimum, covariance, prior)
    if not found.interest:
        raise InputError("no impacts: the interest lies at its bounds, where it has no error to split")
    return found


@double_precision()
def expand_quickly(program: Program, point: Values, *, prior: bool = True) -> Expansion:
    """Expand at a point as it is, with Fisher's information: a second where a fit takes half a minute.

    Arguments:
        program: with data.
        point: every free latent, {site: (*site)}: the mean of a posterior.
        prior: whether priors of parameters count.

    Where that information is not known in closed form (data other than Poisson or Normal, say) this is `expand`.

    Raises:
        InputError: the information is not positive.
    """
    if not all(_in_closed_form(site) for site in program.sites.values() if not site.fixed):
        return expand(program, point, prior=prior)
    natural, objective = _coordinates(program, prior)
    z = natural.coordinates(point)[0]
    factor, failed = torch.linalg.cholesky_ex(objective.curvature(z))
    if int(failed):
        raise InputError("no impacts: the data do not determine every parameter; hold some with --set")
    here = Minimum(z, torch.nan, torch.nan, True, torch.zeros(natural.dim, dtype=torch.bool), 0)
    return Expansion(natural, objective, here, torch.cholesky_inverse(factor), prior, fisher=True)


def _in_closed_form(site: Site) -> bool:
    if site.kind == "data":
        return site.distribution in ("Poisson", "Normal")
    return site.distribution in ("Normal", "Uniform", "LogUniform") and site.kind != "random_effect"


def _coordinates(program: Program, prior: bool) -> tuple[Natural, Objective]:
    natural = Natural(program)
    return natural, _posterior(natural) if prior else natural_objective(natural)


def _posterior(natural: Natural) -> Objective:
    likelihood = natural_objective(natural)
    stiffness = likelihood.stiffness.clone()
    for name, site in natural.program.latents.items():
        if site.distribution == "Normal":
            stiffness[natural.layout.columns([name])] = 1.0

    def value(z: Tensor) -> Tensor:
        jacobian = torch.where(natural.log, natural.loc + natural.scale * z, 0.0).sum(-1)
        return -natural.terms(z).posterior - jacobian

    return replace(likelihood, value=value, stiffness=stiffness)
