r"""Whether the observed data lie among simulated ones; if not, a network was never taught what they mean.

The score of a data set is the distance to its k-th neighbour among all others, simulations and observation alike; if
the observation were one more simulation, its rank among the scores would be uniform, whatever the score:

    p = (1 + number of simulations with a score at least as large) / (1 + number of simulations),

a conformal p-value, exact for any number of simulations (Bates et al., arXiv:2104.08279). Distances are Euclidean
between principal components of unit variance (those of Mahalanobis), which are computed with the observation among the
rest, as the exactness asks for.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Among", "among", "components"]

Array = NDArray[np.float64]

NEIGHBOUR = 10
_PER_COMPONENT = 8
"""Data sets for each principal component that is kept."""
_WIDE, _SMALL = 1_000, 1e-6
"""Numbers in the data beyond which they are first projected at random, and variances that count as none."""


class Among(NamedTuple):
    """The observation beside simulations.

    Attributes:
        distance: of the observation.
        distances: of the simulations, with shape (P,).
    """

    distance: float
    distances: Array

    @property
    def p_value(self) -> float:
        """The share of data sets, the observation among them, that are at least as far from the others."""
        return float((1 + (self.distances >= self.distance).sum()) / (1 + len(self.distances)))


def among(observed: Array, simulated: Array) -> Among:
    """Compare an observation with shape (k,) with simulations with shape (P, k), both as `components` gives them.

    >>> cloud = np.random.default_rng(1).standard_normal((200, 2))
    >>> among(np.zeros(2), cloud).p_value > 0.5, among(np.full(2, 9.0), cloud).p_value
    (True, 0.004975124378109453)
    """
    x = np.concatenate([observed[None], simulated])
    squares = np.square(x).sum(1)
    far = squares[:, None] + squares - 2.0 * x @ x.T
    np.fill_diagonal(far, np.inf)
    rank = min(NEIGHBOUR, len(simulated)) - 1
    score = np.sqrt(np.maximum(np.partition(far, rank, axis=1)[:, rank], 0.0))
    return Among(float(score[0]), score[1:])


def components(data: Array, seed: int = 0) -> Array:
    """Principal components of unit variance, with shape (n, k), of data with shape (n, M) on comparable scales.

    >>> mixed = np.random.default_rng(1).standard_normal((400, 3)) @ np.array([[1, 1, 0.0], [0, 1, 5], [0, 0, 1]])
    >>> found = components(mixed)
    >>> bool(np.allclose(found.T @ found / 400, np.eye(3)))
    True
    """
    n, width = data.shape
    if width > _WIDE:
        data = data @ np.random.default_rng(seed).standard_normal((width, _WIDE)) / np.sqrt(width)
    centred = data - data.mean(0)
    variance, axes = np.linalg.eigh(centred.T @ centred / n)
    keep = np.argsort(-variance, kind="stable")[: max(1, n // _PER_COMPONENT)]
    keep = keep[variance[keep] > _SMALL * max(float(variance.max()), 1e-300)]
    return np.asarray(centred @ axes[:, keep] / np.sqrt(variance[keep]))
