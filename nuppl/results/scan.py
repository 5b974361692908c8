"""The group `scan` of a result file.

| variable                      | dims          | holds                                                          |
|-------------------------------|---------------|----------------------------------------------------------------|
| statistic                     | grid          | 2 (profiled - lowest) of minus log L                           |
| status                        | grid          | 0 converged, 1 a nuisance at its bound, 2 failed               |
| critical, critical_error      | level, grid   | critical values and their Monte-Carlo errors                   |
| wilks                         | level         | what Wilks' theorem says they are                              |
| p_value, p_value_error        | grid          | of the data at each point; where toys were thrown              |
| toys, failed_toys             | grid          | how many; where toys were thrown                               |

The grid's dims bear the names of the parameters; the attributes hold the best fit as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from torch import Tensor

__all__ = ["scan_group"]


def scan_group(
    axes: Mapping[str, Tensor],
    units: Mapping[str, str],
    labels: Mapping[str, str],
    levels: Sequence[float],
    values: Mapping[str, Tensor],
    best: Mapping[str, float],
    log: Sequence[str],
) -> xr.Dataset:
    """The group.

    Arguments:
        axes: values of each scanned parameter.
        units, labels: of the parameters.
        levels: of confidence.
        values: by name as above, those on the grid with shape (G) or (L, G), `wilks` with shape (L,).
        best: the best fit of the scanned parameters.
        log: parameters whose values are spaced in the logarithm.
    """
    shape = tuple(len(each) for each in axes.values())
    variables: dict[str, Any] = {}
    for name, value in values.items():
        array = value.detach().numpy()
        if name == "wilks":
            variables[name] = (("level",), array)
        elif array.ndim == 2:
            variables[name] = (("level", *axes), array.reshape(-1, *shape))
        else:
            variables[name] = (tuple(axes), array.reshape(shape))
    coords = {name: np.asarray(each) for name, each in axes.items()}
    attrs = {"best": json.dumps(dict(best)), "log": json.dumps(list(log)), "parameters": json.dumps(list(axes))}
    dataset = xr.Dataset(variables, coords={**coords, "level": np.asarray(levels)}, attrs=attrs)
    for name in axes:
        dataset.coords[name].attrs |= {"unit": units[name], "label": labels[name]}
    return dataset
