"""The marginal of a kept network at data that are not those it was trained at: its response taken anew if need be.

How data respond to the inner latents was followed around the posterior of one data set. Where the pulls of another lie
elsewhere, the spread of the weights at one point says so; the response is then taken where the network sees the new
posterior, at the price of a few dozen Jacobians. The network stays as it is.
"""

from __future__ import annotations

import torch

from nuppl.learning.neural_guide import NeuralGuide
from nuppl.optimize.objective import whitened_objective
from nuppl.sampling.marginal import Marginal, around

__all__ = ["retaken"]

_BENT = 0.8
"""Standard deviation of the log weights at one point above which half of the draws would be lost."""

_STREAM = 50 << 24


def retaken(marginal: Marginal, outer: NeuralGuide, seed: int) -> Marginal:
    """The marginal, or one whose response belongs to its data.

    Arguments:
        marginal: with the data that are asked about.
        outer: what the network says of these, without tails.
    """
    draws = outer.draws(seed)
    center = draws.mean(0)[None]
    error = marginal.measured(center, seed, _STREAM).error
    if error < _BENT:
        return marginal
    whitened = marginal.whitened
    width = torch.ones(whitened.dim)
    width[marginal.outer] = draws.std(0)
    with torch.no_grad():
        loc = marginal.modes(center)[0][0]
    found = around(whitened, whitened_objective(whitened), loc, marginal.outer.tolist(), width)
    # A NaN, of weights that are nowhere finite, is no better.
    return found if found.measured(center, seed, _STREAM).error < error or error != error else marginal
