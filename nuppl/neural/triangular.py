"""The inverse of an autoregressive flow column by column: each step computes what is new, and nothing else.

    x_i = f^-1(y_i | x_1 ... x_{i-1}, context)

zuko applies the whole inverse once per column, which is as many times the work.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import linear
from zuko.flows.autoregressive import MaskedAutoregressiveTransform
from zuko.lazy import Flow
from zuko.utils import unpack

__all__ = ["inverted"]


def inverted(flow: Flow, y: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
    """x with shape (n, D) and log |dy/dx| with shape (n,), of y with shape (n, D) and a context with shape (n, C)."""
    log_volume = y.new_zeros(len(y))
    for layer in reversed(flow.transform.transforms):
        if isinstance(layer, MaskedAutoregressiveTransform) and layer.order is not None:
            y, change = _layer(layer, y, context)
        else:
            y, back = layer(context).inv.call_and_ladj(y)
            change = -back
        log_volume = log_volume + change
    return y, log_volume


def _layer(layer: MaskedAutoregressiveTransform, y: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
    *body, last = layer.hyper
    weight = (last.mask * last.weight).unflatten(0, (y.shape[1], -1))
    bias = last.bias.unflatten(0, (y.shape[1], -1))
    x, log_volume = torch.zeros_like(y), y.new_zeros(len(y))
    for step in range(layer.passes):
        columns = (layer.order == step).nonzero()[:, 0]
        hidden = torch.cat((x, context), -1)
        for part in body:
            hidden = part(hidden)
        numbers = linear(hidden, weight[columns].flatten(0, 1), bias[columns].flatten())
        found, change = _univariate(layer, numbers.unflatten(-1, (len(columns), -1)), y[:, columns])
        x = x.index_copy(1, columns, found)
        log_volume = log_volume + change.sum(-1)
    return x, log_volume


def _univariate(layer: MaskedAutoregressiveTransform, numbers: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    transform = layer.univariate(*unpack(numbers, layer.shapes))
    x = transform.inv(y)
    return x, transform.log_abs_det_jacobian(x, y)
