"""Figures one by one: what they show, and what they leave out."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from nuppl.report.canvas import FORMATS, figure, picture
from nuppl.report.figures_chains import BINS, _histogram, _least_uniform, chains
from nuppl.report.figures_corner import corner
from nuppl.report.figures_correlations import correlations
from nuppl.report.figures_prior import priors
from nuppl.report.figures_sensitivity import prior_shifts
from nuppl.report.sensitivity import sensitivity

INTEREST = ["sin2_2theta13", "dm2_32"]


def texts(drawn):
    return [text.get_text() for text in drawn.findobj(lambda artist: hasattr(artist, "get_text"))]


def test_traces_only_where_draws_have_an_order(groups):
    assert [p.title for p in chains(groups, INTEREST, {})] == ["Traces", "Ranks"]
    (ranks,) = chains(groups, INTEREST, {"islands": 2})
    assert ranks.title == "Ranks" and "2 islands, independent runs whose draws come in no order" in ranks.caption
    (ranks,) = chains(groups, INTEREST, {"effective_draws": 500.0})
    assert "picked by weight" in ranks.caption and chains(groups, [], {}) == []


def test_a_single_chain_has_no_ranks(groups):
    one = {**groups, "posterior": groups["posterior"].isel(chain=[0])}
    assert [p.title for p in chains(one, INTEREST, {})] == ["Traces"]


def test_ranks_of_one_distribution_are_uniform_and_those_of_a_stuck_chain_are_not():
    draws = np.random.default_rng(1).normal(size=(30, 2000))
    even = _histogram(draws)
    # Counts of mean 100 scatter by 10 %: the worst of 600 bins by less than 5 of those, in all but 1 of 2000 cases.
    assert even.shape == (30, BINS) and np.abs(even - 1.0).max() < 0.5
    draws[17] += 2.0
    stuck = _histogram(draws)
    assert stuck[17, -1] > 3.0 and 17 in _least_uniform([stuck]) and len(_least_uniform([stuck])) == 12


def test_correlations_find_the_nuisance_that_goes_with_the_answer(groups):
    posterior = groups["posterior"].copy()
    noise = np.random.default_rng(2).normal(size=(2, 400))
    depth = posterior["sin2_2theta13"]
    standard = (depth - depth.mean()) / depth.std()
    mixed = 0.9 * standard.values + np.sqrt(1.0 - 0.81) * noise
    posterior["background_7"] = (("chain", "draw"), mixed, {"kind": "pull"})
    (shown,) = correlations({**groups, "posterior": posterior}, INTEREST)
    labels = [label.get_text() for label in shown.drawn.axes[0].get_yticklabels()]
    assert len(labels) == 14 and labels[2] == "background 7"
    assert "0.90" in texts(shown.drawn) or "0.89" in texts(shown.drawn) or "0.91" in texts(shown.drawn)


def test_a_single_number_has_no_correlations(groups):
    alone = {**groups, "posterior": groups["posterior"][["sin2_2theta13"]]}
    assert correlations(alone, ["sin2_2theta13"]) == [] and correlations(groups, []) == []


def test_the_prior_is_drawn_beside_the_posterior(groups):
    drawn = corner(groups, INTEREST).drawn
    prior = drawn.axes[0].lines[-1]
    np.testing.assert_allclose(prior.get_ydata(), 5.0, rtol=1e-12)
    (whole,) = priors(groups, INTEREST)
    assert whole.drawn.axes[0].get_xlim()[0] < 0.0 and whole.drawn.axes[0].get_xlim()[1] > 0.2
    assert "bits" in whole.drawn.axes[0].get_title(loc="right")


def test_numbers_over_decades_have_logarithmic_axes(groups):
    values = np.exp(np.random.default_rng(3).uniform(np.log(1e-3), np.log(10.0), size=(2, 400)))
    attrs = {
        "distribution": "LogUniform",
        "prior": '{"low": 0.001, "high": 10.0}',
        "lower": 1e-3,
        "upper": 10.0,
        "unit": "eV^2",
        "label": r"\Delta m^2_{41}",
    }
    wide = {"posterior": xr.Dataset({"dm2_41": (("chain", "draw"), values, attrs)})}
    axes = corner(wide, ["dm2_41"]).drawn.axes[0]
    assert axes.get_xlabel().startswith(r"$\log_{10}$ $\Delta m^2_{41}$") and -3.1 < axes.get_xlim()[0] < -2.5
    # Flat in the logarithm: one over four decades.
    np.testing.assert_allclose(axes.lines[-1].get_ydata()[5:-5], 0.25, rtol=1e-9)


def test_shifts_are_drawn_for_what_could_be_reweighted(groups):
    (shown,) = prior_shifts(sensitivity(groups, INTEREST, ()))
    assert "flat in log x" in texts(shown.drawn) and prior_shifts([]) == []


@pytest.mark.parametrize(("form", "start"), [("svg", b"<?xml"), ("pdf", b"%PDF"), ("png", b"\x89PNG")])
def test_formats(form, start):
    def drawn():
        shown = picture(figure(2.0, 1.0), "Counts: near, far", "")
        shown.drawn.subplots().plot([1.0, 2.0])
        return shown

    assert form in FORMATS and drawn().encoded(form).startswith(start)
    assert drawn().encoded(form) == drawn().encoded(form) and drawn().name == "counts-near-far"
    assert "data:image/svg+xml" in drawn()._repr_html_()
