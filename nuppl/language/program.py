"""A program: a model bound to options, fixed sites and data.

Its batched evaluation is the one mechanism under every engine and every scan.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from pyro.poutine.handlers import block
from torch import Tensor

from nuppl.errors import InputError, ModelError, NupplError
from nuppl.language.handlers import Visit, lane_sum, log_prob
from nuppl.language.names import check_names
from nuppl.language.plates import lanes
from nuppl.language.precision import program_settings
from nuppl.language.survey import survey
from nuppl.language.table import Site
from nuppl.typing import Values

if TYPE_CHECKING:
    from nuppl.language.model import Model

__all__ = ["Program", "Terms"]


class Terms(NamedTuple):
    """The log density by kind, each with shape (n,). NaN never appears: it became -inf."""

    prior: Tensor
    """Densities of parameters: Bayes only."""
    pull: Tensor
    """Gaussian auxiliary measurements."""
    random_effect: Tensor
    """Conditional densities of random effects."""
    data: Tensor
    """Data sites, auxiliary measurements of other kinds among them."""

    @property
    def likelihood(self) -> Tensor:
        """The frequentist log likelihood."""
        return self.pull + self.random_effect + self.data

    @property
    def posterior(self) -> Tensor:
        """The unnormalised log posterior in the sites' own coordinates."""
        return self.prior + self.likelihood


class Program:
    """What engines see of a model.

    Attributes:
        model: the model.
        options: its keyword arguments.
        outside: whether fixed values may lie outside the prior's support.
        sites: the table of sites in the order of sampling.
    """

    def __init__(
        self,
        model: Model,
        options: Mapping[str, Any],
        fixed: Mapping[str, Any],
        data: Mapping[str, Any],
        outside: bool = False,
    ) -> None:
        self.model = model
        self.options = dict(options)
        self.outside = outside
        self.sites = self._survey(fixed, data, outside)
        check_names(self, fixed, data)
        self._data = {name: site.data for name, site in self.sites.items() if site.data is not None}

    def _survey(self, fixed: Mapping[str, Any], data: Mapping[str, Any], outside: bool) -> dict[str, Site]:
        try:
            return survey(self.function, fixed, data, outside)
        except InputError as error:
            raise type(error)(self.model.place(error) + str(error)) from error
        except NupplError:
            raise
        except Exception as error:
            raise InputError(f"model {self.model.name!r} could not be run: {self.model.where(error)}") from error

    def function(self) -> Any:
        """The model with its options."""
        return self.model.function(**self.options)

    @cached_property
    def latents(self) -> dict[str, Site]:
        """The latent sites that are not fixed."""
        return {n: s for n, s in self.sites.items() if s.kind != "data" and not s.fixed}

    @cached_property
    def data_sites(self) -> dict[str, Site]:
        """The data sites, auxiliary measurements among them."""
        return {n: s for n, s in self.sites.items() if s.kind == "data"}

    @property
    def fixed(self) -> dict[str, Tensor]:
        """The sites held constant, with their values, each with the site's shape."""
        return {n: s.nominal.reshape(s.shape) for n, s in self.sites.items() if s.kind != "data" and s.fixed}

    @property
    def data(self) -> dict[str, Tensor]:
        """The observed data, each with the site's shape."""
        return {name: value.reshape(self.sites[name].shape) for name, value in self._data.items()}

    @property
    def interest(self) -> tuple[str, ...]:
        """The declared interest that is not fixed; all free parameters where none was declared."""
        declared_interest = tuple(name for name in self.model.interest if name in self.latents)
        return declared_interest or tuple(n for n, s in self.latents.items() if s.kind == "parameter")

    @property
    def starts(self) -> list[dict[str, Tensor]]:
        """The author's starts for minimisers, as far as they move free latents."""
        starts = (
            {n: torch.tensor(v, dtype=torch.float64) for n, v in s.items() if n in self.latents}
            for s in self.model.starts
        )
        return [start for start in starts if start]

    def with_(
        self,
        fixed: Mapping[str, Any] | None = None,
        data: Mapping[str, Any] | None = None,
        outside: bool = False,
    ) -> Program:
        """The same program with more sites fixed, or other data."""
        held, observed = {**self.fixed, **(fixed or {})}, {**self._data, **(data or {})}
        return Program(self.model, self.options, held, observed, outside or self.outside)

    def nominal(self) -> dict[str, Tensor]:
        """The nominal point of the free latents, each with the site's shape."""
        return {name: site.nominal.detach().reshape(site.shape) for name, site in self.latents.items()}

    def require_density(self, purpose: str) -> None:
        """Raise InputError where a data site has no density or no data, or a held site hides a density."""
        for name, site in self.sites.items():
            if site.fixed and site.conditional:
                raise InputError(
                    f"site {name!r} is held, but its {site.distribution} depends on another latent, so its density "
                    f"still counts: {purpose} needs that latent held too, or {name!r} as a data site"
                )
        for name, site in self.data_sites.items():
            if not site.has_density:
                raise InputError(
                    f"site {name!r} is a simulator without density: {purpose} needs a density; "
                    "use simulation, or an engine that learns from simulations"
                )
            if site.data is None:
                raise InputError(f"site {name!r} has no data: {purpose} needs data; give them to nuppl.observe")

    def run(self, visit: Callable[[Any, Site], None], n: int | None = None, validate: bool = False) -> None:
        """Run the program once, calling `visit(message, site)` at every site that is not fixed.

        Arguments:
            visit: sets `message["value"]`, or leaves it to be drawn.
            n: the number of lanes, where sites are to be drawn.
            validate: whether torch checks the arguments of distributions.
        """

        def dispatch(msg: Any) -> None:
            site = self._site(msg)
            if site.fixed:
                msg["value"] = site.nominal[None]
            else:
                visit(msg, site)

        # Blocked: handlers of an engine around us (a guide's particle plate, say) must not reach into the program.
        with program_settings(validate), block(), Visit(dispatch), lanes(n) if n else nullcontext():
            try:
                self.function()
            except NupplError:
                raise
            except Exception as error:
                if not self.model.raised(error):
                    raise
                raise ModelError(f"model {self.model.name!r} failed: {self.model.where(error)}") from error

    def _site(self, msg: Any) -> Site:
        site = self.sites.get(msg["name"])
        if site is None:
            raise InputError(
                f"site {msg['name']!r} appeared only for some parameter values: expected the same sites in every run"
            )
        return site

    def terms(self, values: Values, data: Values | None = None, centers: Values | None = None) -> Terms:
        """The log density at `values`, by kind.

        Arguments:
            values: every free latent with shape (n, *site) (or one value for all lanes).
            data: replaces the data; shape (*site) or (n, *site).
            centers: moves the centres of pulls, as frequentist toys need; shape (*site) or (n, *site).
        """
        collected: dict[str, list[Tensor]] = {"parameter": [], "pull": [], "random_effect": [], "data": []}

        def visit(msg: Any, site: Site) -> None:
            if site.kind == "data":
                value = self.data_lanes(site, data)
                msg["value"] = value
            else:
                value = msg["value"] = site.lanes(values[site.name])
                if centers and site.name in centers:
                    value = value - site.lanes(centers[site.name]) + msg["fn"].mean
            collected[site.kind].append(lane_sum(log_prob(msg, value), site.name, site.batch))

        self.run(visit)
        n = max((len(value) for terms in collected.values() for value in terms), default=1)
        return Terms(*[clean(sum_terms(collected[kind], n)) for kind in collected])

    def data_lanes(self, site: Site, data: Values | None = None) -> Tensor:
        """The data of a site as the program meets them, with shape (n or 1, *full_shape)."""
        given = (data or {}).get(site.name)
        if given is not None:
            return site.lanes(given)
        if site.data is None:
            raise InputError(f"site {site.name!r} has no data: expected data in nuppl.observe or in the call")
        return site.data[None]

    def pointwise(self, values: Values, data: Values | None = None) -> dict[str, Tensor]:
        """The log likelihood of each entry of each data site: {name: shape (n, *plates)}."""
        found: dict[str, Tensor] = {}

        def visit(msg: Any, site: Site) -> None:
            if site.kind != "data":
                msg["value"] = site.lanes(values[site.name])
                return
            value = msg["value"] = self.data_lanes(site, data)
            term = log_prob(msg, value)
            plates = tuple(axis.size for axis in site.axes if axis.dim is not None)
            found[site.name] = term.reshape(-1, *plates)

        self.run(visit)
        return found

    def means(self, values: Values) -> dict[str, Tensor]:
        """The expected data at `values`: {data site: shape (n or 1, *site)}; tractable sites only."""
        return {name: mean for name, (mean, _) in self.moments(values).items()}

    def moments(self, values: Values) -> dict[str, tuple[Tensor, Tensor]]:
        """Mean and variance of the data at `values`: {data site: each with shape (n or 1, *site)}."""
        found: dict[str, tuple[Tensor, Tensor]] = {}

        def visit(msg: Any, site: Site) -> None:
            if site.kind != "data":
                msg["value"] = site.lanes(values[site.name])
                return
            found[site.name] = site_moments(msg["fn"], site)
            msg["value"] = found[site.name][0].reshape(-1, *site.full_shape)

        self.run(visit)
        return found


def site_moments(fn: Any, site: Site) -> tuple[Tensor, Tensor]:
    """Mean and variance of a data site's distribution, each with shape (n or 1, *site)."""
    if not site.has_density:
        raise InputError(f"site {site.name!r} is a simulator: it has no mean to give; draw pseudo-data instead")
    shape = (*fn.batch_shape, *fn.event_shape)
    try:
        moments = fn.mean, fn.variance
    except NotImplementedError:
        raise InputError(
            f"site {site.name!r}: the mean and variance of {site.distribution} are not known; draw pseudo-data instead"
        ) from None
    mean, variance = (moment.expand(shape).reshape(-1, *site.shape) for moment in moments)
    return mean, variance


def sum_terms(terms: list[Tensor], n: int) -> Tensor:
    """The sum of terms with shape (n) or (1), with shape (n)."""
    return torch.zeros(n, dtype=torch.float64) + sum(terms) if terms else torch.zeros(n, dtype=torch.float64)


def clean(log_density: Tensor) -> Tensor:
    """NaN to -inf, lane by lane."""
    return torch.where(log_density.isnan(), -torch.inf, log_density)
