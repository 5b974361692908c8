"""Groups, dims, coordinates and attributes; the files that hold them, read back by nuppl and by ArviZ."""

from __future__ import annotations

import math
from dataclasses import replace

import arviz
import netCDF4
import numpy as np
import pyro.distributions as dist
import pytest
import torch
import xarray as xr

import nuppl
from nuppl.errors import InputError
from nuppl.language.simulation import asimov, simulate
from nuppl.results import arrays, schema
from nuppl.results.draws import Draws
from nuppl.results.metadata import metadata
from nuppl.results.schema import expected, inferred, simulated
from nuppl.results.spool import Spool
from nuppl.results.storage import load, save
from nuppl.results.summary import summarize_result

CHAINS, DRAWS = 2, 300
"""Of `spectrum_draws`."""

GROUPS = (
    "posterior",
    "prior",
    "prior_predictive",
    "posterior_predictive",
    "log_likelihood",
    "sample_stats",
    "observed_data",
    "constant_data",
)


@pytest.fixture
def groups(spectrum_program, spectrum_draws):
    return inferred(spectrum_program, spectrum_draws, seed=11)


def test_arviz_reads_what_was_written(groups, tmp_path):
    data = arviz.from_netcdf(str(save(groups, tmp_path / "posterior.nc")))
    assert set(data.groups()) == set(GROUPS)
    for name in GROUPS:
        assert data[name].equals(groups[name].load()), name
    assert data.posterior["depth"].dims == ("chain", "draw")
    assert data.posterior["shape"].dims == ("chain", "draw", "template")
    assert data.log_likelihood["counts"].dims == ("chain", "draw", "detector", "energy")
    assert list(data.observed_data["detector"].values) == ["near", "far"]
    assert data.attrs["engine"] == "nuts" and data.attrs["seed"] == 11
    data.close()


def test_nuppl_reads_what_was_written(groups, tmp_path):
    found = load(save(groups, tmp_path / "posterior.nc"))
    assert set(found) == {"/", *GROUPS}
    said = metadata(found)
    assert said["interest"] == ["depth"] and said["fixed"] == {"scale": pytest.approx(1.02)}
    assert said["options"] == {"flux": "HM", "fast": True}
    assert said["reference"] == {"depth": 0.0} and said["panels"] == {"both": ["near", "far"]}
    assert said["docstring"].startswith("Two detectors") and len(said["model_sha256"]) == 64
    assert said["model_file"] == "conftest.py" and "torch" in said["versions"]
    assert said["attrs"]["failures"] == 0 and math.isnan(said["attrs"]["pareto_k"])
    assert found["posterior"]["depth"].attrs["upper"] == 0.5 and found["posterior"]["tilt"].attrs["kind"] == "pull"


def test_log_likelihood_is_the_density_of_the_data(groups, spectrum_draws):
    depth, tilt = (spectrum_draws.values[name][1, 7] for name in ("depth", "tilt"))
    shape = spectrum_draws.values["shape"][1, 7]
    energy = torch.arange(10, dtype=torch.float64) * 0.5 + 1.0
    correction = 1e-4 * (shape[0] + shape[1] * energy + shape[2] * energy**2)
    mean = 400.0 * 1.02 * (1.0 - depth * torch.exp(-((energy - 3.0) ** 2))) * (1.0 + 0.01 * tilt + correction)
    want = torch.distributions.Poisson(mean).log_prob(torch.tensor(400.0, dtype=torch.float64))
    got = groups["log_likelihood"]["counts"].sel(detector="far").values[1, 7]
    np.testing.assert_allclose(got, want, rtol=1e-12)


def test_reference_and_expectation(groups, spectrum_draws):
    constants, means = groups["constant_data"], groups["posterior_predictive"]["counts"].mean(("chain", "draw"))
    tilt, shape = spectrum_draws.values["tilt"].mean(), spectrum_draws.values["shape"].mean((0, 1))
    flat = 408.0 * (1.0 + 0.01 * tilt + 1e-4 * shape[0] + 1e-4 * shape[1] + 1e-4 * shape[2])
    assert float(constants["counts_reference"][1, 0]) == pytest.approx(float(flat), rel=1e-12)
    # 600 replicas of about 416: the mean is known to 0.85 counts; five of those.
    np.testing.assert_allclose(constants["counts_expected"], means, atol=4.3)
    np.testing.assert_allclose(constants["counts_deviation"] ** 2, constants["counts_expected"], rtol=1e-12)


def test_constants_hold_fixed_sites_pulls_and_the_prior_density(groups):
    constants = groups["constant_data"]
    assert float(constants["scale"]) == pytest.approx(1.02)
    assert (float(constants["tilt_center"]), float(constants["tilt_sigma"])) == (2.0, 0.5)
    assert constants["shape_sigma"].dims == ("template",) and (constants["shape_sigma"] == 1.0).all()
    np.testing.assert_allclose(constants["depth_prior"], 1.0 / 0.49)


def test_replicas_vary_with_the_draw_they_belong_to(counting_program):
    low_high = Draws({"mu": torch.tensor([[0.5, 50.0] * 100], dtype=torch.float64)}, engine="fake")
    replicas = inferred(counting_program, low_high, seed=1)["posterior_predictive"]["n"].values[0]
    assert replicas[0::2].max() < 16 < 25 < replicas[1::2].min()


def test_the_same_seed_gives_the_same_groups(spectrum_program, spectrum_draws, groups):
    again, other = (inferred(spectrum_program, spectrum_draws, seed=seed) for seed in (11, 12))
    for name in GROUPS:
        assert again[name].equals(groups[name]), name
    assert not other["posterior_predictive"].equals(groups["posterior_predictive"])
    assert not other["prior"].equals(groups["prior"])


def test_a_scalar_model_keeps_its_discrepancy(counting_program, counting_draws):
    stats = inferred(counting_program, counting_draws, seed=1)["sample_stats"]
    mu = counting_draws.values["mu"].numpy() + 3.0
    np.testing.assert_allclose(stats["n_chi2_observed"], (20.0 - mu) ** 2 / mu)


def test_predictions_of_many_draws_are_those_of_some(spectrum_program, spectrum_draws, groups, monkeypatch, tmp_path):
    monkeypatch.setattr(schema, "PREDICTIVE_DRAWS", 200)
    thin = inferred(spectrum_program, spectrum_draws, seed=11)
    assert thin["posterior"].equals(groups["posterior"]) and metadata(groups)["notes"] == []
    (note,) = metadata(thin)["notes"]
    assert "200 of the 600 draws" in note
    numbers = list(range(0, DRAWS, 3))
    for name in ("posterior_predictive", "log_likelihood"):
        assert list(thin[name]["draw"].values) == numbers and thin[name].sizes["chain"] == CHAINS
    # What depends on nothing but the draw is the same as with all draws.
    some = groups["log_likelihood"].isel(draw=numbers)
    xr.testing.assert_allclose(thin["log_likelihood"], some, rtol=1e-12)
    stats = thin["sample_stats"]
    assert stats["diverging"].shape == (CHAINS, DRAWS) and list(stats["kept_draw"].values) == numbers
    chi2 = groups["sample_stats"]["counts_chi2_observed"].isel(draw=numbers)
    np.testing.assert_allclose(stats["counts_chi2_observed"], chi2, rtol=1e-12)
    data = arviz.from_netcdf(str(save(thin, tmp_path / "thin.nc")))
    assert data.sample_stats.equals(stats) and np.isfinite(arviz.loo(data).elpd_loo)
    data.close()


def test_draws_from_a_spool_give_the_same_groups(spectrum_program, spectrum_draws, groups):
    spool = Spool(CHAINS, DRAWS)
    spool.append(spectrum_draws.values, spectrum_draws.stats)
    again = inferred(spectrum_program, replace(spectrum_draws, values=spool.values(), stats=spool.stats()), seed=11)
    for name in GROUPS:
        assert again[name].equals(groups[name]), name


def test_long_arrays_are_written_and_read_entry_by_entry(groups, monkeypatch, tmp_path):
    monkeypatch.setattr(arrays, "WHOLE", 8 * CHAINS * DRAWS)
    monkeypatch.setattr(arrays, "HISTORY", 100)
    path = save(groups, tmp_path / "long.nc")
    with netCDF4.Dataset(path) as file:
        assert file["posterior"]["depth"].chunking() == "contiguous"
        assert file["posterior"]["shape"].chunking() == [1, DRAWS, 1]
    data = arviz.from_netcdf(str(path))
    for name in GROUPS:
        assert data[name].equals(groups[name].load()), name
    assert data.posterior["shape"].attrs == groups["posterior"]["shape"].attrs
    data.close()
    assert summarize_result(load(path)) == summarize_result(groups)


def test_simulation_and_expectation(spectrum_program, tmp_path):
    drawn = simulated(spectrum_program, simulate(spectrum_program, 5, seed=3), seed=3)
    assert drawn["prior_predictive"]["counts"].shape == (1, 5, 2, 10) and set(drawn["prior"]) == {
        "depth",
        "shape",
        "tilt",
    }
    program = spectrum_program.with_(fixed={"depth": 0.9}, outside=True)
    found = load(save(expected(program, asimov(program)), tmp_path / "predicted.nc"))
    assert found["observed_data"]["counts"].dims == ("detector", "energy")
    assert float(found["constant_data"]["depth"]) == 0.9 and float(found["constant_data"]["tilt"]) == 2.0


@nuppl.model
def one_label():
    x = nuppl.parameter("x", dist.Normal(0.0, 1.0))
    with nuppl.plate("only", ["this"], dim=-1):
        nuppl.observe("y", dist.Normal(x, 1.0), torch.zeros(1))


def test_a_single_string_coordinate_survives(tmp_path):
    draws = Draws({"x": torch.zeros(1, 4, dtype=torch.float64)}, engine="fake")
    found = load(save(inferred(one_label.bind(), draws, seed=0), tmp_path / "x.nc"))
    assert list(found["observed_data"]["only"].values) == ["this"] and metadata(found)["interest"] == ["x"]


@nuppl.model
def clash():
    with nuppl.plate("x", 3, dim=-1):
        x = nuppl.parameter("x", dist.Normal(0.0, 1.0))
        nuppl.observe("y", dist.Normal(x, 1.0), torch.zeros(3))


@nuppl.model
def stolen():
    x = nuppl.parameter("x", dist.Normal(0.0, 1.0))
    with nuppl.plate("draw", 3, dim=-1):
        nuppl.observe("y", dist.Normal(x, 1.0), torch.zeros(3))


@nuppl.model
def outside_its_domain():
    x = nuppl.parameter("x", dist.Normal(0.0, 1.0))
    nuppl.observe("y", dist.Poisson(x), torch.tensor(1.0))


@pytest.mark.parametrize(
    ("model", "message"),
    [(clash, "plate 'x' of site 'x': .*rename the plate"), (stolen, "plate 'draw' of site 'y': .*rename the plate")],
)
def test_names_that_cannot_share_a_file_are_refused(model, message):
    program = model.bind()
    with pytest.raises(InputError, match=message):
        expected(program, asimov(program))


def test_a_prior_that_cannot_be_simulated_leaves_a_note():
    draws = Draws({"x": torch.ones(1, 8, dtype=torch.float64)}, engine="fake")
    groups = inferred(outside_its_domain.bind(), draws, seed=0)
    assert "prior" not in groups and "no prior draws" in metadata(groups)["notes"][0]


def test_missing_latents_are_named(spectrum_program, spectrum_draws):
    values = {"depth": spectrum_draws.values["depth"]}
    with pytest.raises(InputError, match=r"missing \['shape', 'tilt'\]"):
        inferred(spectrum_program, Draws(values, engine="nuts"), seed=0)


def test_files_that_cannot_be_read(groups, tmp_path):
    good = save(groups, tmp_path / "good.nc")
    truncated, foreign, text = (tmp_path / name for name in ("truncated.nc", "foreign.nc", "text.nc"))
    truncated.write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    groups["observed_data"].to_netcdf(foreign)
    text.write_text("not a result")
    for path, message in (
        (tmp_path / "none.nc", "found none"),
        (tmp_path, "found a folder"),
        (truncated, "cannot be read"),
        (text, "cannot be read"),
        (foreign, "'inference_library' says None"),
    ):
        with pytest.raises(InputError, match=message):
            load(path)


def test_hostile_attributes_are_refused(groups, tmp_path):
    groups["/"].attrs["attrs"] = "[1, 2"
    with pytest.raises(InputError, match="attribute 'attrs'"):
        metadata(load(save(groups, tmp_path / "x.nc")))


def test_a_failed_write_leaves_the_old_file_and_no_other(groups, tmp_path):
    path = save(groups, tmp_path / "posterior.nc")
    before = path.read_bytes()
    broken = {**groups, "posterior": groups["posterior"].assign_attrs(bad={"a": 1})}
    with pytest.raises(TypeError):
        save(broken, path)
    assert path.read_bytes() == before and [entry.name for entry in tmp_path.iterdir()] == ["posterior.nc"]
