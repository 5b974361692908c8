"""A program is a function of its sites: the same sites in every run, and nothing random but them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nuppl.language.findings import Finding
from nuppl.language.laws import DRAWS, Draws, evaluate, take
from nuppl.language.program import Program
from nuppl.language.table import Site
from nuppl.language.watch import Watch, describe_error

__all__ = ["generators_restored", "randomness", "same_sites"]


def randomness(program: Program, draws: Draws) -> Iterator[Finding]:
    """With all sites given, nothing is random: no term depends on a seed, and no generator is touched."""
    drawn_before: list[str] = []
    with generators_restored():
        _seed(1)
        first = _twice(program, draws, drawn_before)
        _seed(2)
        second = _twice(program, draws, drawn_before)
    advice = "the program draws random numbers outside its sites; draw them once outside the model, or make them a site"
    for name in first:
        if name in second and not torch.equal(first[name].nan_to_num(), second[name].nan_to_num()):
            text = f"expected the same log density in every run, got others: {advice}"
            yield Finding("randomness", name, "error", text)
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
def generators_restored() -> Iterator[None]:
    """The global generators of torch, NumPy and Python left as they were found."""
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
            text = f"the program fails at a draw from its prior: {describe_error(error)}"
            yield Finding("sites", watch.site, "error", text)
            return
        missing = [name for name in expected if name not in watch.rows]
        if missing:
            text = (
                f"expected the same sites in every run, but {', '.join(missing)} did not appear at a draw from the "
                "prior; choose with torch.where, or with an option of the model, not with `if` on a value"
            )
            yield Finding("sites", missing[0], "error", text)
            return
