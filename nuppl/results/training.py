"""The group `training` of a result: how the networks of a neural engine learned.

| variable          | dims           | holds                                                      |
|-------------------|----------------|------------------------------------------------------------|
| train, validation | network, epoch | mean loss on simulations trained on, and on held-out ones  |
| rate              | network, epoch | learning rate at the end of the epoch                      |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

__all__ = ["training_group"]


def training_group(history: Sequence[Sequence[Mapping[str, float]]]) -> xr.Dataset:
    """The dataset of what happened, a row per epoch for each network; NaN after a network's last epoch.

    >>> group = training_group([[{"epoch": 1, "train": 2.0, "validation": 2.1, "rate": 1e-3}], []])
    >>> group["validation"].values.tolist()
    [[2.1], [nan]]
    """
    longest = max((len(rows) for rows in history), default=0)
    variables = {}
    for name in ("train", "validation", "rate"):
        values = np.full((len(history), longest), np.nan)
        for number, rows in enumerate(history):
            values[number, : len(rows)] = [row[name] for row in rows]
        variables[name] = (("network", "epoch"), values)
    coords = {"network": np.arange(len(history)), "epoch": np.arange(1, longest + 1)}
    return xr.Dataset(variables, coords)
