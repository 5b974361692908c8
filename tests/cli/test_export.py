"""`nuppl export`: what GetDist, CSV readers and both generations of ArviZ find in a result."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from pathlib import Path

import getdist
import numpy as np
import pyro.distributions as dist
import pytest
import torch
import xarray as xr

import nuppl
from nuppl.cli.main import main
from nuppl.results import export_getdist
from nuppl.results.draws import Draws
from nuppl.results.schema import inferred
from nuppl.results.storage import load, save
from nuppl.results.summary import summarize_result

CHAINS, DRAWS = 3, 400
ROOT = Path(__file__).parents[2]
MODERN = ROOT / ".venv-arviz" / "bin" / "python"
"""A Python with ArviZ 1, which `make arviz` sets up where Python 3.12 is at hand."""


@nuppl.model(interest=("dm2_32", "norm"))
def spectrum():
    split = nuppl.parameter("dm2_32", dist.Uniform(2e-3, 3e-3), unit="eV^2", label=r"\Delta m^2_{32}")
    with nuppl.plate("detector", ["EH1 AD1", "far, 2"], dim=-2):
        norm = nuppl.parameter("norm", dist.HalfNormal(2.0))
        with nuppl.plate("edge", [-0.5, 0.5], dim=-1, unit="MeV"):
            scale = nuppl.pull("scale", label=r"k!_#", unit="%")
    with nuppl.plate("detector", ["EH1 AD1", "far, 2"], dim=-2), nuppl.plate("edge", [-0.5, 0.5], dim=-1):
        nuppl.observe(
            "counts", dist.Poisson(1e5 * split * (1.0 + norm) * (1.0 + 0.01 * scale)), torch.full((2, 2), 300.0)
        )


@pytest.fixture(scope="module")
def groups():
    program = spectrum.bind()
    generator = torch.Generator().manual_seed(5)

    def draw(*shape):
        return torch.rand(CHAINS, DRAWS, *shape, generator=generator, dtype=torch.float64)

    values = {"dm2_32": 2e-3 + 1e-3 * draw(), "norm": draw(2, 1), "scale": draw(2, 2)}
    values = {name: value.reshape(CHAINS, DRAWS, *program.sites[name].shape) for name, value in values.items()}
    attrs = {"log_evidence": -3.0, "log_evidence_error": 0.1}
    return inferred(program, Draws(values, {"lp": -draw()}, attrs, engine="nuts"), seed=1)


@pytest.fixture
def run(groups, tmp_path, monkeypatch, capsys):
    """A run folder, and the command line."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "spectrum"
    folder.mkdir(parents=True)
    save(groups, folder / "posterior.nc")

    def call(*arguments: object, code: int = 0) -> str:
        with pytest.raises(SystemExit) as left:
            main(["export", "runs/spectrum", *map(str, arguments)])
        streams = capsys.readouterr()
        assert left.value.code == code and "Traceback" not in streams.err, streams.err
        return streams.out if code == 0 else streams.err

    return call


def test_getdist_reads_names_ranges_labels_and_draws(run, groups):
    written = run("--format", "getdist").split()
    assert [Path(file).name for file in written] == [
        *(f"spectrum_{chain}.txt" for chain in (1, 2, 3)), "spectrum.paramnames", "spectrum.ranges"
    ]  # fmt: skip
    samples = getdist.loadMCSamples("runs/spectrum/spectrum")
    names = samples.getParamNames()
    entries = [f"scale_{detector}_{edge}" for detector in ("EH1_AD1", "far_2") for edge in ("m0_5", "0_5")]
    assert names.list() == ["dm2_32", "norm_EH1_AD1", "norm_far_2", *entries, "chi2_counts"]
    assert [each.name for each in names.names if each.isDerived] == ["chi2_counts"]
    labels = {each.name: each.label for each in names.names}
    assert labels["dm2_32"] == r"\Delta m^2_{32}\ [\mathrm{eV^2}]"
    assert labels["norm_far_2"] == r"\mathrm{norm}\ (\mathrm{far,\ 2})"
    assert labels["scale_EH1_AD1_m0_5"] == r"k_\ (\mathrm{EH1\ AD1,\ -0.5})\ [\mathrm{\%}]"
    # HalfNormal has a lower bound and no upper one, a pull has neither.
    bounds = {name: (samples.ranges.getLower(name), samples.ranges.getUpper(name)) for name in names.list()}
    assert bounds["dm2_32"] == (2e-3, 3e-3) and bounds["norm_far_2"] == (0.0, None)
    assert bounds["scale_far_2_0_5"] == bounds["chi2_counts"] == (None, None)

    posterior, stats = groups["posterior"], groups["sample_stats"]
    assert samples.numrows == CHAINS * DRAWS and (samples.weights == 1.0).all()
    np.testing.assert_allclose(samples.loglikes, -stats["lp"].values.ravel(), rtol=1e-9)
    found = samples.getParams()
    np.testing.assert_allclose(found.dm2_32, posterior["dm2_32"].values.ravel(), rtol=1e-9)
    scale = posterior["scale"].sel(detector="far, 2", edge=-0.5)
    np.testing.assert_allclose(found.scale_far_2_m0_5, scale.values.ravel(), rtol=1e-9)
    np.testing.assert_allclose(found.chi2_counts, stats["counts_chi2_observed"].values.ravel(), rtol=1e-9)
    assert samples.mean("dm2_32") == pytest.approx(float(posterior["dm2_32"].mean()), rel=1e-8)


def test_chains_written_in_pieces_are_the_same(groups, tmp_path, monkeypatch):
    whole, pieces = ({} for _ in range(2))
    for found, block in ((whole, export_getdist.BLOCK), (pieces, 8 * 11 * 7)):
        monkeypatch.setattr(export_getdist, "BLOCK", block)
        for end, write in export_getdist.files(groups):
            with (tmp_path / f"x{end}").open("w") as stream:
                write(stream)
            found[end] = (tmp_path / f"x{end}").read_text()
    assert whole == pieces and len(whole["_1.txt"].splitlines()) == DRAWS


def test_names_that_collide_are_told_apart(groups):
    posterior = groups["posterior"].assign(norm_far_2=groups["posterior"]["dm2_32"])
    names = [column.name for column in export_getdist.columns({**groups, "posterior": posterior})]
    assert len(set(names)) == len(names) and {"norm_far_2", "norm_far_2_2"} <= set(names)


def test_the_summary_reads_back_exactly(run, groups):
    assert run("--format", "csv").split() == ["runs/spectrum/spectrum.csv"]
    with open("runs/spectrum/spectrum.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    expected = summarize_result(groups)
    assert [row["name"] for row in rows] == [row.name for row in expected]
    assert rows[2]["name"] == "norm[far, 2]" and rows[0]["unit"] == "eV^2"
    for row, want in zip(rows, expected, strict=True):
        for name in ("mean", "sd", "median", "lower", "upper", "r_hat", "ess_bulk", "ess_tail"):
            assert float(row[name]) == getattr(want, name), name


def test_nothing_is_overwritten_unless_asked(run, tmp_path):
    run("--format", "getdist", "--out", "chains")
    (tmp_path / "chains_4.txt").write_text("of a run with more chains")
    (tmp_path / "chains_best.txt").write_text("another's")
    assert "--overwrite" in run("--format", "getdist", "--out", "chains", code=3)
    run("--format", "getdist", "--out", "chains", "--overwrite")
    assert not (tmp_path / "chains_4.txt").exists(), "GetDist would have read it along"
    assert (tmp_path / "chains_best.txt").read_text() == "another's"
    (tmp_path / "chains.txt").write_text("another's")
    assert "chain too" in run("--format", "getdist", "--out", "chains", "--overwrite", code=3)
    (tmp_path / "table.csv").write_text("mine")
    assert "table.csv" in run("--format", "csv", "--out", "table.csv", code=3)
    assert (tmp_path / "table.csv").read_text() == "mine"
    assert not list(tmp_path.glob(".*")), "nothing half-written is left"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), 2, ("--format",)),
        (("--format", "getdits"), 2, ("did you mean 'getdist'", "csv")),
        (("--format", "csv", "--out", "nowhere/table.csv"), 3, ("expected a folder 'nowhere'",)),
    ],
)
def test_what_cannot_be_exported_is_refused(arguments, code, words, run):
    said = run(*arguments, code=code)
    assert all(word in said for word in words), said


def without_density(groups):
    return {**groups, "sample_stats": groups["sample_stats"].drop_vars("lp")}


def with_a_hole(groups):
    posterior = groups["posterior"].copy().load()
    posterior["dm2_32"][1, 7] = np.nan
    return {**groups, "posterior": posterior}


@pytest.mark.parametrize(
    ("spoil", "words"),
    [(without_density, ("'lp'", "sample_stats")), (with_a_hole, ("finite draws", "'dm2_32'", "nuppl check"))],
)
def test_draws_that_getdist_cannot_hold_are_refused(spoil, words, run, groups, tmp_path):
    folder = tmp_path / "runs" / "spectrum"
    save(spoil(groups), folder / "posterior.nc")
    said = run("--format", "getdist", code=2)
    assert all(word in said for word in words), said
    assert [file.name for file in folder.iterdir()] == ["posterior.nc"], "nothing half-written is left"


def test_a_result_without_posterior_is_refused(run, groups, tmp_path):
    save({name: groups[name] for name in ("/", "prior")}, tmp_path / "runs" / "spectrum" / "posterior.nc")
    assert "expected a result with a posterior" in run("--format", "csv", code=2)


def test_xarray_opens_the_result_as_arviz_1_does(groups, tmp_path):
    tree = xr.open_datatree(save(groups, tmp_path / "posterior.nc"))
    assert set(tree.children) == set(groups) - {"/"} and tree.attrs["inference_library"] == "nuppl"
    for name in tree.children:
        assert tree[name].to_dataset().equals(groups[name]), name
    tree.close()
    for group in load(tmp_path / "posterior.nc").values():
        group.close()


@pytest.mark.skipif(not MODERN.exists(), reason="no Python with ArviZ 1; `make arviz` makes one")
def test_arviz_1_reads_the_result(groups, tmp_path):
    file = save(groups, tmp_path / "posterior.nc")
    code = (
        "import json, sys, arviz\n"
        "tree = arviz.from_netcdf(sys.argv[1])\n"
        "rows = arviz.summary(tree, round_to='none')\n"
        "print(json.dumps([arviz.__version__, sorted(tree.children), tree.posterior['dm2_32'].attrs['unit'], "
        "float(rows.loc['dm2_32', 'mean']), list(map(str, rows.index))]))\n"
    )
    done = subprocess.run([MODERN, "-c", code, file], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    version, children, unit, mean, rows = json.loads(done.stdout)
    assert version.startswith("1.") and children == sorted(set(groups) - {"/"}) and unit == "eV^2"
    assert mean == pytest.approx(float(groups["posterior"]["dm2_32"].mean()), rel=1e-6)
    assert "norm[far, 2]" in rows


def test_the_result_of_a_file_is_written_beside_it(run, tmp_path, capsys):
    shutil.copyfile("runs/spectrum/posterior.nc", tmp_path / "mine.nc")
    with pytest.raises(SystemExit):
        main(["export", "mine.nc", "--format", "csv"])
    assert capsys.readouterr().out == "mine.csv\n" and (tmp_path / "mine.csv").is_file()
