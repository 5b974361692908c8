"""A finished run in Python: `nuppl.open_run("runs/reactor")`, which notebooks show as its verdict, table and corner.

run = nuppl.open_run("runs/reactor")
run                                     # in a notebook: verdict, parameters of interest, corner
run.posterior["sin2_2theta13"].mean()   # xarray
arviz.plot_trace(run.inference_data())  # ArviZ
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import xarray as xr

from nuppl.diagnostics.verdict import Verdict, judge
from nuppl.errors import InputError
from nuppl.report.canvas import Picture, style
from nuppl.report.contents import gather, write_figures
from nuppl.report.figures_corner import corner
from nuppl.report.page import filled, interest_rows, resource, write_page
from nuppl.results.metadata import metadata
from nuppl.results.numbers import format_measurement
from nuppl.results.storage import load
from nuppl.results.summary import Summary, summarize_result

__all__ = ["Run", "open_run"]


def open_run(path: str | Path) -> Run:
    """Open a run folder, or the result file in it. Arrays are read when first used.

    Raises:
        InputError: no such run, one that is not finished, or a file that nuppl did not write or that has no posterior.
    """
    path = Path(path)
    file = path / "posterior.nc" if path.is_dir() else path
    if path.is_dir() and not file.is_file():
        raise InputError(f"run {str(path)!r}: expected a finished run, with a file posterior.nc, found none")
    return Run(load(file))


class Run:
    """One posterior with everything known of it.

    Attributes:
        groups: of the result by name, as `nuppl.results.schema` lists them.
        said: what the file says of itself: model, engine, seed, options, versions.
    """

    def __init__(self, groups: Mapping[str, xr.Dataset]) -> None:
        if "posterior" not in groups:
            raise InputError("run: expected a result with a posterior, got one with " + ", ".join(sorted(groups)))
        self.groups = dict(groups)
        self.said = metadata(groups)

    @property
    def posterior(self) -> xr.Dataset:
        """Draws of every free latent, with dims (chain, draw, plates)."""
        return self.groups["posterior"]

    @cached_property
    def summary(self) -> list[Summary]:
        """Mean, sd, interval and convergence of every number."""
        return summarize_result(self.groups)

    @property
    def interest(self) -> list[Summary]:
        """The summary of the parameters of interest."""
        return [row for row in self.summary if row.site in self.said["interest"]]

    @cached_property
    def verdict(self) -> Verdict:
        """Whether to trust it, and why."""
        return judge(self.groups, self.summary)

    @cached_property
    def corner(self) -> Picture | None:
        """The corner plot of the interest; a notebook shows it. Its `drawn` is a matplotlib figure."""
        with style():
            return corner(self.groups, self.said["interest"])

    def inference_data(self) -> Any:
        """The result as arviz.InferenceData."""
        import arviz

        groups = {name: group for name, group in self.groups.items() if name != "/"}
        return arviz.InferenceData(attrs=dict(self.groups["/"].attrs), warn_on_custom_groups=False, **groups)

    def report(self, path: str | Path, figures: str | Path | None = None, form: str = "svg") -> Path:
        """Write the report, and with `figures` each figure as a file in that folder ("svg", "pdf" or "png")."""
        contents = gather(self.groups, self.verdict, self.summary)
        if figures is not None:
            write_figures(contents, figures, form)
        return write_page(contents, path)

    def __repr__(self) -> str:
        lines = [f"{self.said['model']} by {self.said['engine']}, {self.said['created_at']}"]
        for row in self.interest:
            lines.append(f"  {row.name} = {format_measurement(row.mean, row.sd)}{f' {row.unit}' if row.unit else ''}")
        return "\n".join([*lines, self.verdict.sentence()])

    def _repr_html_(self) -> str:
        return filled(
            "run.html.j2",
            css=resource("run.css"),
            said=self.said,
            verdict=self.verdict,
            interest=interest_rows(self.groups, self.said, self.summary),
            corner=self.corner,
        )
