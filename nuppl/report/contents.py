"""Everything that a report shows, gathered from the groups of one result: pictures, numbers, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from nuppl.diagnostics.verdict import Verdict, judge
from nuppl.errors import InputError, unknown
from nuppl.report.canvas import FORMATS, Picture, style
from nuppl.report.figures_calibration import calibration
from nuppl.report.figures_chains import chains
from nuppl.report.figures_corner import corner
from nuppl.report.figures_correlations import correlations
from nuppl.report.figures_impacts import impacts
from nuppl.report.figures_left_out import left_out
from nuppl.report.figures_prior import priors
from nuppl.report.figures_pulls import pulls
from nuppl.report.figures_sensitivity import prior_shifts
from nuppl.report.figures_spectra import spectra
from nuppl.report.interest import Number
from nuppl.report.leave_one_out import LeftOut, leave_one_out
from nuppl.report.sensitivity import Reweighted, sensitivity
from nuppl.results.metadata import metadata
from nuppl.results.summary import Summary, summarize_result

__all__ = ["Contents", "gather", "write_figures"]


@dataclass(frozen=True)
class Contents:
    """What one result has to show.

    Attributes:
        groups: of the result.
        said: its metadata.
        rows: its summary.
        pictures: by section, in the order of the page.
        shifts: each number of interest under other priors.
        unweighted: sites of interest whose prior cannot be exchanged, since its density is not known.
        left_out: leave-one-out of each data site where it makes sense.
    """

    groups: Mapping[str, xr.Dataset]
    said: Mapping[str, Any]
    rows: Sequence[Summary]
    verdict: Verdict
    pictures: Mapping[str, list[Picture]]
    shifts: list[tuple[Number, list[Reweighted]]]
    unweighted: list[str]
    left_out: list[LeftOut]


def gather(
    groups: Mapping[str, xr.Dataset], verdict: Verdict | None = None, rows: Sequence[Summary] | None = None
) -> Contents:
    """All that there is to show of a posterior.

    Arguments:
        groups: of a posterior, fresh or loaded.
        verdict: on the result; judged here unless given.
        rows: the summary of the posterior, where that is at hand.

    Raises:
        InputError: a result without a posterior.
    """
    said = metadata(groups)
    if rows is None:
        rows = summarize_result(groups)
    # Before anything is drawn: it refuses what is no posterior.
    verdict = verdict or judge(groups, rows)
    interest = said["interest"]
    shifts = sensitivity(groups, interest, rows)
    known = {number.site for number, _ in shifts}
    found = leave_one_out(groups, _efficiency(groups, interest, rows))
    with style():
        pictures = {
            "corner": [shown] if (shown := corner(groups, interest)) else [],
            "prior": priors(groups, interest),
            "sensitivity": prior_shifts(shifts),
            "spectra": spectra(groups, said["panels"], said["reference"]),
            "left_out": [left_out(site) for site in found],
            "impacts": impacts(groups),
            "pulls": pulls(groups),
            "correlations": correlations(groups, interest),
            "chains": chains(groups, interest, said["attrs"]),
            "calibration": calibration(groups),
        }
    unweighted = [site for site in interest if site in groups["posterior"] and site not in known]
    return Contents(groups, said, rows, verdict, pictures, shifts, unweighted, found)


def _efficiency(groups: Mapping[str, xr.Dataset], interest: Sequence[str], rows: Sequence[Summary]) -> float:
    """Effective draws over draws of the worst number of interest."""
    sizes = groups["posterior"].sizes
    effective = [row.ess_bulk for row in rows if row.site in interest and np.isfinite(row.ess_bulk)]
    return min([1.0, *(max(size, 1.0) / (sizes["chain"] * sizes["draw"]) for size in effective)])


def write_figures(contents: Contents, folder: str | Path, form: str = "svg") -> list[Path]:
    """Write every figure of a report as a file of its own, named by its title.

    Arguments:
        contents: what `gather` returns.
        folder: where to; made where it does not exist. Files of the same names are replaced.
        form: "svg", "pdf" or "png".

    Returns:
        The files, in the order of the page.

    Raises:
        InputError: an unknown format, or a folder that is a file.
    """
    if form not in FORMATS:
        raise unknown("format of figures", form, FORMATS)
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"folder of figures {str(folder)!r}: expected a folder, found a file; name another place")
    folder.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []
    for shown in (shown for pictures in contents.pictures.values() for shown in pictures):
        # Titles come from names of sites, which may differ in what a file name leaves out.
        same = sum(file.stem.split("~")[0] == shown.name for file in files)
        files.append(folder / f"{shown.name}{f'~{same + 1}' if same else ''}.{form}")
        files[-1].write_bytes(shown.encoded(form))
    return files
