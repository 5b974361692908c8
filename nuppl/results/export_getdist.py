"""Draws as text chains of GetDist (Lewis, arXiv:1910.13970; getdist.readthedocs.io, "Samples file format").

| file              | one line holds                                                     |
|-------------------|--------------------------------------------------------------------|
| PREFIX_1.txt, ... | one draw: weight, -log density, one column per number; one file per chain |
| PREFIX.paramnames | name (with * where the number is derived from others), LaTeX label with unit |
| PREFIX.ranges     | name, lower and upper bound of the prior, N where there is none    |

Draws have equal weight. The log density is the `lp` that the engine recorded: that of the posterior up to a constant,
in the coordinates the engine draws in, where the prior is a standard normal. Discrepancies between data and
expectation follow as derived numbers, where they are known of every draw.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nuppl.errors import InputError, RunFolderError

__all__ = ["Column", "columns", "files", "present"]

BLOCK = 1 << 26
"""Bytes of draws in memory at a time."""
FORMAT = "%.10e"
SAMPLED = ("parameter", "pull", "random_effect")
DISCREPANCY = "_chi2_observed"


@dataclass(frozen=True)
class Column:
    """One number of the chains.

    Attributes:
        name: without spaces, unique among the columns.
        label: LaTeX with the unit, without dollar signs.
        bounds: of the prior; None where there is none.
        derived: whether the number follows from others.
        draws: of the whole site, (chain, draw, ...).
        entry: the number of this entry among the site's.
    """

    name: str
    label: str
    bounds: tuple[float | None, float | None]
    derived: bool
    draws: xr.DataArray
    entry: int


def files(groups: Mapping[str, xr.Dataset]) -> Iterator[tuple[str, Callable[[TextIO], None]]]:
    """The files; see `Format`."""
    density = groups.get("sample_stats", xr.Dataset()).get("lp")
    if density is None or dict(density.sizes) != _sizes(groups["posterior"]):
        raise InputError(
            "export to getdist: expected the log density of every draw as 'lp' in sample_stats, found none; repeat the "
            "run with another engine"
        )
    table = columns(groups)
    for chain in range(density.sizes["chain"]):
        yield f"_{chain + 1}.txt", partial(_write_chain, density, table, chain)
    yield ".paramnames", partial(_write_names, table)
    yield ".ranges", partial(_write_ranges, table)


def present(target: Path) -> list[Path]:
    """Files of an earlier export with that prefix.

    Raises:
        RunFolderError: a file that GetDist would take for a chain, though no export writes it.
    """
    ours = re.compile(re.escape(target.name) + r"(_[1-9]\d*\.txt|\.paramnames|\.ranges)")
    alien = target.with_name(f"{target.name}.txt")
    if alien.exists():
        raise RunFolderError(
            f"output {str(target)!r}: GetDist would read {str(alien)!r} as a chain too; choose another --out"
        )
    return sorted(file for file in target.parent.iterdir() if ours.fullmatch(file.name))


def columns(groups: Mapping[str, xr.Dataset]) -> list[Column]:
    """The columns: free latents in the order of the program, vectors entry by entry, then what is derived."""
    posterior, stats = groups["posterior"], groups.get("sample_stats", xr.Dataset())
    found: dict[str, Column] = {}
    for key, draws in posterior.data_vars.items():
        ordered = draws.transpose("chain", "draw", ...)
        for number, place in enumerate(np.ndindex(ordered.shape[2:])):
            column = _column(str(key), ordered, number, place, found.keys())
            found[column.name] = column
    for key, draws in stats.data_vars.items():
        site = str(key).removesuffix(DISCREPANCY)
        if site != key and dict(draws.sizes) == _sizes(posterior):
            name = _unique(f"chi2_{site}", found.keys())
            label = rf"\chi^2_\mathrm{{{_text(site)}}}"
            found[name] = Column(name, label, (None, None), True, draws.transpose("chain", "draw"), 0)
    return list(found.values())


def _sizes(posterior: xr.Dataset) -> dict[Any, int]:
    return {dim: posterior.sizes[dim] for dim in ("chain", "draw")}


def _column(site: str, draws: xr.DataArray, number: int, place: tuple[int, ...], taken: Collection[str]) -> Column:
    entry = [_coordinate(draws, dim, i) for dim, i in zip(draws.dims[2:], place, strict=True)]
    attrs = draws.attrs
    lower, upper = (float(attrs[end]) if end in attrs else None for end in ("lower", "upper"))
    return Column(
        name=_unique("_".join([site, *map(_safe, entry)]), taken),
        label=_label(site, attrs, entry),
        bounds=(lower, upper),
        derived=attrs.get("kind", "parameter") not in SAMPLED,
        draws=draws,
        entry=number,
    )


def _coordinate(draws: xr.DataArray, dim: Any, i: int) -> str:
    value = draws.coords[dim].values[i].item() if dim in draws.coords else i
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _safe(text: str) -> str:
    """Letters, digits and underscores: GetDist's names hold neither spaces nor * nor ?.

    >>> _safe("AD 1, far"), _safe("-0.5")
    ('AD_1_far', 'm0_5')
    """
    return re.sub(r"\W+", "_", re.sub(r"^-(?=\d)", "m", text))


def _unique(name: str, taken: Collection[str]) -> str:
    candidates = (name, *(f"{name}_{number}" for number in range(2, len(taken) + 3)))
    return next(candidate for candidate in candidates if candidate not in taken)


def _label(site: str, attrs: Mapping[str, Any], entry: Sequence[str]) -> str:
    """The label, the entry in brackets, and the unit.

    >>> _label("dm2", {"label": r"\\Delta m^2", "unit": "eV^2"}, [])
    '\\\\Delta m^2\\\\ [\\\\mathrm{eV^2}]'
    """
    default = site.replace("_", r"\_")
    label = str(attrs.get("label", "")) or default
    label = rf"\mathrm{{{label}}}" if label == default else label
    if entry:
        label += rf"\ (\mathrm{{{_text(', '.join(entry))}}})"
    if unit := str(attrs.get("unit", "")):
        upright = unit.replace(" ", r"\ ") if "^" in unit else _text(unit)
        label += rf"\ [\mathrm{{{upright}}}]"
    # One line, in which GetDist reads # as the start of a comment and ! as a backslash.
    return re.sub(r"\s+", " ", label.translate({ord("#"): None, ord("!"): None}))


def _text(words: str) -> str:
    r"""Words inside \mathrm, in which every character stands for itself."""
    return re.sub(r"[_%&$ ]", r"\\\g<0>", re.sub(r"[\\{}~^]", "", words))


def _write_chain(density: xr.DataArray, table: Sequence[Column], chain: int, stream: TextIO) -> None:
    lp = density.transpose("chain", "draw")
    block = max(1, BLOCK // (8 * (len(table) + 2)))
    for start in range(0, lp.shape[1], block):
        rows = slice(start, start + block)
        heads = np.asarray(lp[chain, rows].values, dtype=np.float64)
        found = np.column_stack([np.ones(len(heads)), -heads, *_numbers(table, chain, rows)])
        bad = np.flatnonzero(~np.isfinite(found).all(0))
        if len(bad):
            name = ("weight", "lp", *(column.name for column in table))[bad[0]]
            raise InputError(
                f"export to getdist: expected finite draws, got NaN or infinity in {name!r}; run nuppl check on the "
                "model"
            )
        np.savetxt(stream, found, FORMAT)


def _numbers(table: Sequence[Column], chain: int, rows: slice) -> Iterator[NDArray[np.float64]]:
    """The columns of some draws; each site is read once."""
    for _, together in groupby(table, key=lambda column: id(column.draws)):
        members = list(together)
        site = np.asarray(members[0].draws[chain, rows].values, dtype=np.float64)
        yield from (site.reshape(len(site), -1)[:, column.entry] for column in members)


def _write_names(table: Sequence[Column], stream: TextIO) -> None:
    stream.writelines(f"{column.name}{'*' * column.derived}\t{column.label}\n" for column in table)


def _write_ranges(table: Sequence[Column], stream: TextIO) -> None:
    for column in table:
        ends = ("N" if bound is None else f"{bound:.16g}" for bound in column.bounds)
        stream.write(f"{column.name}\t" + "\t".join(ends) + "\n")
