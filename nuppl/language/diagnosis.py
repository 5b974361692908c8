"""Why no point has a finite density: which site is NaN or impossible, at which entry, through which argument.

A log density of NaN is a fault of the program (a negative rate, 0/0, the root of a negative number); one of -inf says
that the data cannot happen (a count where the rate is zero, a value outside the support). Each asks for another remedy.
"""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nuppl.language.arguments import describe_arguments, innermost, outside_support
from nuppl.language.handlers import lane_sum, log_prob
from nuppl.language.precision import seeded
from nuppl.language.program import Program
from nuppl.language.table import Site
from nuppl.language.transport import transport
from nuppl.typing import Values

__all__ = ["Diagnosis", "diagnose", "explain_no_density", "spread_points"]

POINTS = 256
"""The nominal point and draws from the prior."""
_TOLD = 3
"""Sites and coordinates that are told; more would bury the first."""

_FAULT = (
    "keep the arguments of its distribution valid for every value of the latents, as with .clamp(min=0.0), and look "
    "for 0/0 and for the logarithm or root of a negative number"
)
_IMPOSSIBLE = "these data cannot happen under the model: check the data, the model's prediction and the prior's range"


class Diagnosis(NamedTuple):
    """What `diagnose` found."""

    possible: bool
    """Whether any of the points has a finite density."""
    site: str
    """The site to look at first."""
    text: str
    """For the user: what was expected, what came, what to do."""


class _Term(NamedTuple):
    """What one site said at all points."""

    site: Site
    lanes: Tensor
    """Log density with shape (n,)."""
    entries: Tensor
    """The same entry by entry, those of the event too where it has a log density for each: (n, *batch, *event)."""
    value: Tensor
    """With shape (n or 1, *batch, *event)."""
    fn: Any

    @property
    def failures(self) -> int:
        """At how many points it is not finite."""
        return int((~self.lanes.isfinite()).sum())


def explain_no_density(program: Program, values: Values | None = None) -> str:
    """What to tell a user whose program has no finite density where an engine or a fit needs one.

    Arguments:
        program: with data.
        values: the points that were tried, every free latent with shape (n, *site); the nominal point and draws from
            the prior unless given.

    Returns:
        One sentence for an InputError: what was expected, what came (NaN and zero told apart, the site named with an
        entry and its arguments), what to do. Where some of the points do have a density it says which.

    >>> import pyro.distributions as dist
    >>> import nuppl
    >>> @nuppl.model
    ... def impossible():
    ...     rate = nuppl.parameter("rate", dist.Uniform(0.0, 1.0))
    ...     nuppl.observe("n", dist.Poisson(0.0 * rate), 3.0)
    >>> "n = 3, where its Poisson has rate = 0" in explain_no_density(impossible.bind())
    True
    """
    return diagnose(program, values).text


def diagnose(program: Program, values: Values | None = None) -> Diagnosis:
    """The same, for those who must know whether any point has a density; arguments as of `explain_no_density`."""
    where = "the nominal point and draws from the prior" if values is None else "where the engine looked"
    points = spread_points(program, POINTS) if values is None else values
    terms = _terms(program, points)
    total = torch.stack([each.lanes for each in terms]).sum(0)
    failing = sorted((each for each in terms if each.failures), key=lambda each: -each.failures)
    first = failing[0].site.name if failing else ""
    if bool(total.isfinite().any()):
        return Diagnosis(True, first, _somewhere(program, points, total, where))
    told = "; ".join(_site(each) for each in failing[:_TOLD])
    more = f"; and {len(failing) - _TOLD} more sites" if len(failing) > _TOLD else ""
    remedy = _FAULT if bool(failing[0].lanes.isnan().any()) else _IMPOSSIBLE
    text = (
        f"expected a density that is finite and positive somewhere, but it is {_kinds(total)} of {len(total)} points "
        f"tried ({where}): {told}{more}; {remedy}"
    )
    return Diagnosis(False, first, text)


def spread_points(program: Program, n: int) -> dict[str, Tensor]:
    """The nominal point, then n - 1 draws from the prior: {latent: (n, *site)}. No data are drawn."""
    found: dict[str, Tensor] = {}

    def visit(msg: Any, site: Site) -> None:
        if site.kind == "data":
            msg["value"] = program.data_lanes(site)
            return
        drawn = _draw(msg["fn"]).expand(n, *site.full_shape)
        value = msg["value"] = torch.cat([site.nominal.detach()[None], drawn[1:]])
        found[site.name] = site.draws(value)

    with seeded(0), torch.no_grad():
        program.run(visit, n=n)
    return found


def _draw(fn: Any) -> Tensor:
    """A draw through the whitening map, which works with invalid arguments too; where it is not exact, torch's own."""
    white = transport(fn)
    if not white.exact:
        with suppress(ValueError, RuntimeError, NotImplementedError):
            return fn.sample()  # type: ignore[no-any-return]
    return white.forward(torch.randn((*fn.batch_shape, *white.event_shape), dtype=torch.float64))


def _terms(program: Program, values: Values) -> list[_Term]:
    n = max((len(value) for value in values.values()), default=1)
    found: list[_Term] = []

    def visit(msg: Any, site: Site) -> None:
        value = program.data_lanes(site) if site.kind == "data" else site.lanes(values[site.name])
        msg["value"] = value
        term = log_prob(msg, value)
        lanes = lane_sum(term, site.name, site.batch).expand(n)
        entries = term.expand(n, *site.batch)
        inner = innermost(msg["fn"])
        if len(inner.batch_shape) > len(msg["fn"].batch_shape):
            own = inner.log_prob(value)
            # Masks and scales act on the whole event: an entry is to blame only where the event is.
            blamed = entries.reshape(*entries.shape, *(1,) * len(site.event)).isfinite()
            entries = torch.where(blamed, 0.0, own.expand(n, *site.full_shape))
        found.append(_Term(site, lanes, entries, value, msg["fn"]))

    with torch.no_grad():
        program.run(visit)
    return found


def _site(found: _Term) -> str:
    """One site in words: how often it fails, and the first entry that does."""
    site, nan = found.site, found.entries.isnan()
    bad = nan if bool(nan.any()) else ~found.entries.isfinite()
    index = tuple(bad.nonzero()[0].tolist())
    entry = found.value[(index[0] if len(found.value) > 1 else 0, *index[1:])]
    outside = None if bool(nan.any()) else outside_support(found.fn, entry, index)
    reason = outside or f"where its {site.distribution} has {describe_arguments(found.fn, index)}"
    kind = "data site" if site.kind == "data" else site.kind.replace("_", " ")
    example = f"{site.entry(index[1:])} = {_number(entry)}"
    return f"{kind} {site.name!r} is {_kinds(found.lanes)}, for example {example}, {reason}"


def _kinds(lanes: Tensor) -> str:
    """How often a density is NaN, zero or infinite: "zero at all"."""
    parts = (("NaN", lanes.isnan()), ("zero", torch.isneginf(lanes)), ("infinite", torch.isposinf(lanes)))
    counts = [(name, int(mask.sum())) for name, mask in parts if bool(mask.any())]
    return " and ".join(f"{name} at {'all' if count == len(lanes) else count}" for name, count in counts)


def _number(value: Tensor) -> str:
    return f"{float(value):.6g}" if value.numel() == 1 else str([float(f"{v:.4g}") for v in value.flatten()[:_TOLD]])


def _somewhere(program: Program, points: Values, total: Tensor, where: str) -> str:
    """The density is zero where the engine started, but not everywhere."""
    finite = total.isfinite()
    best = int(torch.where(finite, total, -math.inf).argmax())
    scalars = [name for name, site in program.latents.items() if not site.shape][:_TOLD]
    place = ", ".join(f"{name} = {float(points[name].expand(len(total))[best]):.4g}" for name in scalars)
    return (
        f"expected a density that is finite and positive at the start, but {int(finite.sum())} of {len(total)} points "
        f"tried have one ({where}){f', the best at {place}' if place else ''}: start there with nominal= of the "
        "parameters, or narrow the priors to what is possible"
    )
