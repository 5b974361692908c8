"""Densities, contours, error bars and labels of the report."""

from __future__ import annotations

import numpy as np
import pytest

from nuppl.report.density import contour_levels, density_1d, density_2d
from nuppl.report.figures_spectra import _poisson_errors, spectra
from nuppl.report.labels import axis_label, html_label, html_unit, tex_label
from nuppl.report.tables import pretty

OPEN = (-np.inf, np.inf)


def test_the_density_of_normal_draws():
    values = np.random.default_rng(1).normal(size=20_000)
    grid, density = density_1d(values, OPEN)
    assert np.trapezoid(density, grid) == pytest.approx(1.0, abs=2e-3)
    # The noise of the estimate at the peak is near 0.006.
    np.testing.assert_allclose(density, np.exp(-0.5 * grid**2) / np.sqrt(2 * np.pi), atol=0.025)


def test_no_probability_leaks_over_a_bound():
    values = np.random.default_rng(2).exponential(size=20_000)
    grid, density = density_1d(values, (0.0, np.inf))
    assert grid[0] > 0.0 and density[0] == pytest.approx(1.0, abs=0.12)
    assert density_1d(values, OPEN)[1][0] < 0.01


@pytest.mark.parametrize("mass", [0.68, 0.90, 0.95])
@pytest.mark.parametrize("correlation", [0.0, 0.6, -0.97])
def test_contours_hold_their_share_of_normal_draws(mass, correlation):
    x, y = np.random.default_rng(3).normal(size=(2, 40_000))
    y = correlation * x + np.sqrt(1.0 - correlation**2) * y
    gx, gy, density = density_2d(x, y, (OPEN, OPEN))
    (level,) = contour_levels(density, (mass,))
    # The region of mass m of a normal pair has the area -2 pi log(1 - m) sqrt(1 - rho^2); smoothing widens it by 3 %.
    area = (density >= level).sum() * (gx[1] - gx[0]) * (gy[1] - gy[0])
    assert area == pytest.approx(-2.0 * np.pi * np.log(1.0 - mass) * np.sqrt(1.0 - correlation**2), rel=0.08)
    assert density.shape == (len(gy), len(gx))


def test_pairs_at_a_bound_do_not_leak_either():
    x, y = np.random.default_rng(4).normal(size=(2, 40_000))
    gx, _, density = density_2d(np.abs(x), y, ((0.0, np.inf), OPEN))
    near, far = density[:, 0].max(), density[:, np.searchsorted(gx, 0.4)].max()
    assert near > far


def test_poisson_errors_are_garwoods():
    # Central 68.27 % intervals, tabulated by the Particle Data Group: 0 +1.84, 1 +2.30 -0.83, 4 +3.16 -1.91.
    errors = _poisson_errors(np.array([0.0, 1.0, 4.0]))
    np.testing.assert_allclose(errors, [[0.0, 0.827, 1.914], [1.841, 2.300, 3.163]], atol=1e-3)


def test_panels_add_detectors_and_ratios_need_a_reference(groups):
    titles = [picture.title for picture in spectra(groups, {"far": ("AD31", "AD34"), "none": ("AD99",)}, {})]
    assert titles == ["Counts: far", "Counts, by detector"]
    captions = [picture.caption for picture in spectra(groups, {}, {"sin2_2theta13": 0.0})]
    assert captions and all("sin2_2theta13 = 0" in caption for caption in captions)


@pytest.mark.parametrize(
    ("label", "html", "tex"),
    [
        (r"\sin^2 2\theta_{13}", "sin<sup>2</sup> 2θ<sub>13</sub>", r"$\sin^2 2\theta_{13}$"),
        (r"\Delta m^2_{32}", "Δm<sup>2</sup><sub>32</sub>", r"$\Delta m^2_{32}$"),
        (r"P_\mathrm{th}", "P<sub>th</sub>", r"$P_\mathrm{th}$"),
        (r"\no{such", "a_name", "a name"),
        (r"a\_name", "a_name", "a name"),
        ("", "a_name", "a name"),
        ("<b>", "&lt;b&gt;", "$<b>$"),
    ],
)
def test_labels(label, html, tex):
    assert html_label("a_name", {"label": label}) == html
    assert tex_label("a_name", {"label": label}) == tex


def test_units_and_numbers():
    assert html_unit("eV^2") == "eV<sup>2</sup>" and html_unit("cm^-2 s^{-1}") == "cm<sup>−2</sup> s<sup>−1</sup>"
    assert axis_label("x", {"unit": "$"}) == r"x [\$]" and axis_label("x", {}) == "x"
    assert axis_label("x", {"unit": "eV^2"}, "k") == r"x [k $\mathrm{eV^2}$]"
    assert pretty("(2.5 ± 0.1)e-3") == "(2.5 ± 0.1) × 10<sup>−3</sup>" and pretty("inf") == "inf"
