"""The group `impacts` of a result: how the error of each parameter of interest splits over measurements.

| variable                             | dims            | holds                                                      |
|--------------------------------------|-----------------|------------------------------------------------------------|
| value, error                         | interest        | maximum and its error                                      |
| statistical, held                    | interest        | error from the data alone; error with all pulls held       |
| component, conventional, slope, shift | interest, group | see `nuppl.optimize.impacts.Impacts`                       |
| pull, width, lowest, highest         | group           | pulls after the fit, in units of their width before        |
| kind, size                           | group           | "data", "pull", ...; number of free entries                |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

__all__ = ["impacts_group"]

_ONE = {"values": "value", "errors": "error", "statistical": "statistical", "held": "held"}
_TABLE = {"components": "component", "conventional": "conventional", "slopes": "slope", "shifts": "shift"}
_GROUP = {
    "pulls": "pull",
    "widths": "width",
    "lowest": "lowest",
    "highest": "highest",
    "kinds": "kind",
    "sizes": "size",
}


def impacts_group(plain: Mapping[str, Any]) -> xr.Dataset:
    """The dataset of `Impacts.plain()`; its attribute `reading` is "posterior" or "likelihood"."""
    dims = {**dict.fromkeys(_ONE, ("interest",)), **dict.fromkeys(_TABLE, ("interest", "group"))}
    dims |= dict.fromkeys(_GROUP, ("group",))
    variables = {new: (dims[old], np.asarray(plain[old])) for old, new in {**_ONE, **_TABLE, **_GROUP}.items()}
    coords = {
        "interest": np.asarray(plain["interest"]),
        "group": np.asarray(plain["groups"]),
        "unit": ("interest", np.asarray(plain["units"])),
    }
    return xr.Dataset(variables, coords, attrs={"reading": "posterior" if plain["prior"] else "likelihood"})
