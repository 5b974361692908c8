"""How well each bin is predicted by all the others: leave-one-out by Pareto-smoothed importance sampling.

Leaving out datum y_i turns the posterior draw x_s into one of weight 1 / p(y_i | x_s); with smoothed weights w_is

    elpd = sum over i of log( sum_s w_is p(y_i | x_s) / sum_s w_is ),
    p_loo = sum over i of log( mean_s p(y_i | x_s) ) - elpd

(Vehtari, Gelman and Gabry, arXiv:1507.04544). A datum with a Pareto k above 0.7 decides too much for that to hold. From
the same weights and the replicas come the mean and width of the prediction of each datum without itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.special import logsumexp

__all__ = ["LeftOut", "leave_one_out"]

Array = NDArray[np.float64]
LIMIT = 0.7
FEWEST_DRAWS = 400
FEWEST_DATA = 5
"""With fewer there is little left to predict from."""
MOST_DATA = 5000


@dataclass(frozen=True)
class LeftOut:
    """Leave-one-out of one data site.

    Attributes:
        name: of the site.
        observed: the data, with their coordinates.
        elpd, error, p_loo: as above, with the standard error of elpd.
        k: Pareto k of each datum, with shape (N,).
        pulls: (datum - prediction without it) / width of that prediction, with shape (N,); empty without replicas.
        predicted: that prediction, with shape (N,).
    """

    name: str
    observed: xr.DataArray
    elpd: float
    error: float
    p_loo: float
    k: Array
    pulls: Array
    predicted: Array

    @property
    def influential(self) -> int:
        """How many data have a k above 0.7."""
        return int((self.k > LIMIT).sum())


def leave_one_out(groups: Mapping[str, xr.Dataset], efficiency: float = 1.0) -> list[LeftOut]:
    """Leave-one-out of each data site with a density and enough data and draws.

    Arguments:
        efficiency: effective draws over draws, at most 1.
    """
    likelihoods, replicas = (groups.get(name, xr.Dataset()) for name in ("log_likelihood", "posterior_predictive"))
    found = []
    for key, likelihood in likelihoods.data_vars.items():
        draws = likelihood.sizes["chain"] * likelihood.sizes["draw"]
        size = likelihood.size // draws
        if draws < FEWEST_DRAWS or not FEWEST_DATA <= size <= MOST_DATA or key not in groups["observed_data"]:
            continue
        terms = _flat(likelihood)
        if np.isfinite(terms).all():
            replica = _flat(replicas[key]) if key in replicas else None
            found.append(_site(str(key), groups["observed_data"][key], terms, replica, efficiency))
    return found


def _flat(values: xr.DataArray) -> Array:
    """(N, S): data by draws."""
    array = np.asarray(values.transpose("chain", "draw", ...).values, dtype=np.float64)
    return np.ascontiguousarray(array.reshape(array.shape[0] * array.shape[1], -1).T)


def _site(name: str, observed: xr.DataArray, terms: Array, replicas: Array | None, efficiency: float) -> LeftOut:
    import arviz

    # On the way to a share of zero an exponential may overflow: no reason to warn.
    with np.errstate(over="ignore"):
        log_weights, k = arviz.psislw(-terms, efficiency)
    each = logsumexp(log_weights + terms, axis=1)
    p_loo = logsumexp(terms, axis=1) - math.log(terms.shape[1]) - each
    pulls = predicted = np.zeros(0)
    # Data with event axes have one likelihood for several replicas.
    if replicas is not None and replicas.shape == terms.shape and observed.size == len(terms):
        weights = np.exp(log_weights)
        predicted = (weights * replicas).sum(1)
        width = np.sqrt((weights * np.square(replicas - predicted[:, None])).sum(1))
        data = np.asarray(observed.values, dtype=np.float64).ravel()
        pulls = np.divide(data - predicted, width, out=np.zeros_like(width), where=width > 0.0)
    error = math.sqrt(len(each) * float(each.var()))
    return LeftOut(name, observed, float(each.sum()), error, float(p_loo.sum()), np.asarray(k), pulls, predicted)
