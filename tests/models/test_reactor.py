"""The main job: Daya Bay's theta13 and dm2_32 against the official model and the publication."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nuppl.inference.importance import importance
from nuppl.language.loading import load_model
from nuppl.language.simulation import asimov
from nuppl.optimize.fit import fit
from nuppl.sampling.settings import Settings

MODELS = Path(__file__).parents[2] / "models"

OFFICIAL = {"sin2_2theta13": (0.08530, 0.00226), "dm2_32": (2.4631e-3, 5.48e-5)}
"""dayabay-model 1.7.1 (MIT) on the same data with the same statistic: 208 bins, Poisson likelihood, all 1057 pulls, its
global normalisation at 1; Gauss-Newton on its own derivatives. Minimum 191.74."""

OFFICIAL_MINIMUM = 191.74

PUBLISHED = {"sin2_2theta13": (0.0851, 0.0024), "dm2_32": (2.466e-3, 6.0e-5)}
"""Phys. Rev. Lett. 130, 161802 (2023)."""


@pytest.fixture(scope="module")
def program():
    return load_model(str(MODELS / "reactor.py"))[0].bind()


@pytest.fixture(scope="module")
def best(program):
    return fit(program, starts=1)


def test_the_fit_is_that_of_the_official_model(best):
    assert best.converged and best.is_deviance
    assert best.statistic == pytest.approx(OFFICIAL_MINIMUM, abs=1.0)
    for name, (value, error) in OFFICIAL.items():
        assert best.parameters[name].value == pytest.approx(value, abs=0.1 * error)
        assert best.parameters[name].error == pytest.approx(error, rel=0.03)


def test_the_fit_agrees_with_the_publication(best):
    for name, (value, error) in PUBLISHED.items():
        assert best.parameters[name].value == pytest.approx(value, abs=0.3 * error)


def test_minos_errors_are_near_those_of_the_hessian(best):
    for name in OFFICIAL:
        estimate = best.parameters[name]
        assert estimate.upper - estimate.value == pytest.approx(estimate.error, rel=0.05)
        assert estimate.value - estimate.lower == pytest.approx(estimate.error, rel=0.05)


def test_the_posterior_has_even_weights_and_agrees_with_the_fit(program, best):
    """600 proposals; the tolerance leaves three Monte-Carlo errors of the mean beside the 0.2 asked for."""
    drawn = importance(program, Settings(seed=1, chains=2, draws=500, proposals=300))
    assert drawn.attrs["efficiency"] > 0.1
    assert drawn.attrs["pareto_k"] < 0.7
    noise = 3.0 / drawn.attrs["effective_draws"] ** 0.5
    for name in OFFICIAL:
        estimate, values = best.parameters[name], drawn.values[name]
        assert abs(float(values.mean()) - estimate.value) / estimate.error < 0.2 + noise
        assert float(values.std()) / estimate.error == pytest.approx(1.0, abs=0.05 + noise)


def test_asimov_counts_lie_in_the_releases_order(tmp_path):
    import xarray as xr

    target = tmp_path / "predicted.nc"
    command = ["simulate", MODELS / "reactor.py", "--asimov", "--set", "sin2_2theta13=0.25", "--out", target, "--json"]
    code = "from nuppl.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *map(str, command)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["parameters"]["dm2_32"] == pytest.approx(2.5e-3)
    with xr.open_dataset(target, group="observed_data") as data:
        assert data["counts"].dims == ("detector", "prompt_energy")
        assert list(data["detector"].values) == ["AD11", "AD12", "AD21", "AD22", "AD31", "AD32", "AD33", "AD34"]
        expected = torch.as_tensor(data["counts"].values)
    assert expected.shape == (8, 26) and bool((expected > 0).all())


def test_the_sterile_model_without_a_fourth_neutrino_is_the_model_of_three():
    """At theta14 = 0 both give the same expected counts, whatever dm2_41."""
    held = {"sin2_2theta13": 0.085, "dm2_32": 2.46e-3}
    three = load_model(str(MODELS / "reactor.py"))[0].bind(fixed=held)
    four = load_model(str(MODELS / "reactor_sterile.py"))[0].bind(
        fixed={**held, "sin2_2theta14": 0.0, "dm2_41": 0.5}, outside=True
    )
    first, second = three.means(three.nominal())["counts"], four.means(four.nominal())["counts"]
    torch.testing.assert_close(first, second, rtol=1e-9, atol=0)


def test_the_two_angles_trade_places_where_the_splittings_meet():
    """Three-flavour data have two exact minima: at dm2_41 = dm2_31 the fourth state takes theta13's part.

    The fit finds both, one from the nominal point, one from the start that the model declares.
    """
    model = load_model(str(MODELS / "reactor_sterile.py"))[0]
    program = model.bind()
    at = {"sin2_2theta13": 0.085, "sin2_2theta14": 0.0}
    found = fit(program.with_(data=asimov(program, at)), starts=0, minos=False)
    assert found.statistic == pytest.approx(0.0, abs=0.1)
    assert found.minima and found.minima[0] < 0.5
