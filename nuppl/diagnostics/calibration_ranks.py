"""Ranks of the truth among posterior draws, which are uniform if the posteriors are right.

Truth and data are drawn together from the program. Given the data, an exact posterior's draws and the truth cannot be
told apart; so the rank of any number that is computed from a point and the data is uniform over 0, ..., L. Here these
are, one by one:

    each parameter                          simulation-based calibration (Talts et al., arXiv:1804.06788)
    the program's log density               which sees what margins do not (Modrak et al., arXiv:2211.02383)
    the posterior's own density             expected coverage of its highest-density regions (Hermans et al.,
                                            arXiv:2110.06581)
    the distance to a reference point       TARP (Lemos et al., arXiv:2302.03026)

A reference point may depend on the data and must not depend on the truth. One that does not depend on the data either
is blind to a posterior that is the prior; here it is the truth of another simulation whose data look alike.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["coverage_ranks", "nearest", "ranks", "tarp_ranks"]

Array = NDArray[np.float64]
Whole = NDArray[np.int64]


def ranks(truth: Array, draws: Array, seed: int = 0) -> Whole:
    """How many draws with shape (N, L) are less than the truth with shape (N,); ties are broken at random.

    >>> ranks(np.array([0.5, 9.0]), np.array([[0.1, 0.9, 0.2], [1.0, 2.0, 3.0]])).tolist()
    [2, 3]
    """
    less = (draws < truth[:, None]).sum(1)
    equal = (draws == truth[:, None]).sum(1)
    return np.asarray(less + np.random.default_rng(seed).integers(0, equal + 1), dtype=np.int64)


def coverage_ranks(truth: Array, draws: Array, seed: int = 0) -> Whole:
    """How many draws lie deeper in the posterior than the truth: the share of them is the credibility of the smallest
    highest-density region that holds the truth.

    Arguments:
        truth: log density at the truth, with shape (N,).
        draws: log densities of the draws, with shape (N, L).
    """
    return ranks(-truth, -draws, seed)


def tarp_ranks(truth: Array, draws: Array, references: Array, seed: int = 0) -> Whole:
    """How many draws are nearer to the reference than the truth is.

    Arguments:
        truth, references: with shape (N, d).
        draws: with shape (N, L, d); distances are in units of their spread within a data set.
    """
    scale = np.sqrt(draws.var(1).mean(0))
    scale = np.where(scale > 0.0, scale, 1.0)
    far = np.square((draws - references[:, None]) / scale).sum(-1)
    return ranks(np.square((truth - references) / scale).sum(-1), far, seed)


def nearest(points: Array, others: Array) -> Whole:
    """The row of `others`, with shape (P, k), nearest to each of the points with shape (N, k).

    >>> nearest(np.array([[0.9], [0.2]]), np.array([[0.0], [1.0]])).tolist()
    [1, 0]
    """
    squares = np.square(others).sum(1) - 2.0 * points @ others.T
    return np.asarray(squares.argmin(1), dtype=np.int64)
