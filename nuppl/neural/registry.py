"""The estimators by name, `npe` the class NPE in `npe.py`. A new one is a file, a row here and a row in the tests."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from nuppl.errors import InputError, unknown
from nuppl.neural.fields import Field

if TYPE_CHECKING:
    from torch import nn

    from nuppl.neural.estimator import Estimator

__all__ = ["ESTIMATORS", "Config", "EstimatorInfo", "build", "estimator"]


class EstimatorInfo(NamedTuple):
    """One estimator, before its module is imported.

    Attributes:
        summary: in a line.
        role: "guide", "likelihood" or "ratio".
        module, name: where its class is.
    """

    summary: str
    role: str
    module: str
    name: str


ESTIMATORS: dict[str, EstimatorInfo] = {
    "bnre": EstimatorInfo("balanced ratio: errs on the wide side", "ratio", "nre", "BNRE"),
    "fmpe": EstimatorInfo("posterior by flow matching", "guide", "fmpe", "FMPE"),
    "nle": EstimatorInfo(
        "likelihood: a spline flow, for counts one factor after the other", "likelihood", "nle", "NLE"
    ),
    "npe": EstimatorInfo("posterior by a spline flow: the fastest to sample", "guide", "npe", "NPE"),
    "npse": EstimatorInfo("posterior by its score (diffusion)", "guide", "npse", "NPSE"),
    "nre": EstimatorInfo("contrastive likelihood ratio", "ratio", "nre", "NRE"),
}
"""Estimators by name."""


@dataclass(frozen=True)
class Config:
    """All that is needed to build an estimator again before its weights are loaded; JSON on disk.

    Attributes:
        estimator: a name of `ESTIMATORS`.
        parameters, data: fields of the flat vectors.
        embeddings: by data field, a name of `embeddings.EMBEDDINGS`, or "custom" for one that the caller gives again.
        options: arguments of the estimator's class.

    >>> config = Config("npe", (Field("mu", ()),), (Field("n", (3,), "count"),), options={"width": 32})
    >>> Config.from_json(config.as_json()) == config
    True
    """

    estimator: str
    parameters: tuple[Field, ...]
    data: tuple[Field, ...]
    embeddings: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, int | float] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """For a configuration on disk."""
        return {
            "estimator": self.estimator,
            "parameters": [entry.as_json() for entry in self.parameters],
            "data": [entry.as_json() for entry in self.data],
            "embeddings": dict(self.embeddings),
            "options": dict(self.options),
        }

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Config:
        """The configuration that `as_json` wrote."""
        parameters, data = (tuple(map(Field.from_json, entry[name])) for name in ("parameters", "data"))
        return cls(entry["estimator"], parameters, data, dict(entry["embeddings"]), dict(entry["options"]))


def estimator(name: str) -> type[Estimator]:
    """The class of an estimator.

    Raises:
        InputError: an unknown name.
    """
    if name not in ESTIMATORS:
        raise unknown("estimator", name, ESTIMATORS)
    info = ESTIMATORS[name]
    return getattr(importlib.import_module(f"nuppl.neural.{info.module}"), info.name)  # type: ignore[no-any-return]


def build(config: Config, seed: int = 0, modules: Mapping[str, nn.Module] | None = None) -> Estimator:
    """An untrained estimator; its first weights belong to the seed.

    Arguments:
        config: what to build.
        seed: the root seed.
        modules: the user's own embeddings by data field, each from (n, *shape) to (n, features).

    Raises:
        InputError: an unknown name, an option that the estimator does not have, or a custom module that is not given.
    """
    from nuppl.neural.embeddings import Embedding
    from nuppl.neural.seeds import apart
    from nuppl.neural.standardize import Standardize

    kind, role = estimator(config.estimator), ESTIMATORS[config.estimator].role
    theta_space, data_space = Standardize(config.parameters), Standardize(config.data)
    missing = [name for name, kept in config.embeddings.items() if kept == "custom" and name not in (modules or {})]
    if missing:
        raise InputError(f"data field {missing[0]!r} was embedded by a module of your own: give it again in `modules`")
    with apart(seed, 1):
        data = data_space if role == "likelihood" else Embedding(data_space, {**config.embeddings, **(modules or {})})
        try:
            return kind(theta_space, data, **config.options)  # type: ignore[arg-type]
        except TypeError as error:
            raise InputError(f"estimator {config.estimator!r}: {error}") from error
