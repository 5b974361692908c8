"""The laws that a program must keep, each proved by running it: a law yields what it finds.

One point at a time is the truth; any number of points at once must say the same of every site.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from pyro import poutine
from torch import Tensor
from torch.overrides import TorchFunctionMode

from nuppl.errors import InputError, ModelError
from nuppl.language.diagnosis import diagnose
from nuppl.language.findings import Finding
from nuppl.language.handlers import lane_sum, log_prob
from nuppl.language.plates import PLATE_DIMS
from nuppl.language.precision import program_settings
from nuppl.language.program import Program
from nuppl.language.simulation import simulate
from nuppl.language.table import Site
from nuppl.language.watch import Watch, describe_error

__all__ = [
    "DRAWS",
    "MANY",
    "batching",
    "drawing",
    "evaluate",
    "finite",
    "gradients",
    "influence",
    "nominal",
    "plain_pyro",
    "possible",
    "take",
]

Draws = Mapping[str, Tensor]
"""Every site that is not fixed, data among them: {site: (n, *site)}."""

DRAWS = 7
"""Distinct prior draws; larger batches repeat them."""
TOLERANCE = 1e-9
MANY = 32
"""Prior draws where only their number counts."""
LARGE_AXIS = 64
"""All axes up to this size are tried as batch sizes, and the smallest one above."""
LARGEST_BATCH = 300


def evaluate(
    program: Program, draws: Draws, at_site: Callable[[Site], None] | None = None, validate: bool = False
) -> dict[str, Tensor]:
    """The log density of each site; of a simulator, which has none, the sum of its parameters."""
    found: dict[str, Tensor] = {}

    def visit(msg: Any, site: Site) -> None:
        if at_site:
            at_site(site)
        value = msg["value"] = site.lanes(draws[site.name])
        found[site.name] = log_prob(msg, value) if site.has_density else sum(msg["fn"].parameters) + torch.zeros(())

    program.run(visit, validate=validate)
    return found


def sums(program: Program, terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The terms summed over their plates."""
    return {name: lane_sum(term, name, program.sites[name].batch) for name, term in terms.items()}


def take(draws: Draws, index: Any) -> dict[str, Tensor]:
    """Some of the draws."""
    return {name: value[index] for name, value in draws.items()}


def possible(program: Program) -> Iterator[Finding]:
    """The data can happen somewhere, and best at the nominal point, from which fits start."""
    if any(site.data is None or not site.has_density for site in program.data_sites.values()):
        return
    one = {name: site.nominal.reshape(site.shape) for name, site in program.sites.items()}
    try:
        here = sums(program, evaluate(program, one))
        if all(bool(term.isfinite().all()) for term in here.values()):
            return
        found = diagnose(program)
    except Exception:
        # What else breaks the contract is for the laws that follow to say, with its place.
        return
    if not found.possible:
        yield Finding("density", found.site, "error", found.text)
    elif not any(bool(term.isnan().any()) for term in here.values()):
        yield Finding("density", found.site, "warning", f"impossible at the nominal point: {found.text}")


def nominal(program: Program, watch: Watch) -> Iterator[Finding]:
    """The nominal point and the data pass torch's own validation."""

    def visit(msg: Any, site: Site) -> None:
        value = msg["value"] = site.nominal[None]
        counts = site.kind == "data" and site.has_density and msg["fn"].support.is_discrete
        if site.kind != "data" or (site.data is not None and site.has_density and not counts):
            log_prob(msg, value)

    try:
        program.run(visit, validate=True)
    except Exception as error:
        text = f"the program fails at its nominal point: {describe_error(error)}"
        yield Finding("nominal", watch.site, "error", text)


def batching(program: Program, draws: Draws, watch: Watch) -> Iterator[Finding]:
    """Many points at once say of every site what one at a time says, for prime batches and those of each axis' size."""
    try:
        single = [sums(program, evaluate(program, take(draws, slice(i, i + 1)))) for i in range(DRAWS)]
        truth = {name: torch.cat([each[name] for each in single]) for name in single[0]}
    except InputError as error:
        yield Finding("shape", watch.site or _named(error, program), "error", describe_error(error))
        return
    for size in _batch_sizes(program, draws):
        index = torch.arange(size) % DRAWS
        try:
            terms = evaluate(program, take(draws, index))
            together = sums(program, terms)
        except Exception as error:
            site = watch.site or _named(error, program)
            text = f"runs on one point, but not on {size} at once: {describe_error(error)}{_hint(error)}"
            yield Finding("batch", site, "error", text)
            return
        for name, term in terms.items():
            size_of_term = lane_sum(term.abs(), name)
            difference = (together[name] - truth[name][index]).abs()
            agree = (difference <= TOLERANCE * size_of_term.clamp(min=1.0)) | _same(together[name], truth[name][index])
            if not bool(agree.all()):
                worst = float(difference[~agree].max())
                text = (
                    f"expected {size} points at once to give the log densities of the same points one at a time, got a "
                    f"difference of {worst:.3g}; a scalar site then has shape {(size, *(1,) * PLATE_DIMS)}: "
                    "add an internal axis explicitly before you multiply, and keep all others (keepdim=True)"
                )
                yield Finding("batch", name, "error", text)
                return


def drawing(program: Program, watch: Watch, n: int, at_once: int, draws: dict[str, Tensor]) -> Iterator[Finding]:
    """The program can be simulated, `at_once` points at a time; leaves what it drew in `draws`."""
    try:
        draws.update(simulate(program, n, seed=0, tile=at_once))
    except Exception as error:
        ours = isinstance(error, InputError) and not isinstance(error, ModelError)
        rule = "shape" if ours else "simulation"
        rule = "sites" if watch.site and watch.site not in program.sites else rule
        text = f"cannot be simulated, {at_once} at a time: {describe_error(error)}{_hint(error) if at_once > 1 else ''}"
        yield Finding(rule, watch.site, "error", text)


def finite(program: Program, draws: Draws, watch: Watch) -> Iterator[Finding]:
    """Prior draws give distributions that torch accepts, and densities that are numbers."""
    for name, value in draws.items():
        if bool(value.isnan().any()):
            yield Finding("density", name, "warning", f"drew NaN at {_count(value)} of {MANY} draws from the prior")
            return
    for name, term in sums(program, evaluate(program, draws)).items():
        if bool(term.isnan().any()):
            yield Finding(
                "density",
                name,
                "warning",
                f"its log density is NaN at {_count(term)} of {len(term)} draws from the prior (counted as -inf): "
                "keep the arguments of its distribution valid everywhere, as with .clamp(min=0.0)",
            )
            return
    try:
        evaluate(program, draws, validate=True)
    except Exception as error:
        text = f"torch refuses a distribution at some draws from the prior: {describe_error(error)}"
        yield Finding("density", watch.site, "warning", text)


def _count(value: Tensor) -> int:
    return int(value.isnan().flatten(1).any(1).sum()) if value.dim() > 1 else int(value.isnan().sum())


def _same(one: Tensor, other: Tensor) -> Tensor:
    """Equal, infinities and NaN included."""
    return (one == other) | (one.isnan() & other.isnan())


def _named(error: BaseException, program: Program) -> str | None:
    """The site that a message of ours quotes."""
    return next((name for name in program.sites if f"site {name!r}" in str(error)), None)


def _hint(error: BaseException) -> str:
    text = str(error)
    if "ambiguous" in text:
        return "; `if` cannot decide for many points: use torch.where"
    if "Scalar" in text or "scalar" in text:
        return "; a value cannot become a Python number: keep it a tensor"
    if "size" in text or "shape" in text:
        return "; a value has eight axes, lanes first: add internal axes explicitly, and remove them again"
    return ""


class _Sizes(TorchFunctionMode):
    """Collects the size of every axis that a program's tensors have."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[int] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in (out, *args):
            if isinstance(tensor, Tensor):
                self.found.update(tensor.shape)
        return out


def _batch_sizes(program: Program, draws: Draws) -> list[int]:
    """Two primes, and the size of every axis, internal ones too, that could be mistaken for the batch."""
    with _Sizes() as sizes:
        evaluate(program, take(draws, slice(0, 1)))
    for site in program.sites.values():
        sizes.found.update(site.full_shape)
    small = {size for size in sizes.found if 1 < size <= LARGE_AXIS}
    large = sorted(size for size in sizes.found if LARGE_AXIS < size <= LARGEST_BATCH)
    return [3, DRAWS, *sorted(small - {3, DRAWS}), *large[:1]]


def plain_pyro(program: Program) -> Iterator[Finding]:
    """Pyro's own trace at the nominal point, without lanes, gives the same log densities."""
    if any(site.data is None or not site.has_density for site in program.data_sites.values()):
        return
    one = {name: site.nominal.reshape(site.shape) for name, site in program.sites.items()}
    latents = [site for site in program.sites.values() if site.kind != "data"]
    given = {site.name: site.nominal.reshape(site.plain_shape) for site in latents}
    with program_settings():
        trace = poutine.trace(poutine.condition(program.function, data=given)).get_trace()
        plain = {name: _plain_sum(trace.nodes[name]) for name in program.sites}
    for name, term in sums(program, evaluate(program, one)).items():
        here = float(term[0])
        if not math.isclose(plain[name], here, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
            text = (
                f"plain Pyro gives a log density of {plain[name]:.10g}, nuppl {here:.10g}; give the data the shape "
                f"{program.sites[name].plain_shape}, so that each axis lies at its plate's dim"
            )
            yield Finding("pyro", name, "warning", text)


def _plain_sum(node: Any) -> float:
    try:
        return float(node["fn"].log_prob(node["value"]).sum())
    except (ValueError, RuntimeError, IndexError):
        return math.nan


def gradients(program: Program, draws: Draws) -> Iterator[Finding]:
    """Wherever the log density is finite, so is its gradient."""
    leaves = {name: draws[name].clone().requires_grad_() for name in program.latents}
    total = sum(sums(program, evaluate(program, {**draws, **leaves})).values())
    if not isinstance(total, Tensor) or not total.requires_grad:
        return
    finite = total.expand(MANY).isfinite()
    slopes = torch.autograd.grad(total.expand(MANY)[finite].sum(), list(leaves.values()), allow_unused=True)
    for name, slope in zip(leaves, slopes, strict=True):
        if slope is not None and not bool(slope[finite].isfinite().all()):
            yield Finding(
                "gradient",
                name,
                "error",
                "expected a finite gradient wherever the log density is finite, got NaN or infinity at a draw from the "
                "prior; a square root or logarithm of zero, or the unused branch of a torch.where, does that",
            )


def influence(program: Program, draws: Draws) -> Iterator[Finding]:
    """Every latent matters: some other site's term changes with it."""
    before = sums(program, evaluate(program, draws))
    for name in program.latents:
        after = sums(program, evaluate(program, {**draws, name: draws[name].roll(1, 0)}))
        others = [other for other in before if other != name]
        if all(bool(_same(before[other], after[other]).all()) for other in others):
            yield Finding("influence", name, "warning", "no data depend on it: remove it, or use it")
