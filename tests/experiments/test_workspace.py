"""Workspaces against pyhf; the numbers come from benchmarks/pyhf_reference.py."""

import json
import re
from pathlib import Path

import pyro.distributions as dist
import pytest
import torch

import nuppl
from nuppl.cli.main import main
from nuppl.experiments.workspace import workspaces
from nuppl.experiments.workspace_rates import joining_polynomial
from nuppl.language.check import check
from nuppl.language.simulation import simulate, toys
from nuppl.optimize.fit import fit

HERE = Path(__file__).parent / "workspaces"


@pytest.fixture(scope="module", params=["small", "large"])
def reference(request):
    return json.loads((HERE / f"{request.param}.json").read_text())


def simple(observed=(51.0, 48.0), **config):
    """pyhf's uncorrelated_background with the signal and background of its documentation."""
    strength = {"name": "mu", "type": "normfactor", "data": None}
    uncertainty = {"name": "uncorr_bkguncrt", "type": "shapesys", "data": [3.0, 7.0]}
    samples = [
        {"name": "signal", "data": [12.0, 11.0], "modifiers": [strength]},
        {"name": "background", "data": [50.0, 52.0], "modifiers": [uncertainty]},
    ]
    return {
        "channels": [{"name": "singlechannel", "samples": samples}],
        "observations": [{"name": "singlechannel", "data": list(observed)}],
        "measurements": [{"name": "Measurement", "config": {"poi": "mu", "parameters": [], **config}}],
        "version": "1.0.0",
    }


def by_site(program, parameters, points):
    """Points in pyhf's order with shape (n, P) as {free latent: (n, *site)}."""
    points = torch.as_tensor(points, dtype=torch.float64)
    names = {re.sub(r"\W", "_", name): name for name in (each.partition("[")[0] for each in parameters)}
    found = {}
    for site in program.latents.values():
        name = names[site.name]
        if not site.axes:
            found[site.name] = points[..., parameters.index(name)]
            continue
        entries = site.axes[0].coords or range(site.axes[0].size)
        found[site.name] = points[..., [parameters.index(f"{name}[{entry}]") for entry in entries]]
    return found


def test_the_documented_example():
    """pyhf 0.7.6: twice the negative log likelihood 24.983936 free, 28.922182 at mu = 1."""
    program = nuppl.workspace(simple()).bind()
    assert -2 * fit(program).log_likelihood == pytest.approx(24.983936, abs=1e-5)
    assert -2 * fit(program.with_(fixed={"mu": 1.0})).log_likelihood == pytest.approx(28.922182, abs=1e-5)


def test_log_likelihoods_at_random_points(reference):
    program = nuppl.workspace(reference["workspace"]).bind()
    values = by_site(program, reference["parameters"], reference["points"])
    found = program.terms(values).likelihood
    expected = torch.tensor(reference["log_density"], dtype=torch.float64)
    assert sum(site.size for site in program.latents.values()) == reference["fixed"].count(False)
    assert len(expected) == 50
    torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-8)


@pytest.mark.parametrize(("which", "held"), [("free", {}), ("at_mu_1", {"mu": 1.0})])
def test_best_fits(reference, which, held):
    program = nuppl.workspace(reference["workspace"]).bind(fixed=held)
    found = fit(program, minos=False)
    assert found.converged
    assert -2 * found.log_likelihood == pytest.approx(reference[which]["twice_nll"], abs=1e-6)
    for name, value in by_site(program, reference["parameters"], reference[which]["point"]).items():
        torch.testing.assert_close(found.values[name], value, rtol=0.0, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


def test_only_entries_that_move_something_count_as_degrees_of_freedom():
    reference = json.loads((HERE / "small.json").read_text())
    found = fit(nuppl.workspace(reference["workspace"]).bind(), minos=False)
    # Five bins; mu and mu_top are free, all other parameters have a measurement of their own or are held.
    assert found.freedom == 5 - 2


def test_the_contract_is_kept(reference):
    report = check(nuppl.workspace(reference["workspace"]))
    assert report.passed
    assert report.findings == ()


def test_kinds_of_sites():
    """Gaussian measurements are pulls unless a bound is within reach; bins without error are held, but counted."""
    reference = json.loads((HERE / "small.json").read_text())
    model = nuppl.workspace(reference["workspace"])
    sites = model.bind().sites
    assert model.interest == ("mu",)
    assert {name for name, site in sites.items() if site.kind == "pull"} == {"lumi", "energy_scale", "theory", "mc_SR"}
    assert {name for name, site in sites.items() if site.fixed} == {"free", "mc_SR_held", "fakes_held"}
    assert sites["fakes_measured"].distribution == "Poisson" and sites["mc_CR_measured"].distribution == "Normal"
    assert all(sites[name].auxiliary for name in ("fakes_measured", "mc_CR_measured", "fakes_held_measured"))
    torch.testing.assert_close(sites["fakes_measured"].data.flatten(), torch.tensor([16.0, 9.0]).double())
    assert sites["mu"].prior.keys() == {"low", "high"} and float(sites["mu"].upper) == 10.0


def test_centres_fluctuate_in_toys():
    """The tau of each shapesys bin is Poisson around tau gamma, each Gaussian centre around the true value."""
    program = nuppl.workspace(json.loads((HERE / "small.json").read_text())["workspace"]).bind()
    truth = {**program.nominal(), "fakes": torch.tensor([0.8, 1.3]).double(), "theory": torch.tensor(0.7).double()}
    drawn, n = toys(program, 20_000, seed=5, at=truth), 20_000
    rate = torch.tensor([16.0, 9.0]).double() * truth["fakes"]
    taus = drawn.data["fakes_measured"]
    assert bool((taus == taus.round()).all())
    # Five standard errors each: one failure in 4e5.
    assert bool(((taus.mean(0) - rate).abs() < 5 * (rate / n).sqrt()).all())
    assert bool(((taus.var(0) / rate - 1).abs() < 5 * (2 / n + 1 / (n * rate)).sqrt()).all())
    assert abs(float(drawn.centers["theory"].mean()) - 0.7) < 5 / n**0.5
    assert abs(float(drawn.centers["theory"].std()) - 1.0) < 5 / (2 * n) ** 0.5


def test_expected_counts_are_cut_where_shifts_make_them_negative():
    spec = simple()
    shift = {"name": "tilt", "type": "histosys", "data": {"lo_data": [90.0, 52.0], "hi_data": [5.0, 52.0]}}
    spec["channels"][0]["samples"][1]["modifiers"].append(shift)
    program = nuppl.workspace(spec).bind(fixed={"mu": 0.0, "uncorr_bkguncrt": 1.0})
    means = program.means({"tilt": torch.tensor([0.0, 1.0, 3.0]).double()})["singlechannel"]
    torch.testing.assert_close(means[:, 0], torch.tensor([50.0, 5.0, 1e-10]).double())
    assert simulate(program, 500, seed=3)["singlechannel"].isfinite().all()


@pytest.mark.parametrize(("lo", "hi"), [(0.9, 1.2), (1.3, 0.4), (1.0, 1.0)])
def test_the_interpolation_is_smooth_where_it_joins(lo, hi):
    coefficients = joining_polynomial(torch.tensor(lo).double(), torch.tensor(hi).double())

    def polynomial(alpha):
        return (coefficients * alpha ** torch.arange(7)).sum()

    def exponential(alpha):
        base = torch.tensor(hi if alpha > 0 else lo).double()
        return base ** alpha.abs()

    for at in (-1.0, 1.0):
        for order in range(3):
            inside, outside = (derivative(f, at, order) for f in (polynomial, exponential))
            assert inside == pytest.approx(outside, abs=1e-12)


def derivative(function, at, order):
    point = torch.tensor(at, dtype=torch.float64, requires_grad=True)
    value = function(point)
    for _ in range(order):
        (value,) = torch.autograd.grad(value, point, create_graph=True)
    return float(value.detach())


def test_bayes_is_uniform_between_the_bounds_times_the_measurements():
    """The free strength of one bin with known background: the posterior mean against a sum over a grid."""
    program = nuppl.workspace(simple()).bind(fixed={"uncorr_bkguncrt": 1.0})
    mu = torch.linspace(0.0, 9.0, 5, dtype=torch.float64)
    terms = program.terms({"mu": mu})
    torch.testing.assert_close(terms.prior, torch.full((5,), 0.1).double().log())
    rate = mu[:, None] * torch.tensor([12.0, 11.0]).double() + torch.tensor([50.0, 52.0]).double()
    counts = dist.Poisson(rate).log_prob(torch.tensor([51.0, 48.0]).double()).sum(-1)
    tau = torch.tensor([(50 / 3) ** 2, (52 / 7) ** 2]).double()
    aside = dist.Poisson(tau, validate_args=False).log_prob(tau).sum()
    torch.testing.assert_close(terms.likelihood, counts + aside)


def test_measurements_are_models(tmp_path):
    spec = simple()
    spec["measurements"].append({"name": "no signal", "config": {"poi": "", "parameters": []}})
    file = tmp_path / "two.json"
    file.write_text(json.dumps(spec))
    models = workspaces(file)
    assert list(models) == ["Measurement", "no_signal"]
    assert models["Measurement"].interest == ("mu",) and models["no_signal"].interest == ()
    assert nuppl.workspace(file, measurement="no signal").name == "no_signal"
    assert nuppl.workspace(file).file == file


def test_names_that_are_not_identifiers_or_clash():
    spec = simple()
    background = spec["channels"][0]["samples"][1]
    background["modifiers"] += [
        {"name": name, "type": "normsys", "data": {"lo": 0.9, "hi": 1.1}} for name in ("JES 1", "JES-1", "1st")
    ]
    background["modifiers"].append({"name": "singlechannel", "type": "normfactor", "data": None})
    latents = nuppl.workspace(spec).bind().sites
    assert {"JES_1", "JES_1_2", "_1st", "singlechannel", "singlechannel_2"} <= set(latents)


def test_patches(tmp_path):
    operations = [
        {"op": "replace", "path": "/channels/0/samples/0/data", "value": [3.0, 4.0]},
        {"op": "add", "path": "/channels/0/samples/1/modifiers/-", "value": {"name": "k", "type": "normfactor"}},
        {"op": "copy", "from": "/observations/0/data/0", "path": "/observations/0/data/1"},
        {"op": "remove", "path": "/observations/0/data/2"},
        {"op": "test", "path": "/observations/0/data", "value": [51.0, 51.0]},
    ]
    patches = [{"metadata": {"name": "light", "values": [1]}, "patch": operations}]
    (tmp_path / "set.json").write_text(json.dumps({"patches": patches, "metadata": {}, "version": "1.0.0"}))
    (tmp_path / "alone.json").write_text(json.dumps(operations))
    spec = simple()
    for patch in (operations, tmp_path / "alone.json", f"{tmp_path}/set.json:light"):
        program = nuppl.workspace(spec, patch=patch).bind()
        assert "k" in program.latents
        assert program.data["singlechannel"].tolist() == [51.0, 51.0]
        means = program.means({**program.nominal(), "mu": torch.tensor(1.0).double()})["singlechannel"]
        assert means.flatten().tolist() == [53.0, 56.0]
    assert spec == simple()


def test_the_command_line_takes_a_workspace(tmp_path, monkeypatch, capsys):
    spec = simple()
    spec["measurements"].append({"name": "second", "config": {"poi": "mu", "parameters": []}})
    (tmp_path / "counting.json").write_text(json.dumps(spec))
    monkeypatch.chdir(tmp_path)
    assert run("fit", "counting.json:second", "--json", "--no-minos") == 0
    assert json.loads(capsys.readouterr().out)["parameters"]["mu"]["value"] == pytest.approx(0.0, abs=1e-6)
    assert run("check", "counting.json") == 0
    assert capsys.readouterr().out.count("keeps the contract") == 2
    assert run("simulate", "counting.json:second", "--asimov") == 0
    assert run("fit", "counting.json") == 2
    assert "say which, counting.json:NAME with one of Measurement, second" in capsys.readouterr().err
    (tmp_path / "counting.json").write_text("{}")
    assert run("fit", "counting.json") == 2
    assert "workspace 'counting.json': expected an entry 'observations', found none" in capsys.readouterr().err


def run(*arguments):
    with pytest.raises(SystemExit) as leaving:
        main(list(arguments))
    return leaving.value.code
