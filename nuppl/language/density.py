"""The two densities of a program: whitened for sampling and networks, natural for fits.

Whitened: u with standard normal prior where transports are exact; log p(u) = log p(T(u), data) + log |dT/du|.
Natural: z = (value - nominal) / scale with bounds, the frequentist log likelihood without priors. A whitened fit would
crawl towards infinity at a physical boundary. Log-uniform parameters are scaled in their logarithm.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nuppl.errors import InputError
from nuppl.language.handlers import lane_sum, log_prob
from nuppl.language.layout import Layout
from nuppl.language.memory import keep_freed_memory
from nuppl.language.program import Program, Terms, clean, site_moments, sum_terms
from nuppl.language.table import Site
from nuppl.language.transport import transport
from nuppl.typing import Values

__all__ = ["Natural", "Whitened"]

CHUNK = 256
"""Lanes evaluated at a time at least: arrays of a model with a thousand bins then stay in the cache."""

_NUMBERS, _MOST = 1 << 18, 2048
"""Latents and data of all lanes of a chunk, and the most lanes: small models pay for calls, not for memory."""


class Whitened:
    """The posterior in whitened coordinates with shape (n, D).

    Attributes:
        program: the program.
        layout: where each latent lies.
        failures: lanes whose density was NaN, so far.
    """

    def __init__(self, program: Program) -> None:
        keep_freed_memory()
        program.require_density("a posterior")
        self.program = program
        self.layout = Layout(program.latents.values(), whitened=True)
        self.failures = 0
        if not program.latents:
            raise InputError("nothing to infer: every latent is fixed; leave at least one free")

    @property
    def dim(self) -> int:
        """D."""
        return self.layout.dim

    @property
    def chunk(self) -> int:
        """How many lanes to evaluate at a time."""
        size = self.dim + sum(site.size for site in self.program.data_sites.values())
        return max(CHUNK, min(_MOST, _NUMBERS // size))

    def log_prob(self, u: Tensor, data: Values | None = None) -> Tensor:
        """The log density, unnormalised, with shape (n,); NaN became -inf."""
        prior, likelihood = self.split(u, data)
        return prior + likelihood

    def split(self, u: Tensor, data: Values | None = None) -> tuple[Tensor, Tensor]:
        """(log density of u before data, log likelihood of the data), each with shape (n,)."""
        blocks = self.layout.cut(u)
        white: list[Tensor] = []
        observed: list[Tensor] = []

        def visit(msg: Any, site: Site) -> None:
            if site.kind == "data":
                value = msg["value"] = self.program.data_lanes(site, data)
                observed.append(lane_sum(log_prob(msg, value), site.name, site.batch))
                return
            _, term = self._assign(msg, site, blocks)
            white.append(term)

        self.program.run(visit)
        prior, likelihood = sum_terms(white, len(u)), sum_terms(observed, len(u))
        self.failures += int((prior + likelihood).isnan().sum())
        return clean(prior), clean(likelihood)

    def moments(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of all data side by side, each with shape (n, M)."""
        blocks = self.layout.cut(u)
        found: list[tuple[Tensor, Tensor]] = []

        def visit(msg: Any, site: Site) -> None:
            if site.kind == "data":
                found.append(site_moments(msg["fn"], site))
                msg["value"] = found[-1][0].reshape(-1, *site.full_shape)
            else:
                self._assign(msg, site, blocks)

        self.program.run(visit)
        mean, variance = (
            torch.cat([part.reshape(len(part), -1).expand(len(u), -1) for part in parts], dim=1)
            for parts in zip(*found, strict=True)
        )
        return mean, variance

    def _assign(self, msg: Any, site: Site, blocks: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        mapping = transport(msg["fn"])
        point = blocks[site.name]
        value = msg["value"] = mapping.forward(point)
        return value, lane_sum(mapping.log_density(point, value), site.name, site.batch)

    def values(self, u: Tensor) -> dict[str, Tensor]:
        """The latents at u: {site: (n, *site)}."""
        blocks = self.layout.cut(u)
        found: dict[str, Tensor] = {}

        def visit(msg: Any, site: Site) -> None:
            if site.kind == "data":
                msg["value"] = self.program.data_lanes(site)
                return
            value, _ = self._assign(msg, site, blocks)
            found[site.name] = site.draws(value.expand(len(u), *site.full_shape))

        self.program.run(visit)
        return found

    def coordinates(self, values: Values) -> Tensor:
        """The inverse of `values`: {site: (n, *site)} to (n, D)."""
        found: dict[str, Tensor] = {}

        def visit(msg: Any, site: Site) -> None:
            if site.kind == "data":
                msg["value"] = self.program.data_lanes(site)
                return
            value = msg["value"] = site.lanes(values[site.name])
            block = transport(msg["fn"]).inverse(value)
            found[site.name] = block.reshape(-1, *self.layout.blocks[site.name].shape)

        self.program.run(visit)
        return self.layout.pack(found)


class Natural:
    """The frequentist log likelihood in scaled coordinates z with shape (n, D).

    Attributes:
        program: the program.
        layout: where each latent lies.
        loc, scale, log: per coordinate with shape (D,): value = loc + scale z, or its exponential where `log`.
        lower, upper: bounds of z with shape (D,).
    """

    def __init__(self, program: Program) -> None:
        keep_freed_memory()
        program.require_density("a fit")
        refuse_undeclared_random_effects(program)
        refuse_curved_supports(program)
        if not program.latents:
            raise InputError("nothing to fit: every latent is fixed; leave at least one free")
        self.program = program
        self.layout = Layout(program.latents.values(), whitened=False)
        parts = [_scaling(site) for site in program.latents.values()]
        columns = zip(*parts, strict=True)
        self.loc, self.scale, self.log, self.lower, self.upper = (torch.cat(column) for column in columns)

    @property
    def dim(self) -> int:
        """D."""
        return self.layout.dim

    def log_likelihood(self, z: Tensor, data: Values | None = None, centers: Values | None = None) -> Tensor:
        """The log likelihood (data, pulls, random effects) with shape (n,); NaN became -inf."""
        return self.terms(z, data, centers).likelihood

    def terms(self, z: Tensor, data: Values | None = None, centers: Values | None = None) -> Terms:
        """All terms by kind at z."""
        return self.program.terms(self.values(z), data, centers)

    def values(self, z: Tensor) -> dict[str, Tensor]:
        """The latents at z: {site: (n, *site)}."""
        natural = linear = self.loc + self.scale * z
        if bool(self.log.any()):
            # The exponential of a large linear coordinate would be inf, and its unused gradient NaN.
            natural = torch.where(self.log, torch.where(self.log, linear, 0.0).exp(), linear)
        sites = self.program.latents
        return {name: sites[name].draws(block) for name, block in self.layout.cut(natural).items()}

    def coordinates(self, values: Values) -> Tensor:
        """The inverse of `values`: {site: (n, *site) or (*site)} to (n, D)."""
        sites = self.program.latents
        natural = self.layout.pack({name: sites[name].lanes(values[name]) for name in self.layout.blocks})
        linear = torch.where(self.log, natural.clamp(min=1e-300).log(), natural) if bool(self.log.any()) else natural
        return (linear - self.loc) / self.scale


def refuse_undeclared_random_effects(program: Program) -> None:
    """Raise InputError for a parameter or pull whose distribution depends on another latent."""
    for name, site in program.latents.items():
        if site.conditional and site.kind != "random_effect":
            raise InputError(
                f"site {name!r} is a {site.kind} whose {site.distribution} depends on another latent "
                "(a random effect): a frequentist likelihood must know whether its density counts; "
                f"declare it with nuppl.random_effect({name!r}, ...)"
            )


def refuse_curved_supports(program: Program) -> None:
    """Raise InputError for a latent whose support is not a box, such as a simplex."""
    for name, site in program.latents.items():
        if site.u_event != site.event:
            raise InputError(
                f"site {name!r} lives on a support of another dimension than its event {site.event} "
                f"({site.distribution}): a fit needs bounds on each entry; write it through free parameters"
            )


def _scaling(site: Site) -> tuple[Tensor, ...]:
    shape = site.full_shape
    lower, upper = (bound.expand(shape) if bound.dim() == 0 else bound.reshape(shape) for bound in _ends(site))
    log = torch.full(shape, site.distribution == "LogUniform")
    loc = torch.where(log, site.nominal.clamp(min=1e-300).log(), site.nominal).detach()
    lower, upper = (torch.where(log, end.clamp(min=1e-300).log(), end) for end in (lower, upper))
    scale = torch.where(log, (upper - lower) / 12**0.5, site.spread.expand(shape))
    return tuple(part.reshape(-1) for part in (loc, scale, log, (lower - loc) / scale, (upper - loc) / scale))


def _ends(site: Site) -> tuple[Tensor, Tensor]:
    if site.kind == "pull":
        return torch.tensor(-torch.inf), torch.tensor(torch.inf)
    return site.lower, site.upper
