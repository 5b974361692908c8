"""The parameters of a workspace, gathered from its modifiers and settled by a measurement, and how they are sampled.

A Gaussian auxiliary measurement is a pull, unless a bound lies within five standard deviations of it: then it is a
parameter, uniform between its bounds, with a data site that measures it, as every Poisson measurement is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor

from nuppl.errors import InputError, unknown
from nuppl.experiments.workspace_files import Measurement, Workspace, numbers
from nuppl.experiments.workspace_modifiers import MODIFIERS, Effect, Parameters, Use
from nuppl.language.plates import plate
from nuppl.language.sites import auxiliary, parameter, pull

__all__ = ["Block", "blocks", "gather", "names_for", "settle"]

_FAR = 4.999
"""Standard deviations beyond which a bound is out of reach."""

_SUFFIXES = ("", "_measured", "_held", "_bin")
"""Of the sites and plates that belong to one name."""


def gather(workspace: Workspace) -> tuple[dict[str, Parameters], list[tuple[Effect, str]]]:
    """The parameters of all modifiers by name, and each effect with the name of its parameters.

    Raises:
        InputError: an unknown type of modifier, data that do not fit, or one name for two kinds of parameters.
    """
    uses: dict[tuple[str, str], list[Use]] = {}
    for use in _uses(workspace):
        uses.setdefault((use.modifier.name, use.modifier.type), []).append(use)
    found: dict[str, Parameters] = {}
    effects: list[tuple[Effect, str]] = []
    for (name, kind), group in uses.items():
        parameters, caused = MODIFIERS[kind](group)
        if found.setdefault(name, parameters) != parameters:
            raise InputError(
                f"{group[0].modifier.where}: expected the same kind of parameter wherever the name is used, but "
                f"another type of modifier has it too; rename one"
            )
        effects.extend((effect, name) for effect in caused)
    if not found:
        raise InputError(f"{workspace.where}: expected at least one modifier, found none: there is nothing to infer")
    return found, effects


def _uses(workspace: Workspace) -> Iterable[Use]:
    row = first = 0
    for channel in workspace.channels:
        for sample in channel.samples:
            for modifier in sample.modifiers:
                if modifier.type not in MODIFIERS:
                    raise InputError(f"{modifier.where}: {unknown('type of modifier', modifier.type, MODIFIERS)}")
                yield Use(channel, sample, modifier, row, first)
            row, first = row + 1, first + len(sample.nominal)


def settle(parameters: Parameters, name: str, measurement: Measurement, where: str) -> Parameters:
    """The parameters of one name with what the measurement says of them.

    Raises:
        InputError: a setting that does not fit; says which.
    """
    said, where = measurement.settings.get(name, {}), f"{where}, parameter {name!r}"
    width = _WIDTHS[parameters.measured]
    allowed = ("inits", "bounds", "fixed", *(("auxdata", width) if width else ()))
    for setting in said:
        if setting not in allowed:
            raise InputError(f"{where}: expected no {setting}, since it can only have {', '.join(allowed)}")
    if parameters.measured and not parameters.auxdata and not {"auxdata", width} <= said.keys():
        raise InputError(f"{where}: expected auxdata and {width} in the measurement, since its modifier has none")
    given: dict[str, Any] = {_ATTRIBUTE[name]: _setting(name, said[name], parameters, where) for name in said}
    settled = replace(parameters, **given)
    if not settled.inits:  # a luminosity starts where it was measured
        settled = replace(settled, inits=settled.auxdata)
    if not settled.bounds:
        settled = replace(settled, bounds=tuple((0.0, 10.0 * value) for value in settled.auxdata))
    _check(settled, where)
    return settled


_WIDTHS = {"Normal": "sigmas", "Poisson": "factors", "": ""}
"""What pyhf calls the width of each kind of measurement."""

_ATTRIBUTE = {
    "inits": "inits",
    "bounds": "bounds",
    "fixed": "held",
    "auxdata": "auxdata",
    "sigmas": "widths",
    "factors": "widths",
}


def _setting(name: str, value: Any, parameters: Parameters, where: str) -> tuple[Any, ...]:
    where, size = f"{where}, {name}", len(parameters.held)
    if name == "fixed":
        if not isinstance(value, bool):
            raise InputError(f"{where}: expected true or false, got {value!r}")
        return (value,) * size
    if name == "bounds":
        if not isinstance(value, list) or len(value) != size:
            raise InputError(f"{where}: expected a list of {size} pairs [lower, upper], got {value!r}")
        return tuple(numbers(pair, where, 2, "end") for pair in value)
    return numbers(value, where, size, "parameter")


def _check(parameters: Parameters, where: str) -> None:
    for start, (lower, upper) in zip(parameters.inits, parameters.bounds, strict=True):
        if not lower <= start <= upper or lower == upper:
            raise InputError(f"{where}: expected inits between its bounds {lower:g} and {upper:g}, got {start:g}")
    if parameters.widths and min(parameters.widths) <= 0.0:
        raise InputError(
            f"{where}, {_WIDTHS[parameters.measured]}: expected numbers above 0, got {min(parameters.widths):g}"
        )


@dataclass(frozen=True)
class Block:
    """Entries of the parameters of one name that are sampled together: the free ones, or those held.

    Attributes:
        site: the name of the site.
        parameters: of these entries alone.
        entries: which they are.
        plate: name and coordinates of their axis; None for a single number.
    """

    site: str
    parameters: Parameters
    entries: tuple[int, ...]
    plate: tuple[str, int | tuple[int, ...]] | None

    @property
    def held(self) -> bool:
        """Whether they stay at their start."""
        return self.parameters.held[0]

    @cached_property
    def start(self) -> Tensor:
        """Where they start with shape (entries,), or () for a single number."""
        return self._tensor(self.parameters.inits)

    @cached_property
    def prior(self) -> Any:
        """Uniform between the bounds."""
        lower, upper = (self._tensor(ends) for ends in zip(*self.parameters.bounds, strict=True))
        # Kept from run to run, whatever the settings of the first.
        return dist.Uniform(lower, upper, validate_args=False)

    @cached_property
    def centre(self) -> Tensor:
        """The outcome of the auxiliary measurement."""
        return self._tensor(self.parameters.auxdata)

    @cached_property
    def width(self) -> Tensor:
        """The standard deviation of a Normal measurement, or tau of a Poisson."""
        return self._tensor(self.parameters.widths)

    @cached_property
    def is_pull(self) -> bool:
        """Whether the measurement is Gaussian, and the bounds are far away."""
        if self.held or self.parameters.measured != "Normal":
            return False
        room = torch.minimum(self.prior.high - self.centre, self.centre - self.prior.low)
        return bool((room > _FAR * self.width).all())

    def sample(self) -> Tensor:
        """The sites of the block, with shape (*, entries), or (*) for a single number."""
        with nullcontext() if self.plate is None else plate(*self.plate, dim=-1):
            if not self.parameters.measured:
                return parameter(self.site, self.prior, nominal=self.start)
            if self.is_pull:
                return pull(self.site, dist.Normal(self.centre, self.width))
            return auxiliary(self.site, self.prior, self._measurement, self.centre, nominal=self.start)

    def _measurement(self, value: Tensor) -> Any:
        if self.parameters.measured == "Poisson":
            return dist.Poisson(self.width * value)
        return dist.Normal(value, self.width)

    def _tensor(self, values: Sequence[float]) -> Tensor:
        found = torch.tensor(values, dtype=torch.float64)
        return found[0] if self.plate is None else found


def blocks(parameters: Parameters, site: str, bins: str) -> list[Block]:
    """The free and the held entries of one name.

    Arguments:
        parameters: settled.
        site: its site.
        bins: the plate of the bins of its channel, "" where they are those of several channels.
    """
    found = []
    for held in (False, True):
        entries = tuple(entry for entry, flag in enumerate(parameters.held) if flag == held)
        if not entries:
            continue
        every = len(entries) == len(parameters.held)
        name = site if every or not held else f"{site}_held"
        axis = (bins, len(entries)) if every and bins else (f"{name}_bin", entries)
        part: dict[str, Any] = {each: _take(getattr(parameters, each), entries) for each in _PER_ENTRY}
        found.append(Block(name, replace(parameters, **part), entries, None if parameters.scalar else axis))
    return found


_PER_ENTRY = ("inits", "bounds", "held", "auxdata", "widths")


def _take(values: Sequence[Any], entries: Sequence[int]) -> tuple[Any, ...]:
    return tuple(values[entry] for entry in entries) if values else ()


def names_for(names: Iterable[str], taken: set[str]) -> dict[str, str]:
    """A valid site name for each name, none of which clashes with another or with what is taken (which grows).

    >>> names_for(["mu", "JES 1", "JES-1"], set())
    {'mu': 'mu', 'JES 1': 'JES_1', 'JES-1': 'JES_1_2'}
    """
    found = {}
    for name in names:
        base = re.sub(r"\W", "_", name, flags=re.ASCII)
        base = base if base.isidentifier() else f"_{base}"
        candidates = (base if number == 1 else f"{base}_{number}" for number in count(1))
        site = next(each for each in candidates if taken.isdisjoint(each + suffix for suffix in _SUFFIXES))
        taken.update(site + suffix for suffix in _SUFFIXES)
        found[name] = site
    return found
