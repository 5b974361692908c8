"""The model: a Pyro program and what its author declares about it."""

from __future__ import annotations

import functools
import inspect
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from nuppl.errors import InputError, unknown
from nuppl.language.precision import double_precision

if TYPE_CHECKING:
    from nuppl.language.program import Program

__all__ = ["Model", "model"]


class Model:
    """A callable Pyro program with its interest and options; every Pyro handler works on it.

    Attributes:
        name: the function's name.
        interest: the sites a user wants to see; all parameters where none were declared.
        reference: the point that spectra are compared with in reports, such as no oscillation.
        panels: groups of plate entries that reports add up into one spectrum, such as near and far detectors.
        starts: points from which fits start as well, for minima that an author knows of.
        sources: where the data come from, as citations; reports show them, "doi:..." and "arXiv:..." as links.
        file: where it is written, if not in the Python file of its function.
        options: keyword arguments of the function, with their defaults.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        interest: Sequence[str] = (),
        reference: Mapping[str, float] | None = None,
        panels: Mapping[str, Sequence[str]] | None = None,
        starts: Sequence[Mapping[str, float]] = (),
        sources: Sequence[str] = (),
        file: Path | None = None,
    ) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.name: str = function.__name__
        self.doc: str = inspect.getdoc(function) or ""
        self.interest: tuple[str, ...] = (interest,) if isinstance(interest, str) else tuple(interest)
        self.reference = dict(reference or {})
        self.panels = {name: tuple(members) for name, members in (panels or {}).items()}
        self.starts = tuple(dict(start) for start in starts)
        self.sources: tuple[str, ...] = (sources,) if isinstance(sources, str) else tuple(map(str, sources))
        self.file = file
        self.options = _options(function)

    def __call__(self, **options: Any) -> Any:
        """Run the program under the Pyro handlers in force."""
        with double_precision():
            return self.function(**options)

    def __repr__(self) -> str:
        return f"nuppl.Model({self.name!r}, interest={self.interest!r})"

    def bind(
        self,
        options: Mapping[str, Any] | None = None,
        fixed: Mapping[str, Any] | None = None,
        data: Mapping[str, Any] | None = None,
        outside: bool = False,
    ) -> Program:
        """The program with options chosen, sites fixed and data replaced, ready for every engine.

        Arguments:
            options: values for the function's keyword arguments; strings are converted to the default's type.
            fixed: sites held at a value, {name: value with the site's shape or a scalar}.
            data: replaces the data written in the program, {name: value with the site's shape}.
            outside: whether fixed values may lie outside the prior's support.

        Raises:
            InputError: an unknown name, or a value that does not fit its site.
        """
        from nuppl.language.program import Program

        chosen = {name: self._option(name, value) for name, value in (options or {}).items()}
        return Program(self, {**self.options, **chosen}, fixed or {}, data or {}, outside)

    def raised(self, error: BaseException) -> bool:
        """Whether an error came out of the model's own file, rather than out of an engine around it."""
        file = inspect.getsourcefile(self.function)
        return any(frame.filename == file for frame in traceback.extract_tb(error.__traceback__))

    def where(self, error: BaseException) -> str:
        """`file.py, line 12: ValueError: ...`, the last line of the model's file that an error passed through."""
        file = inspect.getsourcefile(self.function) or "model"
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
        line = f", line {frames[-1].lineno}" if frames else ""
        return f"{file}{line}: {type(error).__name__}: {error}"

    def place(self, error: BaseException) -> str:
        """`file.py, line 12: `, the last line of the model's file that an error passed through; "" if there is none."""
        file = inspect.getsourcefile(inspect.unwrap(self.function))
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
        return f"{file}, line {lines[-1]}: " if lines else ""

    def _option(self, name: str, value: Any) -> Any:
        if name not in self.options:
            raise unknown("option", name, self.options)
        default = self.options[name]
        return _convert(name, value, default) if isinstance(value, str) else value


def _options(function: Callable[..., Any]) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters.values()
    missing = [p.name for p in parameters if p.default is p.empty or p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    if missing:
        raise InputError(
            f"model {function.__name__!r}: its arguments are its options, so each needs a default; "
            f"{', '.join(missing)} has none"
        )
    return {p.name: p.default for p in parameters}


def _convert(name: str, text: str, default: Any) -> Any:
    if isinstance(default, bool):
        known = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        if text.lower() not in known:
            raise InputError(f"option {name!r}: expected true or false, got {text!r}")
        return known[text.lower()]
    if isinstance(default, tuple | list):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    try:
        return type(default)(text) if isinstance(default, int | float) else text
    except ValueError:
        raise InputError(f"option {name!r}: expected a {type(default).__name__}, got {text!r}") from None


@overload
def model(function: Callable[..., Any], /) -> Model: ...
@overload
def model(
    *,
    interest: Sequence[str] = (),
    reference: Mapping[str, float] | None = None,
    panels: Mapping[str, Sequence[str]] | None = None,
    starts: Sequence[Mapping[str, float]] = (),
    sources: Sequence[str] = (),
) -> Callable[[Callable[..., Any]], Model]: ...


def model(
    function: Callable[..., Any] | None = None,
    /,
    *,
    interest: Sequence[str] = (),
    reference: Mapping[str, float] | None = None,
    panels: Mapping[str, Sequence[str]] | None = None,
    starts: Sequence[Mapping[str, float]] = (),
    sources: Sequence[str] = (),
) -> Model | Callable[[Callable[..., Any]], Model]:
    """Declare a function to be a model; the keywords are the attributes of `Model`.

    >>> import pyro.distributions as dist
    >>> @model(interest="mu")
    ... def counting(background: float = 3.0):
    ...     mu = parameter("mu", dist.Uniform(0.0, 20.0))
    ...     observe("n", dist.Poisson(mu + background), 7)
    >>> from nuppl.language.sites import observe, parameter
    >>> counting.bind({"background": "2.5"}).options
    {'background': 2.5}
    """
    if function is not None:
        return Model(function)
    return lambda declared: Model(declared, interest, reference, panels, starts, sources)
