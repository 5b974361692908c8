"""Effective draws of islands whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal, norm

from nuppl.results.convergence import convergence, island_size
from nuppl.results.draws import Draws
from nuppl.results.summary import summarize

ISLANDS, DRAWS, NUMBERS = 16, 200, 400


def islands(correlation, seed):
    """Numbers whose draws share a part within each island, in no order: (number, island, draw), variance 1."""
    generator = np.random.default_rng(seed)
    shared = generator.normal(size=(NUMBERS, ISLANDS, 1))
    own = generator.normal(size=(NUMBERS, ISLANDS, DRAWS))
    return math.sqrt(correlation) * shared + math.sqrt(1.0 - correlation) * own


def truth(correlation):
    """Draws that correlate: var(island mean) = correlation + (1 - correlation) / n."""
    return ISLANDS / (correlation + (1.0 - correlation) / DRAWS)


@pytest.mark.parametrize("correlation", [0.0, 0.02, 0.2])
def test_the_size_of_islands_is_right_on_average_and_scatters_as_told(correlation):
    # The inverse is chi^2_15 / 15 / truth: 400 of them know their mean to 1.8 %, their scatter to 4 % (400 numbers,
    # kurtosis 0.8). The variance of draws that correlate is itself estimated: 1/16 of the correlation is missed.
    inverse = np.array([convergence(x, islands=True).ess_bulk for x in islands(correlation, 1)])
    inverse = truth(correlation) / inverse
    if correlation == 0.0:
        # No number may exceed that of the draws, so that half of all estimates are cut.
        assert inverse.min() == pytest.approx(1.0) and np.median(inverse) < 1.02
        return
    assert inverse.mean() == pytest.approx(1.0, abs=0.08)
    assert inverse.std() == pytest.approx(math.sqrt(2.0 / 15.0), rel=0.2)


def test_the_tail_is_that_of_the_rarer_indicator():
    correlation = 0.2
    edge, tail = norm.ppf(0.05), 0.05
    both = multivariate_normal([0.0, 0.0], [[1.0, correlation], [correlation, 1.0]]).cdf([edge, edge])
    size = truth((both - tail**2) / (tail * (1.0 - tail)))
    inverse = size / np.array([convergence(x, islands=True).ess_tail for x in islands(correlation, 2)])
    # The larger of two inverses, each 1 +- 0.37: 1.21 where they are independent.
    assert 1.0 < inverse.mean() < 1.3


def test_the_order_of_draws_within_islands_does_not_matter():
    x = islands(0.2, 3)[0]
    shuffled = np.random.default_rng(4).permuted(x, axis=1)
    assert convergence(shuffled, islands=True) == pytest.approx(convergence(x, islands=True), rel=0.05)
    assert convergence(x, islands=True).r_hat > 1.05
    assert convergence(x, islands=True).ess_bulk < 250.0


def test_a_limit_holds_for_islands_too_and_one_island_says_nothing():
    x = islands(0.0, 5)[0]
    assert convergence(x, limit=77.0, islands=True)[1:] == (77.0, 77.0)
    assert math.isnan(island_size(x[:1])) and math.isnan(convergence(x[:1], islands=True).ess_tail)
    assert convergence(np.full((4, 10), 2.0), islands=True)[1:] == (0.0, 0.0)


def test_the_summary_knows_islands_by_the_run():
    values = {"x": torch.from_numpy(islands(0.2, 6)[0])}
    told = summarize(Draws(values, attrs={"islands": ISLANDS}))[0]
    assert (told.ess_bulk, told.ess_tail) == convergence(values["x"].numpy(), islands=True)[1:]
    assert summarize(Draws(values))[0].ess_bulk != told.ess_bulk
