"""Impacts: which measurement moves the answer, and by how much.

A best fit follows every measurement in its likelihood: the data, and the auxiliary measurement behind each pull. With C
the inverse Hessian of -log L at the minimum and H_t the Hessian of the term t, to first order

    var(theta) = C = C (sum_t H_t) C = sum_t C H_t C.

One summand is the variance of theta that fluctuations of the measurement t cause; its root is the *component* t of the
error. For a pull it is the shift of theta when the centre of the pull moves by its width, for a vector of pulls that in
quadrature. Components of all pulls add up in quadrature to the difference between the error and its component from the
data, the statistics-only error: by construction, whatever the data know of the pulls (Pinto et al., arXiv:2307.04007).

The *conventional* impact, the difference in quadrature between the error and the error with a group held,
C_ig C_gg^-1 C_gi, says how much better knowledge of the group could help. It does not add up: groups that the data
constrain, or correlate, count twice or not at all. The error with all pulls held is smaller than the component from the
data, since pulls that the data constrain make fluctuations of the data move theta more.

Free parameters have no measurement of their own. What they cost is part of the component from the data; in all errors
here they stay free, except the conventional impact, for which the group itself is held. In the reading of a posterior
their priors count as measurements too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nuppl.language.handlers import lane_sum, log_prob
from nuppl.language.precision import double_precision
from nuppl.language.table import Site
from nuppl.optimize.expansion import Expansion

__all__ = ["Group", "Impacts", "groups", "impacts"]

_CONSTRAINED = ("pull", "random_effect", "auxiliary")
"""Kinds with a measurement of their own, held for the statistics-only error."""


@dataclass(frozen=True)
class Group:
    """What acts together: one site.

    Attributes:
        name: of the site.
        kind: "data", "pull", "random_effect", "auxiliary" (a parameter with a measurement), or "parameter".
        columns: its free coordinates in the fit; none for data.
        terms: the sites whose densities measure it.
    """

    name: str
    kind: str
    columns: tuple[int, ...]
    terms: tuple[str, ...]


@dataclass(frozen=True)
class Impacts:
    """The error of each of I coordinates of interest, split over G groups, in the units of the interest.

    Attributes:
        interest: names of the coordinates.
        units: theirs.
        values, errors: theirs with shape (I,).
        statistical: errors from fluctuations of the data alone, the data's components in quadrature, with shape (I,).
        held: errors with all pulls held where they are and all parameters free, with shape (I,).
        groups: data sites, then latents.
        components: of the error with shape (I, G), zero where nothing measured the group; NaN for a data site that
            lies so far from its expectation that the Hessian of its term is negative.
        conventional: sqrt(error^2 - error with the group held^2) with shape (I, G); NaN for data and for itself.
        slopes: shift for the centre moved up by its width, signed, with shape (I, G); NaN where not a scalar pull.
        shifts: how far the interest moves when the group's pulls are held at their centres, to first order, with shape
            (I, G); NaN where not a pull.
        pulls, widths: (value - centre) / width before the data, and its error, with shape (G,); NaN where not a scalar
            pull.
        lowest, highest: the same of a vector's extreme entries with shape (G,); NaN where not a pull.
        prior: whether priors count as measurements.
    """

    interest: tuple[str, ...]
    units: tuple[str, ...]
    values: Tensor
    errors: Tensor
    statistical: Tensor
    held: Tensor
    groups: tuple[Group, ...]
    components: Tensor
    conventional: Tensor
    slopes: Tensor
    shifts: Tensor
    pulls: Tensor
    widths: Tensor
    lowest: Tensor
    highest: Tensor
    prior: bool

    @property
    def systematic(self) -> Tensor:
        """The components of all that is not data, in quadrature, with shape (I,)."""
        return (self.errors.square() - self.statistical.square()).clamp(min=0.0).sqrt()

    def plain(self) -> dict[str, Any]:
        """Strings and tensors by name, for a result file or JSON."""
        kinds, sizes = [group.kind for group in self.groups], [len(group.columns) for group in self.groups]
        tensors = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        named = {"interest": list(self.interest), "units": list(self.units), "groups": [g.name for g in self.groups]}
        return {**named, "kinds": kinds, "sizes": sizes, **tensors, "prior": self.prior}


@double_precision()
def impacts(expansion: Expansion) -> Impacts:
    """Split the errors of the interest over all measurements.

    Arguments:
        expansion: of a likelihood around the best fit, or of a posterior around its maximum.
    """
    found, chosen = groups(expansion), expansion.interest
    names, slopes = expansion.natural.layout.names(), expansion.slopes()
    covariance, sites = expansion.covariance, expansion.program.latents
    conventional, shifts, scalar_slopes = _by_holding(expansion, found)
    variances = _variances(expansion)
    nothing = torch.zeros(len(chosen))
    split = torch.stack([sum((variances[term] for term in group.terms), nothing) for group in found], dim=1)
    total = covariance[chosen, chosen]
    split = torch.where(split < -1e-9 * total[:, None], torch.nan, split.clamp(min=0.0))
    data = [i for i, group in enumerate(found) if group.kind == "data"]
    measured = [i for i, group in enumerate(found) if group.kind != "data"]
    steep = slopes.abs()[:, None]
    return Impacts(
        interest=tuple(names[column] for column in chosen),
        units=tuple(sites[names[column].split("[")[0]].unit for column in chosen),
        values=expansion.values(),
        errors=total.sqrt() * slopes.abs(),
        statistical=(total - split[:, measured].sum(1)).clamp(min=0.0).sqrt() * slopes.abs() if data else nothing,
        held=_with_all_held(expansion, found),
        groups=tuple(found),
        components=split.sqrt() * steep,
        conventional=conventional * steep,
        slopes=scalar_slopes * slopes[:, None],
        shifts=shifts * slopes[:, None],
        prior=expansion.prior,
        **_profiles(expansion, found),
    )


def groups(expansion: Expansion) -> list[Group]:
    """Data sites that measure no latent of their own, then all latents."""
    program = expansion.program
    auxiliary = {name for name, site in program.data_sites.items() if site.auxiliary}
    found = [Group(name, "data", (), (name,)) for name in program.data_sites if name not in auxiliary]
    for name, site in program.latents.items():
        measured = f"{name}_measured"
        kind = "auxiliary" if measured in auxiliary else site.kind
        terms = (name,) if site.kind != "parameter" or expansion.prior else ()
        found.append(
            Group(name, kind, tuple(expansion.free((name,))), (*terms, measured) if measured in auxiliary else terms)
        )
    return found


def _variances(expansion: Expansion) -> dict[str, Tensor]:
    """(C H_t C)_ii of each term with shape (I,): its second derivative along the column C_i."""
    columns = expansion.covariance[:, expansion.interest].T
    steps = torch.zeros(len(columns), requires_grad=True)
    terms = _terms(expansion, expansion.minimum.point + steps[:, None] * columns)
    known = _from_moments(expansion, columns) if expansion.fisher else {}
    return {name: known[name] if name in known else -_second(term, steps) for name, term in terms.items()}


def _from_moments(expansion: Expansion, columns: Tensor) -> dict[str, Tensor]:
    """(C J^T W J C)_ii of each data site with shape (I,): the Hessian in an expansion by Fisher's information."""
    _, variance, jacobian = expansion.objective.jacobian(expansion.minimum.point)
    moved = (jacobian @ columns.T).square() / variance[:, None].clamp(min=1e-12)
    sites = expansion.program.data_sites
    return {n: part.sum(0) for n, part in zip(sites, moved.split([s.size for s in sites.values()]), strict=True)}


def _second(term: Tensor, steps: Tensor) -> Tensor:
    """The second derivative of each lane along its step; zero where there is none."""
    for create in (True, False):
        if not term.requires_grad:
            return torch.zeros_like(steps)
        (derivative,) = torch.autograd.grad(
            term.sum(), steps, create_graph=create, retain_graph=True, allow_unused=True
        )
        term = torch.zeros(()) if derivative is None else derivative
    return term.detach().expand(len(steps))


def _terms(expansion: Expansion, points: Tensor) -> dict[str, Tensor]:
    """The log density of each site that counts, at points with shape (n, D)."""
    program, values = expansion.program, expansion.natural.values(points)
    found: dict[str, Tensor] = {}

    def visit(msg: Any, site: Site) -> None:
        value = program.data_lanes(site) if site.kind == "data" else site.lanes(values[site.name])
        msg["value"] = value
        if site.kind != "parameter" or expansion.prior:
            found[site.name] = lane_sum(log_prob(msg, value), site.name, site.batch)

    program.run(visit)
    return found


def _by_holding(expansion: Expansion, found: list[Group]) -> tuple[Tensor, Tensor, Tensor]:
    """Conventional impacts, shifts and slopes in coordinates, each with shape (I, G)."""
    chosen, point = expansion.interest, expansion.minimum.point
    conventional, shifts, slopes = torch.full((3, len(chosen), len(found)), torch.nan)
    for number, group in enumerate(found):
        columns = list(group.columns)
        if group.kind == "data":
            continue
        response = expansion.response(columns)[chosen]
        share = (response * expansion.covariance[chosen][:, columns]).sum(1)
        own = torch.tensor([column in columns for column in chosen], dtype=torch.bool)
        conventional[:, number] = torch.where(own, torch.nan, share.clamp(min=0.0).sqrt())
        if group.kind == "pull":
            shifts[:, number] = torch.where(own, torch.nan, -response @ point[columns])
            if len(columns) == 1:
                # z is in units of the width, so that the term's Hessian is one.
                slopes[:, number] = expansion.covariance[chosen, columns[0]]
    return conventional, shifts, slopes


def _with_all_held(expansion: Expansion, found: list[Group]) -> Tensor:
    chosen = expansion.interest
    columns = [c for group in found if group.kind in _CONSTRAINED for c in group.columns if c not in chosen]
    share = (expansion.response(columns)[chosen] * expansion.covariance[chosen][:, columns]).sum(1)
    return (expansion.covariance[chosen, chosen] - share).clamp(min=0.0).sqrt() * expansion.slopes().abs()


def _profiles(expansion: Expansion, found: list[Group]) -> dict[str, Tensor]:
    """Where pulls stand after the fit; z of a pull is in units of its width, from its centre."""
    point, errors = expansion.minimum.point, expansion.covariance.diagonal().sqrt()
    names = ("pulls", "widths", "lowest", "highest")
    shown = {name: torch.full((len(found),), torch.nan) for name in names}
    for number, group in enumerate(found):
        if group.kind != "pull":
            continue
        columns = list(group.columns)
        shown["lowest"][number], shown["highest"][number] = point[columns].aminmax()
        if len(columns) == 1:
            shown["pulls"][number], shown["widths"][number] = point[columns[0]], errors[columns[0]]
    return shown
