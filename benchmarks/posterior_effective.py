"""Effective draws from the scatter of independent means, the same for every sampler.

    ESS_i = R var_i / Var_r(mean_ri)      of parameter i, over R independent chains, islands or runs

with the posterior variance var_i of a long reference run. No autocorrelation enters, so that chains and particles are
measured alike. The minimum over many parameters is biased low where R is small, so it is taken over the same number of
chains for every sampler; the harmonic mean over parameters is not biased.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Score", "Series", "columns", "flat", "score"]

Values = Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Series:
    """Repeated runs of one sampler.

    Attributes:
        means: of each independent chain, with shape (R, D).
        chains: independent chains per run.
        draws: kept per chain.
        seconds: mean wall time of a run, compilation and adaptation included.
        leapfrogs: mean number per draw after warm-up, NaN where it is not known.
    """

    means: NDArray[np.float64]
    chains: int
    draws: int
    seconds: float
    leapfrogs: float = math.nan


@dataclass(frozen=True)
class Score:
    """Effective draws of one run.

    Attributes:
        least: minimum over parameters.
        harmonic: harmonic mean over parameters.
        interest: minimum over the parameters of interest.
        offset: greatest distance of a mean over all chains from the reference, in posterior standard deviations.
        typical: root mean square of that distance over parameters.
    """

    least: float
    harmonic: float
    interest: float
    offset: float
    typical: float


def flat(values: Values) -> NDArray[np.float64]:
    """{site: (chain, draw, *site)} to (chain, draw, D)."""
    return np.concatenate([np.asarray(value).reshape(*value.shape[:2], -1) for value in values.values()], axis=-1)


def columns(values: Values, names: tuple[str, ...]) -> list[int]:
    """Where some sites lie in the D columns of `flat`."""
    owners = [name for name, value in values.items() for _ in range(int(np.prod(value.shape[2:])))]
    return [column for column, owner in enumerate(owners) if owner in names]


def score(
    series: Series, mean: NDArray[np.float64], deviation: NDArray[np.float64], interest: list[int], group: int
) -> Score:
    """Judge runs against the reference's mean and standard deviation, each with shape (D,).

    Minima are taken within groups of `group` chains and averaged, so that samplers with more chains gain nothing.
    """
    offsets = np.abs(series.means.mean(0) - mean) / deviation
    standard = (series.means - mean) / deviation
    groups = max(1, len(standard) // group)
    scatter = standard[: groups * group].reshape(groups, -1, len(mean)).var(1, ddof=1)
    effective = series.chains / scatter
    return Score(
        least=float(effective.min(-1).mean()),
        harmonic=float(series.chains / scatter.mean()),
        interest=float(effective[:, interest].min(-1).mean()),
        offset=float(offsets.max()),
        typical=float(np.sqrt((offsets**2).mean())),
    )
