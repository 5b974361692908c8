"""The laws that a program must keep, each proved by running it: a law yields what it finds.

One point at a time is the truth; any number of points at once must say the same of every site.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from pyro import poutine
from torch import Tensor
from torch.overrides import TorchFunctionMode

from nuppl.errors import InputError
from nuppl.language.findings import Finding
from nuppl.language.handlers import lane_sum, log_prob
from nuppl.language.precision import program_settings
from nuppl.language.program import Program
from nuppl.language.table import Site
from nuppl.language.watch import Watch, describe_error

__all__ = ["DRAWS", "batching", "gradients", "influence", "nominal", "plain_pyro", "randomness", "same_sites"]

Draws = Mapping[str, Tensor]
"""Every site that is not fixed, data among them: {site: (n, *site)}."""

DRAWS = 7
"""Distinct prior draws; larger batches repeat them."""
TOLERANCE = 1e-9
LARGE_AXIS = 64
"""All axes up to this size are tried as batch sizes, and the smallest one above."""
LARGEST_BATCH = 300


def evaluate(program: Program, draws: Draws, at_site: Callable[[Site], None] | None = None) -> dict[str, Tensor]:
    """The log density of each site; of a simulator, which has none, the sum of its parameters."""
    found: dict[str, Tensor] = {}

    def visit(msg: Any, site: Site) -> None:
        if at_site:
            at_site(site)
        value = msg["value"] = site.lanes(draws[site.name])
        found[site.name] = log_prob(msg, value) if site.has_density else sum(msg["fn"].parameters) + torch.zeros(())

    program.run(visit)
    return found


def sums(program: Program, terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The terms summed over their plates."""
    return {name: lane_sum(term, name, program.sites[name].batch) for name, term in terms.items()}


def take(draws: Draws, index: Any) -> dict[str, Tensor]:
    """Some of the draws."""
    return {name: value[index] for name, value in draws.items()}


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
        yield Finding("nominal", watch.site, "error", f"the program fails at its nominal point: {describe_error(error)}")


def randomness(program: Program, draws: Draws) -> Iterator[Finding]:
    """With all sites given, nothing is random: no term depends on a seed, and no generator is touched."""
    drawn_before: list[str] = []
    with _generators_restored():
        _seed(1)
        first = _twice(program, draws, drawn_before)
        _seed(2)
        second = _twice(program, draws, drawn_before)
    advice = "the program draws random numbers outside its sites; draw them once outside the model, or make them a site"
    for name in first:
        if name in second and not torch.equal(first[name].nan_to_num(), second[name].nan_to_num()):
            yield Finding("randomness", name, "error", f"expected the same log density in every run, got others: {advice}")
            return
    if drawn_before:
        site = drawn_before[0] or None
        place = f"before site {site!r}" if site else "after the last site"
        yield Finding("randomness", site, "error", f"a random generator was used {place}: {advice}")


def _twice(program: Program, draws: Draws, drawn_before: list[str]) -> dict[str, Tensor]:
    start = _states()

    def look(site: Site) -> None:
        if not drawn_before and _states() != start:
            drawn_before.append(site.name)

    terms = evaluate(program, take(draws, slice(0, 1)), look)
    if not drawn_before and _states() != start:
        drawn_before.append("")
    return terms


def _states() -> tuple[Any, ...]:
    kind, keys, *rest = np.random.get_state()
    return torch.get_rng_state().numpy().tobytes(), kind, np.asarray(keys).tobytes(), *rest, random.getstate()


def _seed(seed: int) -> None:
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


@contextmanager
def _generators_restored() -> Iterator[None]:
    ours, theirs, python = torch.get_rng_state(), np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        torch.set_rng_state(ours)
        np.random.set_state(theirs)
        random.setstate(python)


def same_sites(program: Program, draws: Draws, watch: Watch) -> Iterator[Finding]:
    """Every site appears in every run, whatever the values."""
    expected = list(program.sites)
    for i in range(DRAWS):
        try:
            evaluate(program, take(draws, slice(i, i + 1)))
        except Exception as error:
            site = watch.site
            yield Finding("sites", site, "error", f"the program fails at a draw from its prior: {describe_error(error)}")
            return
        missing = [name for name in expected if name not in watch.rows]
        if missing:
            yield Finding(
                "sites", missing[0], "error",
                f"expected the same sites in every run, but {', '.join(missing)} did not appear at a draw from the prior; "
                "choose with torch.where, or with an option of the model, not with `if` on a value",
            )  # fmt: skip
            return


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
            yield Finding(
                "batch", site, "error", f"runs on one point, but not on {size} at once: {describe_error(error)}{_hint(error)}"
            )
            return
        for name, term in terms.items():
            size_of_term = lane_sum(term.abs(), name)
            difference = (together[name] - truth[name][index]).abs()
            agree = (difference <= TOLERANCE * size_of_term.clamp(min=1.0)) | _same(together[name], truth[name][index])
            if not bool(agree.all()):
                yield Finding(
                    "batch", name, "error",
                    f"expected {size} points at once to give the log densities of the same points one at a time, got a "
                    f"difference of {float(difference[~agree].max()):.3g}; a value was used as if it were a scalar where "
                    f"it has shape {(size, *program.sites[name].batch)}: keep every axis (keepdim=True), and give an axis "
                    "of your own a place before you multiply",
                )  # fmt: skip
                return


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
        return "; a value of one point is a tensor with eight axes: give internal axes a place left of it, and remove them"
    return ""


class _Sizes(TorchFunctionMode):
    """Collects the size of every axis that a program's tensors have."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[int] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor):
            self.found.update(out.shape)
        return out


def _batch_sizes(program: Program, draws: Draws) -> list[int]:
    """Two primes, and the sizes with which an axis of the program, internal ones too, could be mistaken for the batch."""
    with _Sizes() as sizes:
        evaluate(program, take(draws, slice(0, 1)))
    for site in program.sites.values():
        sizes.found.update(site.full_shape)
    small = {size for size in sizes.found if 1 < size <= LARGE_AXIS}
    large = sorted(size for size in sizes.found if LARGE_AXIS < size <= LARGEST_BATCH)
    return [3, DRAWS, *sorted(small - {3, DRAWS}), *large[:1]]


def plain_pyro(program: Program, draws: Draws) -> Iterator[Finding]:
    """Pyro's own trace, without lanes, gives the same log densities."""
    if any(site.data is None or not site.has_density for site in program.data_sites.values()):
        return
    one = {**take(draws, slice(0, 1)), **program.data}
    values = {name: one[name] for name in program.latents} | program.fixed
    given = {name: value.reshape(program.sites[name].plain_shape) for name, value in values.items()}
    with program_settings():
        trace = poutine.trace(poutine.condition(program.function, data=given)).get_trace()
    for name, term in sums(program, evaluate(program, one)).items():
        node = trace.nodes[name]
        try:
            plain = float(node["fn"].log_prob(node["value"]).sum())
        except (ValueError, RuntimeError, IndexError):
            plain = float("nan")
        here = float(term[0])
        if abs(plain - here) > TOLERANCE * max(1.0, abs(here)) or (plain != plain) != (here != here):
            yield Finding(
                "pyro", name, "warning",
                f"plain Pyro gives a log density of {plain:.10g}, nuppl {here:.10g}; give the data the shape "
                f"{program.sites[name].plain_shape}, so that each axis lies at its plate's dim",
            )  # fmt: skip


def gradients(program: Program, draws: Draws) -> Iterator[Finding]:
    """Wherever the log density is finite, so is its gradient."""
    leaves = {name: draws[name].clone().requires_grad_() for name in program.latents}
    total = sum(sums(program, evaluate(program, {**draws, **leaves})).values())
    if not isinstance(total, Tensor) or not total.requires_grad:
        return
    finite = total.expand(DRAWS).isfinite()
    slopes = torch.autograd.grad(total.expand(DRAWS)[finite].sum(), list(leaves.values()), allow_unused=True)
    for name, slope in zip(leaves, slopes, strict=True):
        if slope is not None and not bool(slope[finite].isfinite().all()):
            yield Finding(
                "gradient", name, "error",
                "expected a finite gradient wherever the log density is finite, got NaN or infinity at a draw from the "
                "prior; a square root or logarithm of zero, or the unused branch of a torch.where, does that",
            )  # fmt: skip


def influence(program: Program, draws: Draws) -> Iterator[Finding]:
    """Every latent matters: some other site's term changes with it."""
    before = sums(program, evaluate(program, draws))
    for name in program.latents:
        after = sums(program, evaluate(program, {**draws, name: draws[name].roll(1, 0)}))
        others = [other for other in before if other != name]
        if all(bool(_same(before[other], after[other]).all()) for other in others):
            yield Finding("influence", name, "warning", "no data depend on it: remove it, or use it")
