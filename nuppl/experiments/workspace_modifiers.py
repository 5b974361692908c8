"""What the modifiers of a workspace stand for: parameters, their auxiliary measurements, and effects on the counts.

| type        | effect on a sample in a channel             | parameters | auxiliary measurement                       |
|-------------|---------------------------------------------|------------|---------------------------------------------|
| normfactor  | times mu                                    | one        | none                                        |
| lumi        | times lambda                                | one        | Normal(lambda, sigma), from the measurement |
| shapefactor | times gamma_b                               | one per bin| none                                        |
| shapesys    | times gamma_b                               | one per bin| Poisson(tau_b gamma_b), tau = (n / error)^2 |
| staterror   | times gamma_b, all samples together         | one per bin| Normal(gamma_b, error / n)                  |
| normsys     | times a factor between lo and hi            | one        | Normal(alpha, 1)                            |
| histosys    | plus a shift between lo and hi, bin by bin  | one        | Normal(alpha, 1)                            |

Source: Cranmer et al., HistFactory, CERN-OPEN-2012-016; the conventions are those of pyhf 0.7.6.
A new type is one function, which turns all uses of one name into parameters and effects, and a row of MODIFIERS.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from nuppl.errors import InputError
from nuppl.experiments.workspace_files import Channel, Modifier, Sample, field, number, numbers

__all__ = ["MODIFIERS", "Effect", "Factor", "Parameters", "Scaling", "Shift", "Use"]


@dataclass(frozen=True)
class Use:
    """A modifier on a sample; the row counts samples of all channels, the cells bins of all samples."""

    channel: Channel
    sample: Sample
    modifier: Modifier
    row: int
    first: int

    @property
    def bins(self) -> int:
        """How many bins the sample has."""
        return len(self.sample.nominal)

    @property
    def cells(self) -> range:
        """The cells of the sample."""
        return range(self.first, self.first + self.bins)


@dataclass(frozen=True)
class Parameters:
    """What one name stands for; tuples have one entry per parameter.

    Attributes:
        inits, bounds: where fits start, and between what.
        held: which stay at `inits`, since nothing is known of them or they do nothing.
        scalar: whether it is one number rather than one per bin.
        channel: whose bins the entries are, "" where they are those of several.
        measured: by which auxiliary measurement, "Normal", "Poisson" or "".
        auxdata: its outcome; empty where the measurement must say.
        widths: the standard deviation of a Normal, or tau of a Poisson.
    """

    inits: tuple[float, ...]
    bounds: tuple[tuple[float, float], ...]
    held: tuple[bool, ...] = (False,)
    scalar: bool = True
    channel: str = ""
    measured: str = ""
    auxdata: tuple[float, ...] = ()
    widths: tuple[float, ...] = ()


@dataclass(frozen=True)
class Scaling:
    """Each cell times an entry of the parameters."""

    cells: range
    entries: tuple[int, ...]


@dataclass(frozen=True)
class Factor:
    """A row times a factor that is lo at alpha = -1 and hi at +1."""

    row: int
    lo: float
    hi: float


@dataclass(frozen=True)
class Shift:
    """Each cell plus a shift that is -down at alpha = -1 and up at +1."""

    cells: range
    down: tuple[float, ...]
    up: tuple[float, ...]


Effect = Scaling | Factor | Shift
Reading = Callable[[Sequence[Use]], tuple[Parameters, list[Effect]]]


def normfactor(uses: Sequence[Use]) -> tuple[Parameters, list[Effect]]:
    """A free normalisation."""
    return Parameters((1.0,), ((0.0, 10.0),)), [Scaling(use.cells, (0,) * use.bins) for use in uses]


def lumi(uses: Sequence[Use]) -> tuple[Parameters, list[Effect]]:
    """The luminosity, whose value and error the measurement says."""
    return replace(normfactor(uses)[0], inits=(), bounds=(), measured="Normal"), normfactor(uses)[1]


def shapefactor(uses: Sequence[Use]) -> tuple[Parameters, list[Effect]]:
    """A free normalisation of each bin; bins of several channels share it by their number."""
    size = max(use.bins for use in uses)
    return _per_bin(uses, size, 0.0), [Scaling(use.cells, tuple(range(use.bins))) for use in uses]


def shapesys(uses: Sequence[Use]) -> tuple[Parameters, list[Effect]]:
    """Uncorrelated errors of one sample, as from counting tau_b control events: Poisson(tau_b gamma_b)."""
    first, *others = uses
    if others:
        raise InputError(
            f"{others[0].modifier.where}: expected a name of its own, since a shapesys belongs to one sample, "
            f"but {first.modifier.where.partition(', ')[2]} has it too"
        )
    errors = _errors(first)
    if min(first.sample.nominal) < 0.0:
        worst = min(first.sample.nominal)
        raise InputError(f"{first.modifier.where}: expected nominal counts of at least 0 in its sample, got {worst:g}")
    known = [count > 0.0 and error > 0.0 for count, error in zip(first.sample.nominal, errors, strict=True)]
    pairs = zip(first.sample.nominal, errors, known, strict=True)
    tau = tuple((count / error) ** 2 if is_known else 1.0 for count, error, is_known in pairs)
    parameters = _per_bin(uses, first.bins, 1e-10)
    measured = replace(parameters, held=_not(known), measured="Poisson", auxdata=tau, widths=tau)
    return measured, [Scaling(first.cells, tuple(range(first.bins)))]


def staterror(uses: Sequence[Use]) -> tuple[Parameters, list[Effect]]:
    """The statistical error of the simulation, of all its samples in a channel together: Normal(gamma_b, sigma_b)."""
    channels = sorted({use.channel.name for use in uses})
    groups = [[use for use in uses if use.channel.name == channel] for channel in channels]
    samples = [sorted(use.sample.name for use in group) for group in groups]
    if any(names != samples[0] for names in samples):
        told = "; ".join(f"{', '.join(names)} in {channel!r}" for channel, names in zip(channels, samples, strict=True))
        raise InputError(f"{uses[0].modifier.where}: expected the same samples in each of its channels, got {told}")
    relative = [value for group in groups for value in _relative_errors(group)]
    starts = [sum(group[0].bins for group in groups[:number]) for number in range(len(groups))]
    known = [value > 0.0 for value in relative]
    size = len(relative)
    measured = replace(
        _per_bin(uses, size, 1e-10),
        held=_not(known),
        measured="Normal",
        auxdata=(1.0,) * size,
        widths=tuple(value if value > 0.0 else 1.0 for value in relative),
    )
    spans = [(use, start) for group, start in zip(groups, starts, strict=True) for use in group]
    return measured, [Scaling(use.cells, tuple(range(start, start + use.bins))) for use, start in spans]


def normsys(uses: Sequence[Use]) -> tuple[Parameters, list[Effect]]:
    """A normalisation known to a factor."""
    found: list[Effect] = []
    for use in uses:
        where = use.modifier.where
        lo, hi = (number(field(use.modifier.data, name, where), f"{where}, {name}") for name in ("lo", "hi"))
        if min(lo, hi) <= 0.0:
            raise InputError(f"{where}: expected factors lo and hi above 0, got {lo:g} and {hi:g}")
        found.append(Factor(use.row, lo, hi))
    return _standard_normal(), found


def histosys(uses: Sequence[Use]) -> tuple[Parameters, list[Effect]]:
    """A change of shape, common to all bins."""
    found: list[Effect] = []
    for use in uses:
        where = use.modifier.where
        sides = ("lo_data", "hi_data")
        lo, hi = (numbers(field(use.modifier.data, side, where), f"{where}, {side}", use.bins) for side in sides)
        down = tuple(nominal - low for nominal, low in zip(use.sample.nominal, lo, strict=True))
        up = tuple(high - nominal for nominal, high in zip(use.sample.nominal, hi, strict=True))
        found.append(Shift(use.cells, down, up))
    return _standard_normal(), found


MODIFIERS: dict[str, Reading] = {
    "normfactor": normfactor,
    "lumi": lumi,
    "shapefactor": shapefactor,
    "shapesys": shapesys,
    "staterror": staterror,
    "normsys": normsys,
    "histosys": histosys,
}
"""All uses of one name, in the order written, to its parameters and effects."""


def _standard_normal() -> Parameters:
    return Parameters((0.0,), ((-5.0, 5.0),), measured="Normal", auxdata=(0.0,), widths=(1.0,))


def _per_bin(uses: Sequence[Use], size: int, lowest: float) -> Parameters:
    channels = {use.channel.name for use in uses}
    channel = next(iter(channels)) if len(channels) == 1 else ""
    return Parameters((1.0,) * size, ((lowest, 10.0),) * size, (False,) * size, scalar=False, channel=channel)


def _errors(use: Use) -> tuple[float, ...]:
    errors = numbers(use.modifier.data, use.modifier.where, use.bins)
    if min(errors) < 0.0:
        raise InputError(f"{use.modifier.where}: expected errors of at least 0, got {min(errors):g}")
    return errors


def _relative_errors(uses: Sequence[Use]) -> list[float]:
    """Errors of the samples of one channel added in quadrature, over their total; 0 where there is none."""
    nominal = [sum(column) for column in zip(*(use.sample.nominal for use in uses), strict=True)]
    errors = [math.hypot(*column) for column in zip(*map(_errors, uses), strict=True)]
    return [error / count if count > 0.0 else 0.0 for error, count in zip(errors, nominal, strict=True)]


def _not(flags: Sequence[bool]) -> tuple[bool, ...]:
    return tuple(not flag for flag in flags)
