"""Leave-one-out against ArviZ and against a prediction in closed form; which result has none."""

from __future__ import annotations

import arviz
import numpy as np
import pytest
import xarray as xr

from nuppl.report.figures_left_out import left_out
from nuppl.report.leave_one_out import leave_one_out
from nuppl.report.tables_checks import left_out_table

DATA, CHAINS, LENGTH = 30, 4, 1000


@pytest.fixture(scope="module")
def groups():
    """The mean of 30 normal data of width 1 with a flat prior; datum 11 lies off by four."""
    rng = np.random.default_rng(8)
    data = rng.normal(size=DATA)
    data[11] = data.mean() + 4.0
    mean = data.mean() + rng.normal(size=(CHAINS, LENGTH)) / np.sqrt(DATA)
    likelihood = -0.5 * (data - mean[..., None]) ** 2 - 0.5 * np.log(2.0 * np.pi)
    replicas = mean[..., None] + rng.normal(size=(CHAINS, LENGTH, DATA))
    dims, coords = ("chain", "draw", "bin"), {"bin": 0.5 + np.arange(DATA)}
    return {
        "posterior": xr.Dataset({"mean": (dims[:2], mean)}),
        "log_likelihood": xr.Dataset({"y": (dims, likelihood)}, coords),
        "posterior_predictive": xr.Dataset({"y": (dims, replicas)}, coords),
        "observed_data": xr.Dataset({"y": ("bin", data)}, coords),
    }


def test_it_is_what_arviz_computes(groups):
    (site,) = leave_one_out(groups, efficiency=0.9)
    want = arviz.loo(arviz.InferenceData(**groups), pointwise=True, reff=0.9)
    assert site.elpd == pytest.approx(want.elpd_loo, rel=1e-9) and site.error == pytest.approx(want.se, rel=1e-9)
    assert site.p_loo == pytest.approx(want.p_loo, rel=1e-9)
    np.testing.assert_allclose(site.k, want.pareto_k.values, rtol=1e-9)


def test_each_datum_is_predicted_by_the_others(groups):
    (site,) = leave_one_out(groups)
    data = groups["observed_data"]["y"].values
    others = (data.sum() - data) / (DATA - 1)
    width = np.sqrt(1.0 + 1.0 / (DATA - 1))
    # 4000 replicas: the mean is good to 0.016, the width to 1 %.
    np.testing.assert_allclose(site.predicted, others, atol=0.07)
    np.testing.assert_allclose(site.pulls, (data - others) / width, atol=0.2)
    worst = left_out_table(site)["worst"][0]
    assert worst["place"] == "11.5" and float(worst["pull"]) == pytest.approx(4.07, abs=0.3)
    assert site.influential == 0
    assert left_out(site).title == "Left out one by one: y"


def test_a_datum_that_decides_is_counted(groups):
    likelihood = groups["log_likelihood"]["y"].copy()
    # One datum a thousand times as precise: leaving it out is beyond reweighting.
    likelihood[..., 3] *= 1000.0
    (site,) = leave_one_out({**groups, "log_likelihood": xr.Dataset({"y": likelihood})})
    assert site.influential == 1 and site.k[3] > 0.7


@pytest.mark.parametrize(
    "less",
    [
        lambda g: {**g, "log_likelihood": g["log_likelihood"].isel(bin=slice(4))},
        lambda g: {**g, "log_likelihood": g["log_likelihood"].isel(draw=slice(90))},
        lambda g: {name: group for name, group in g.items() if name != "log_likelihood"},
    ],
    ids=["four data", "360 draws", "no density"],
)
def test_where_it_makes_no_sense_there_is_none(groups, less):
    assert leave_one_out(less(groups)) == []
