"""Draws of many posteriors at once, where a density costs little: tempered particles, a population per data set.

    gamma_beta(u) = N(u; 0, 1) r(u)^beta,   beta from 0 to 1 for each population by itself,

moved in halves: a Student distribution fitted to one half proposes for the other, and so do differences of its members
(ter Braak, Statistics and Computing 16 (2006) 239; as parallel ensembles in Foreman-Mackey et al., arXiv:1202.3665).
Nothing of a half that moves enters its proposals, so every move leaves gamma as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nuppl.errors import InputError
from nuppl.language.handlers import lane_sum
from nuppl.language.program import Program, clean, sum_terms
from nuppl.language.simulation import tile_seed
from nuppl.language.table import Site
from nuppl.language.transport import transport
from nuppl.learning.learned import Learned
from nuppl.learning.posteriors import Drawn, interest_columns
from nuppl.learning.simulated import data_fields, whitened_layout
from nuppl.neural.fields import width
from nuppl.sampling.guides import TAIL
from nuppl.sampling.target import log_normal

__all__ = ["Ratios", "SurrogatePosteriors", "prior_correction", "tempered"]

Ratios = Callable[[Tensor, Tensor], Tensor]
"""log r with shape (k, P), at points with shape (k, P, d) of k populations, and their numbers with shape (k,)."""

_SHARE = 0.5
"""Effective share of the particles at each step in beta."""

_MOST, _STAYED, _STAYED_LAST = 10, 0.1, 0.02
"""Moves at one beta at most, and the expected share of unmoved particles at which they end, before and at beta = 1."""

_LEAST = 64
"""Particles of a population at least: fewer cannot tell a covariance."""

_WIDER = 1.1
"""How much wider than a half's members its Student distribution is."""

_LEAP = 0.1
"""Share of differences that are taken at full length: from mode to mode."""

_STREAM = 34 << 24


@dataclass(frozen=True, eq=False)
class SurrogatePosteriors:
    """The posteriors that a learned density gives for a batch of data sets; a `posteriors.Posteriors`.

    Attributes:
        learned: the density.
        program: of which it is.
        batch: data sets at a time.
    """

    learned: Learned
    program: Program
    batch: int = 128

    @torch.no_grad()
    def __call__(self, data: Tensor, truth: Tensor, count: int, seed: int, number: int) -> Drawn:
        """Draws of n posteriors, given data with shape (n, M), and their densities, up to a term of the data."""
        known = self.learned
        correction, seen = prior_correction(self.program, known.columns), known.seen(self._own(data))

        def ratios(x: Tensor, rows: Tensor) -> Tensor:
            return known.log_density(seen[rows, None], x) + correction(x)

        u = tempered(ratios, len(data), count, len(known.columns), tile_seed(seed, _STREAM, number))
        every = torch.arange(len(data))
        there = truth[:, None, known.columns]
        own = ratios(u, every) + log_normal(u), (ratios(there, every) + log_normal(there))[:, 0]
        return Drawn(u[:, :, torch.searchsorted(known.columns, interest_columns(self.program))], own)

    def _own(self, data: Tensor) -> Tensor:
        """Those data sites that the network stands for."""
        fields = data_fields(self.program)
        parts = data.split([field.size for field in fields], 1)
        if data.shape[1] != width(fields):
            raise InputError(f"data: expected {width(fields)} numbers for each data set, got {data.shape[1]}")
        return torch.cat(
            [part for part, field in zip(parts, fields, strict=True) if field.name in self.learned.sites], 1
        )


def prior_correction(program: Program, columns: Tensor) -> Callable[[Tensor], Tensor]:
    """log p(u) - log N(u; 0, 1) with shape (*), at latents with shape (*, d): zero where whitening is exact."""
    exact: list[bool] = []

    def look(msg: Any, site: Site) -> None:
        if site.kind == "data":
            msg["value"] = program.data_lanes(site)
        else:
            exact.append(transport(msg["fn"]).exact)
            msg["value"] = site.nominal[None]

    program.run(look)
    layout = whitened_layout(program)
    if all(exact) or len(columns) < layout.dim:
        return lambda x: torch.zeros(x.shape[:-1], dtype=torch.float64)
    return lambda x: _prior(program, x.reshape(-1, layout.dim)).reshape(x.shape[:-1]) - log_normal(x)


def _prior(program: Program, u: Tensor) -> Tensor:
    """The log density of whitened latents with shape (n, D) before data, with shape (n,)."""
    blocks, terms = whitened_layout(program).cut(u), []

    def visit(msg: Any, site: Site) -> None:
        if site.kind == "data":
            msg["value"] = program.data_lanes(site)
            return
        mapping = transport(msg["fn"])
        value = msg["value"] = mapping.forward(blocks[site.name])
        terms.append(lane_sum(mapping.log_density(blocks[site.name], value), site.name, site.batch))

    program.run(visit)
    return clean(sum_terms(terms, len(u)))


@torch.no_grad()
def tempered(ratios: Ratios, populations: int, count: int, dim: int, seed: int) -> Tensor:
    """Draws with shape (populations, count, dim) of the densities N(u; 0, 1) r(u), up to a factor.

    Arguments:
        ratios: log r; NaN counts as impossible.

    Raises:
        InputError: a population of which no draw of the standard normal has a density.

    >>> shift = torch.tensor([[-1.0], [2.0]])
    >>> draws = tempered(lambda x, rows: (x * shift[rows, None]).sum(-1), 2, 500, 1, seed=3)  # N(shift, 1)
    >>> bool(((draws.mean(1) - shift).abs() < 0.25).all()), tuple(draws.shape)
    (True, (2, 500, 1))
    """
    particles = max(2 * math.ceil(count / 2), _LEAST)
    crowd = _Crowd(ratios, populations, particles, dim, torch.Generator().manual_seed(seed))
    while len(crowd.rows):
        crowd.step()
    return crowd.done[:, :count]


class _Crowd:
    """The populations that are under way, k of them, with P particles each.

    Attributes:
        rows: their numbers, with shape (k,).
        x: with shape (k, P, d).
        log_r: with shape (k, P).
        beta: with shape (k,).
        done: those that have arrived, with shape (populations, P, d).
    """

    def __init__(self, ratios: Ratios, populations: int, particles: int, dim: int, randomness: torch.Generator) -> None:
        self.ratios, self.randomness = ratios, randomness
        self.rows = torch.arange(populations)
        self.x = self._normals(populations, particles, dim)
        self.log_r = self._density(self.x, self.rows)
        if not bool(self.log_r.isfinite().any(1).all()):
            raise InputError(
                "a learned density is zero at every draw of the prior: expected data like the simulated ones"
            )
        self.beta = torch.zeros(populations, dtype=torch.float64)
        self.done = torch.empty_like(self.x)

    def step(self) -> None:
        """One step in beta of every population, with moves until most particles have moved."""
        beta = self._next_beta()
        self._resample((beta - self.beta)[:, None] * self.log_r)
        self.beta = beta
        last, stayed = beta == 1.0, torch.ones(len(beta), dtype=torch.float64)
        for number in range(_MOST):
            for half in (0, 1):
                accepted = self._independent(half) if number % 2 == 0 else self._differences(half)
                stayed = stayed * (1.0 - accepted).sqrt()
            if bool((stayed < torch.where(last, _STAYED_LAST, _STAYED)).all()):
                break
        self.done[self.rows[last]] = self.x[last]
        self.rows, self.x, self.log_r, self.beta = (
            values[~last] for values in (self.rows, self.x, self.log_r, self.beta)
        )

    def _next_beta(self) -> Tensor:
        """The greatest beta that leaves each population its effective share, by bisection."""
        low, high = self.beta, torch.ones_like(self.beta)
        reached = self._effective(high) >= _SHARE
        for _ in range(40):
            middle = 0.5 * (low + high)
            enough = self._effective(middle) >= _SHARE
            low, high = torch.where(enough, middle, low), torch.where(enough, high, middle)
        return torch.where(reached, 1.0, torch.maximum(low, self.beta + 1e-9 * (1.0 - self.beta)))

    def _effective(self, beta: Tensor) -> Tensor:
        log_w = (beta - self.beta)[:, None] * self.log_r
        share = (2.0 * log_w.logsumexp(1) - (2.0 * log_w).logsumexp(1)).exp() / log_w.shape[1]
        return share.nan_to_num(0.0)

    def _resample(self, log_w: Tensor) -> None:
        """Systematic, population by population, in an order without meaning, so that halves are alike."""
        k, particles = log_w.shape
        cumulative = (log_w - log_w.logsumexp(1, keepdim=True)).exp().cumsum(1)
        offset = torch.rand(k, 1, generator=self.randomness, dtype=torch.float64)
        places = (torch.arange(particles) + offset) / particles * cumulative[:, -1:]
        picked = torch.searchsorted(cumulative, places).clamp(max=particles - 1)
        order = torch.rand(k, particles, generator=self.randomness).argsort(1)
        self._take(picked.gather(1, order))

    def _take(self, picked: Tensor) -> None:
        self.x = self.x.gather(1, picked[..., None].expand_as(self.x))
        self.log_r = self.log_r.gather(1, picked)

    def _independent(self, half: int) -> Tensor:
        """Proposals from a Student distribution around the other half; the share accepted, with shape (k,)."""
        mine, others = self._halves(half)
        d = others.shape[2]
        loc = others.mean(1, keepdim=True)
        centred = others - loc
        covariance = centred.mT @ centred / others.shape[1] + 1e-9 * torch.eye(d, dtype=torch.float64)
        factor = _WIDER * torch.linalg.cholesky(covariance)
        noise = self._normals(*self.x[:, mine].shape)
        chi2 = self._normals(*noise.shape[:2], TAIL).square().mean(-1, keepdim=True)
        proposed = loc + (noise / chi2.sqrt()) @ factor.mT

        def log_q(x: Tensor) -> Tensor:
            t = torch.linalg.solve_triangular(factor, (x - loc).mT, upper=False).mT
            return -0.5 * (TAIL + d) * torch.log1p(t.square().sum(-1) / TAIL)

        return self._accept(mine, proposed, log_q(self.x[:, mine]) - log_q(proposed))

    def _differences(self, half: int) -> Tensor:
        """Steps along the difference of two members of the other half; the share accepted, with shape (k,)."""
        mine, others = self._halves(half)
        k, n, d = self.x[:, mine].shape
        first = torch.randint(others.shape[1], (k, n), generator=self.randomness)
        apart = torch.randint(1, others.shape[1], (k, n), generator=self.randomness)
        pair = [others.gather(1, (i % others.shape[1])[..., None].expand(k, n, d)) for i in (first, first + apart)]
        size = 2.38 / math.sqrt(2 * d) * torch.rand(k, n, 1, generator=self.randomness, dtype=torch.float64) * 2.0
        leap = torch.rand(k, n, 1, generator=self.randomness) < _LEAP
        step = torch.where(leap, 1.0, size) * (pair[0] - pair[1])
        return self._accept(mine, self.x[:, mine] + step, torch.zeros(k, n))

    def _halves(self, half: int) -> tuple[slice, Tensor]:
        middle = self.x.shape[1] // 2
        both = slice(0, middle), slice(middle, None)
        return both[half], self.x[:, both[1 - half]]

    def _accept(self, mine: slice, proposed: Tensor, log_q: Tensor) -> Tensor:
        log_r = self._density(proposed, self.rows)
        here = log_normal(self.x[:, mine]) + self.beta[:, None] * self.log_r[:, mine]
        gain = log_normal(proposed) + self.beta[:, None] * log_r - here + log_q
        chance = gain.nan_to_num(-torch.inf, torch.inf, -torch.inf).clamp(max=0.0).exp()
        accepted = torch.rand(chance.shape, generator=self.randomness, dtype=torch.float64) < chance
        self.x[:, mine] = torch.where(accepted[..., None], proposed, self.x[:, mine])
        self.log_r[:, mine] = torch.where(accepted, log_r, self.log_r[:, mine])
        return chance.mean(1)

    def _density(self, x: Tensor, rows: Tensor) -> Tensor:
        return clean(self.ratios(x, rows))

    def _normals(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.randomness, dtype=torch.float64)
