"""Readers for the files of the Daya Bay data release: arrays (npz), parameters (yaml) and lists of edges (tsv).

The files come with the PyPI package `dayabay-data-official` (version 1.0.1, CC-BY-4.0, Zenodo 17587229).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from nuppl.errors import InputError

__all__ = ["Files"]


def _folder() -> Path:
    try:
        import dayabay_data_official
    except ImportError as error:
        raise InputError(
            "the Daya Bay data were not found: install the package dayabay-data-official (version 1.0.1)"
        ) from error
    return Path(str(dayabay_data_official.__file__)).parent / "data" / "npz"


class Files:
    """The release's folder. Raises InputError where the data package is not installed."""

    def __init__(self) -> None:
        self.folder = _folder()

    def arrays(self, name: str) -> Any:
        return np.load(self.folder / f"{name}.npz", allow_pickle=False)

    def column(self, name: str) -> Tensor:
        return torch.from_numpy(np.loadtxt(self.folder / "parameters" / name, skiprows=1))

    def table(self, name: str, keys: tuple[str, ...], prefix: str = "") -> tuple[Tensor, Tensor]:
        """Abscissae (n,) and one row per key (len(keys), n)."""
        tables = [self.arrays(name)[prefix + key] for key in keys]
        rows = np.stack([table[table.dtype.names[1]] for table in tables])
        return torch.from_numpy(tables[0][tables[0].dtype.names[0]].copy()), torch.from_numpy(rows)

    def parameters(self, file: str) -> Any:
        return yaml.safe_load((self.folder / "parameters" / f"{file}.yaml").read_text(encoding="utf-8"))

    def value(self, file: str, name: str) -> float:
        return float(self.parameters(file)["parameters"][name])

    def pair(self, file: str, name: str) -> tuple[float, float]:
        mean, deviation = self.parameters(file)["parameters"][name]
        return float(mean), float(deviation)

    def vector(self, file: str, name: str, keys: tuple[str, ...]) -> Tensor:
        entries = self.parameters(file)["parameters"][name]
        return torch.tensor([entries[key] for key in keys], dtype=torch.float64)

    def grid(self, file: str, name: str, rows: tuple[str, ...], columns: tuple[str, ...]) -> Tensor:
        entries = self.parameters(file)["parameters"][name]
        return torch.tensor([[entries[row][column] for column in columns] for row in rows], dtype=torch.float64)
