"""A run in Python and in a notebook."""

from __future__ import annotations

import arviz
import numpy as np
import pytest
import xarray as xr

import nuppl
from nuppl.errors import InputError
from nuppl.report.opened import Run
from nuppl.results.storage import save


@pytest.fixture(scope="module")
def run(groups, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    save(groups, folder / "posterior.nc")
    return nuppl.open_run(folder)


def test_draws_summary_and_verdict(run, groups):
    assert run.posterior.sizes["draw"] == 400 and [row.name for row in run.interest] == ["sin2_2theta13", "dm2_32"]
    assert run.verdict.trusted and len(run.summary) == 109
    assert "sin2_2theta13 = 0.0850 ± 0.0024" in repr(run) and run.verdict.sentence() in repr(run)


def test_a_notebook_shows_verdict_table_and_corner(run):
    text = run._repr_html_()
    assert run.verdict.sentence() in text and "0.0850 ± 0.0024" in text and "eV<sup>2</sup>" in text
    assert text.count("<img") == 1 and "data:image/svg+xml;base64," in text and "http" not in text


def test_arviz_reads_it(run):
    data = run.inference_data()
    assert data.attrs["engine"] == "nuts" and "log_likelihood" in data.groups()
    summary = arviz.summary(data, var_names=["dm2_32"], round_to="none")
    assert float(summary["mean"].iloc[0]) == pytest.approx(float(np.mean(run.posterior["dm2_32"])))


def test_report_and_figures(groups, tmp_path):
    few = {**groups, "posterior": groups["posterior"][["sin2_2theta13"]], "observed_data": xr.Dataset()}
    page = Run(few).report(tmp_path / "report.html", tmp_path / "figures", "png")
    assert page.is_file() and (tmp_path / "figures" / "parameters-of-interest.png").is_file()


def test_what_is_not_a_run(groups, tmp_path):
    with pytest.raises(InputError, match="expected a finished run"):
        nuppl.open_run(tmp_path)
    with pytest.raises(InputError, match="found none"):
        nuppl.open_run(tmp_path / "missing")
    save({"/": groups["/"], "observed_data": groups["observed_data"]}, tmp_path / "simulated.nc")
    with pytest.raises(InputError, match="expected a result with a posterior"):
        nuppl.open_run(tmp_path / "simulated.nc")
