r"""The local classifier two-sample test: whether the posterior is right at the data that were observed.

A classifier learns to tell the truth theta from posterior draws, both given data x, over all simulations; what it
answers at draws of the observed data,

    T = mean over draws theta of f(theta, x_o)^2,

is near zero where it finds no difference (Linhart, Gramfort, Rodrigues, arXiv:2306.03580). Here the classifier is a
linear function f = beta . phi of given features, fitted by least squares with a ridge (Sugiyama, IEICE Trans. Inf.
Syst. 93 (2010) 2690). Each data set has the truth and K draws; under the null any of the K + 1 could be the truth, so
that permutations of which one it is give the exact distribution of T if the posterior is right for all data, and a
thousand refits cost little more than one:

    beta = (sum_ij psi_ij psi_ij^T + r)^(-1) sum_i psi_i,truth,   psi = phi - mean of its data set.

Points enter relative to centre and spread of other draws of the same data set, so the features are those of a shape.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Local", "local_c2st"]

Array = NDArray[np.float64]

PERMUTATIONS = 1_999
_GROUP = 20
"""Draws beside each truth."""
_FOURIER, _CROSSED = 64, 12
"""Random Fourier features (Rahimi, Recht, NIPS 20 (2007) 1177), and dimensions up to which all products enter."""
_RIDGE = 3.0
"""In units of the mean square of a feature over all points."""


class Local(NamedTuple):
    """The test at one observation.

    Attributes:
        statistic: T.
        null: of permutations, with shape (H,).
    """

    statistic: float
    null: Array

    @property
    def p_value(self) -> float:
        """The share of permutations, the data themselves among them, that reach T."""
        return float((1 + (self.null >= self.statistic * (1.0 - 1e-9)).sum()) / (1 + len(self.null)))


def local_c2st(
    truth: Array,
    draws: Array,
    summary: Array,
    observed: Array,
    at: Array,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> Local:
    """Test the posterior at the observation.

    Arguments:
        truth: with shape (N, d).
        draws: with shape (N, L, d), L at least 8.
        summary: what tells the data sets apart, with shape (N, k).
        observed: draws at the observation, with shape (n, d).
        at: its summary, with shape (k,).
        permutations: of which member of a data set is the truth.
        seed: of permutations and features.
    """
    randomness = np.random.default_rng(seed)
    members = min(_GROUP, draws.shape[1] // 3)
    points = np.concatenate([truth[:, None], draws[:, :members]], 1)
    half = len(observed) // 2
    loc, scale = _moments(draws[:, members:])
    here, width = _moments(observed[None, half:])
    z = (points - loc) / scale
    z_here = (observed[:half] - here[0]) / width[0]
    level, spread = summary.mean(0), summary.std(0)
    s = (np.concatenate([summary, at[None]]) - level) / np.where(spread > 0.0, spread, 1.0)
    waves = randomness.standard_normal((z.shape[2] + s.shape[1], _FOURIER)), randomness.uniform(0, 2 * np.pi, _FOURIER)
    psi = _features(z, np.broadcast_to(s[:-1, None], (*z.shape[:2], s.shape[1])), waves)
    psi_here = _features(z_here, np.broadcast_to(s[-1], (len(z_here), s.shape[1])), waves)
    psi = psi - psi.mean(1, keepdims=True)
    psi_here = psi_here - psi_here.mean(0)
    size = np.sqrt(np.square(psi).mean((0, 1)))
    size = np.where(size > 0.0, size, np.inf)
    null = _statistics(psi / size, psi_here / size, permutations, randomness)
    return Local(float(null[0]), null[1:])


def _moments(draws: Array) -> tuple[Array, Array]:
    """Centre and spread with shape (N, 1, d), of draws with shape (N, n, d)."""
    scale = draws.std(1, keepdims=True)
    return draws.mean(1, keepdims=True), np.where(scale > 0.0, scale, 1.0)


def _features(z: Array, s: Array, waves: tuple[Array, Array]) -> Array:
    """phi with shape (*, p), of points z with shape (*, d) at summaries s with shape (*, k).

    Features of s alone would tell nothing: all points of a data set share them.
    """
    z = np.clip(z, -6.0, 6.0)
    s = np.clip(s, -4.0, 4.0)
    d, k = z.shape[-1], s.shape[-1]
    rows, columns = np.triu_indices(d) if d <= _CROSSED else (np.arange(d), np.arange(d))
    parts = [z, z[..., rows] * z[..., columns]]
    if d * k <= _CROSSED**2:
        parts += [(a[..., :, None] * s[..., None, :]).reshape(*z.shape[:-1], -1) for a in (z, np.square(z))]
    frequencies, phases = waves
    both = np.concatenate([z, s], -1) / np.sqrt(d + k)
    parts.append(np.cos(both @ frequencies + phases))
    return np.concatenate(parts, -1)


def _statistics(psi: Array, here: Array, permutations: int, randomness: np.random.Generator) -> Array:
    """T of the data, then of permutations; from features with shape (N, K + 1, p) and (n, p)."""
    sets, members, width = psi.shape
    flat = psi.reshape(-1, width)
    gram = flat.T @ flat / len(flat)
    chosen = randomness.integers(0, members, (sets, permutations + 1))
    chosen[:, 0] = 0
    total = np.zeros((permutations + 1, width))
    for one, which in zip(psi, chosen, strict=True):
        total += one[which]
    slopes = np.linalg.solve(gram + _RIDGE * np.eye(width), total.T / sets)
    return np.asarray(np.square(here @ slopes).mean(0))
