"""The group `scan` of a result file.

| variable                      | dims          | holds                                                          |
|-------------------------------|---------------|----------------------------------------------------------------|
| statistic                     | grid          | of the data; for the likelihood ratio 2 (profiled - lowest)    |
| status                        | grid          | 0 converged, 1 a nuisance at its bound, 2 failed               |
| critical, critical_error      | level, grid   | critical values and their Monte-Carlo errors                   |
| wilks                         | level         | what Wilks' theorem says they are, of the likelihood ratio     |
| p_value, p_value_error        | grid          | of the data at each point; where toys were thrown              |
| toys, failed_toys             | grid          | how many; where toys were thrown                               |
| cls, cls_expected             | (band,) grid  | CLs, and its quantiles without signal                          |
| limit, limit_expected         | level, (band) | upper limits by CLs; NaN where the grid has none               |
| null_toys, failed_null_toys   |               | how many at the null hypothesis                                |

The grid's dims bear the names of the parameters; `band` counts deviations from -2 to 2. The attributes hold the best fit
as JSON, and the name of the statistic with its options.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from torch import Tensor

__all__ = ["scan_group"]

_OFF_GRID: dict[str, tuple[str, ...]] = {
    "wilks": ("level",),
    "limit": ("level",),
    "limit_expected": ("level", "band"),
    "null_toys": (),
    "failed_null_toys": (),
}


def scan_group(
    axes: Mapping[str, Tensor],
    units: Mapping[str, str],
    labels: Mapping[str, str],
    levels: Sequence[float],
    values: Mapping[str, Tensor],
    best: Mapping[str, float],
    log: Sequence[str],
    statistic: str = "likelihood-ratio",
) -> xr.Dataset:
    """The group.

    Arguments:
        axes: values of each scanned parameter.
        units, labels: of the parameters.
        levels: of confidence.
        values: by name as above, those on the grid with shape (G), (L, G) or (5, G), others as they stand.
        best: the best fit of the scanned parameters.
        log: parameters whose values are spaced in the logarithm.
        statistic: its name and options.
    """
    shape = tuple(len(each) for each in axes.values())
    variables: dict[str, Any] = {}
    for name, value in values.items():
        array = value.detach().numpy()
        if name in _OFF_GRID:
            variables[name] = (_OFF_GRID[name], array)
        elif array.ndim == 2:
            first = "band" if name == "cls_expected" else "level"
            variables[name] = ((first, *axes), array.reshape(-1, *shape))
        else:
            variables[name] = (tuple(axes), array.reshape(shape))
    coords = {name: np.asarray(each) for name, each in axes.items()}
    attrs = {"best": json.dumps(dict(best)), "log": json.dumps(list(log)), "parameters": json.dumps(list(axes))}
    attrs["statistic"] = statistic
    coords["level"] = np.asarray(levels)
    if "cls" in values:
        coords["band"] = np.arange(-2, 3)
    dataset = xr.Dataset(variables, coords=coords, attrs=attrs)
    for name in axes:
        dataset.coords[name].attrs |= {"unit": units[name], "label": labels[name]}
    return dataset
