"""Test statistics by name: what a scan, its toys and its critical values are made of.

| name             | what                                                                     | file               |
|------------------|--------------------------------------------------------------------------|--------------------|
| likelihood-ratio | twice the rise of minus log L from its minimum                            | likelihood_ratio   |
| q-tilde          | the same, zero below the best fit: upper limits and CLs                   | likelihood_ratio   |
| gaussian-cls     | twice the difference of minus log L between a point and a null hypothesis | two_hypotheses     |
| focused          | strong near a focus: options center, width, shape                         | focused            |
| posterior        | minus twice the log posterior density                                     | focused            |
| waldo            | distance to the posterior mean by the posterior covariance                | focused            |
| FILE.py:function | a user's: (experiments, options...) to numbers with shape (n,)            | the user's         |

A statistic is a function of `Experiments`. Large values speak against what is tested. Critical values come from toys,
or, for the first three, from asymptotic formulas.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nuppl.errors import InputError, unknown
from nuppl.frequentist.experiments import Experiments
from nuppl.frequentist.focused import check_focus, focused, posterior, waldo
from nuppl.frequentist.grid import Grid
from nuppl.frequentist.likelihood_ratio import check_one_sided, likelihood_ratio, q_tilde, wilks_everywhere
from nuppl.frequentist.one_sided import one_sided_critical
from nuppl.frequentist.profile import Profile
from nuppl.frequentist.two_hypotheses import against_null, check_null, two_hypotheses_critical
from nuppl.language.loading import load_function, where
from nuppl.language.program import Program

__all__ = ["LIKELIHOOD_RATIO", "STATISTICS", "Kind", "Statistic", "statistic"]

Asymptotic = Callable[..., Tensor]
"""(profile, levels, **options) to critical values with shape (L, G)."""


class Kind(NamedTuple):
    """A row of the registry."""

    function: Callable[..., Tensor]
    """(experiments, **options) to numbers with shape (n,)."""
    asymptotic: Asymptotic | None = None
    check: Callable[..., None] | None = None
    """(program, grid, **options): raises InputError for what cannot be scanned with it."""
    null: bool = False
    """Whether it compares with a null hypothesis: then every point gets all toys."""


STATISTICS: dict[str, Kind] = {
    "likelihood-ratio": Kind(likelihood_ratio, wilks_everywhere),
    "q-tilde": Kind(q_tilde, one_sided_critical, check_one_sided, null=True),
    "gaussian-cls": Kind(against_null, two_hypotheses_critical, check_null, null=True),
    "focused": Kind(focused, check=check_focus),
    "posterior": Kind(posterior),
    "waldo": Kind(waldo),
}


@dataclass(frozen=True, eq=False)
class Statistic:
    """A test statistic with its options.

    Attributes:
        spec: its name and options as they were written.
        name: of the registry, or FILE.py:function.
        kind: its row.
        options: keyword arguments.
    """

    spec: str
    name: str
    kind: Kind
    options: Mapping[str, Any] = field(default_factory=dict)

    def __reduce__(self) -> tuple[Any, ...]:
        # A user's function lives in a file; another process reads it anew.
        return statistic, (self.spec,)

    def __call__(self, experiments: Experiments) -> Tensor:
        """Numbers with shape (n,); inf where a fit gave none.

        Raises:
            InputError: a user's function that raised, or gave something else.
        """
        if self.name in STATISTICS:
            found = self.kind.function(experiments, **self.options)
        else:
            found = self._of_user(experiments)
        return torch.where(found.isnan(), torch.inf, found)

    def check(self, program: Program, grid: Grid) -> None:
        """Raise InputError where it cannot be used for a scan."""
        if self.kind.check is not None:
            self.kind.check(program, grid, **self.options)

    def critical(self, profile: Profile, levels: Sequence[float]) -> Tensor:
        """Asymptotic critical values with shape (L, G).

        Raises:
            InputError: there are none.
        """
        if self.kind.asymptotic is None:
            raise self.needs_toys()
        return self.kind.asymptotic(profile, levels, **self.options)

    def needs_toys(self) -> InputError:
        """What to say where there are none."""
        return InputError(f"statistic {self.name!r} has no asymptotic critical values: throw toys, as with --toys 1000")

    def _of_user(self, experiments: Experiments) -> Tensor:
        try:
            found = self.kind.function(experiments, **self.options)
        except Exception as error:
            raise InputError(f"statistic {self.name!r}: {where(error, self.name.rpartition(':')[0])}") from error
        if not isinstance(found, Tensor) or found.shape != (len(experiments),):
            came = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
            raise InputError(f"statistic {self.name!r}: expected a tensor with shape ({len(experiments)},), got {came}")
        return found.detach().double()


LIKELIHOOD_RATIO = Statistic("likelihood-ratio", "likelihood-ratio", STATISTICS["likelihood-ratio"])


def statistic(spec: str) -> Statistic:
    """The statistic that a text names: NAME or FILE.py:function, then options as `,KEY=VALUE`.

    A value is a number, several with slashes between, or a word.

    Raises:
        InputError: no such statistic, file or option.

    >>> found = statistic("focused,center=1,width=0.5")
    >>> found.name, found.options
    ('focused', {'center': 1.0, 'width': 0.5})
    """
    name, *pairs = (part.strip() for part in spec.split(","))
    if name in STATISTICS:
        kind = STATISTICS[name]
    elif ".py:" in name or name.endswith(".py"):
        kind = Kind(load_function(name))
    else:
        raise unknown("statistic", name, [*STATISTICS, "FILE.py:function"])
    return Statistic(spec, name, kind, _options(name, kind, pairs))


def _options(name: str, kind: Kind, pairs: Sequence[str]) -> dict[str, Any]:
    known = list(inspect.signature(kind.function).parameters)[1:]
    found: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = (part.strip() for part in pair.partition("="))
        if not equals or not text:
            raise InputError(f"statistic {name!r}: expected options as KEY=VALUE, got {pair!r}")
        if key not in known:
            raise unknown(f"option of statistic {name!r}", key, known)
        found[key] = _value(text)
    return found


def _value(text: str) -> float | tuple[float, ...] | str:
    try:
        numbers = tuple(map(float, text.split("/")))
    except ValueError:
        return text
    return numbers[0] if len(numbers) == 1 else numbers
