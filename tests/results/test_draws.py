"""Statistics of draws and of weights, against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
import xarray as xr

from nuppl.errors import InputError
from nuppl.results.draws import Draws, effective_size, pareto_k
from nuppl.results.summary import summarize


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_effective_size_is_kishs():
    weights = torch.tensor([1.0, 2.0, 3.0, 0.0], dtype=torch.float64)
    assert effective_size(weights.log() + 700.0) == pytest.approx(36.0 / 14.0)
    assert effective_size(torch.tensor([0.0, math.nan, 0.0])) == pytest.approx(2.0)
    assert effective_size(torch.full((5,), -math.inf)) == 0.0


@pytest.mark.parametrize("shape", [0.2, 0.5, 1.0])
def test_pareto_k_recovers_the_tail_of_pareto_weights(shape):
    # w = U^(-k) has Pareto shape k; the fit uses 3 sqrt(n) = 671 values, its error is near (1 + k)/sqrt(671) = 0.08.
    uniform = torch.rand(50_000, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    assert pareto_k(-shape * uniform.log()) == pytest.approx(shape, abs=0.25)


def test_pareto_k_of_degenerate_weights():
    assert pareto_k(torch.zeros(1000)) == -math.inf
    assert pareto_k(torch.full((1000,), -math.inf)) == math.inf


def test_pareto_k_ignores_impossible_draws():
    weights = normal(4000, seed=4)
    padded = torch.cat([weights, torch.full((10,), -math.inf, dtype=torch.float64)])
    assert pareto_k(padded) == pytest.approx(pareto_k(weights), abs=0.05)


def test_summary_of_normal_draws():
    # 4000 draws: the mean is known to 0.016, the quantiles to 0.024; four of those allow one failure in 15,000.
    row = summarize(Draws({"x": 3.0 + 2.0 * normal(4, 1000, seed=5)}))[0]
    assert row.name == "x" and row.entry == ()
    assert row.mean == pytest.approx(3.0, abs=0.13) and row.sd == pytest.approx(2.0, abs=0.1)
    assert row.lower == pytest.approx(1.0, abs=0.2) and row.upper == pytest.approx(5.0, abs=0.2)
    assert row.r_hat < 1.01 and row.ess_bulk > 3000 and row.ess_tail > 2500


def test_vectors_come_entry_by_entry():
    draws = torch.arange(3.0) + 0.1 * normal(2, 200, 3, seed=6)
    rows = summarize(Draws({"x": draws}))
    assert [row.name for row in rows] == ["x[0]", "x[1]", "x[2]"]
    assert [round(row.mean) for row in rows] == [0, 1, 2]


def test_entries_are_named_by_their_coordinates():
    coords = {"detector": ["near", "far"], "energy": [9.1 + 2e-15, 9.5]}
    values = xr.DataArray(normal(2, 20, 2, 2), dims=("chain", "draw", "detector", "energy"), coords=coords)
    rows = summarize(xr.Dataset({"x": values.assign_attrs(unit="MeV")}))
    assert [row.name for row in rows] == ["x[near, 9.1]", "x[near, 9.5]", "x[far, 9.1]", "x[far, 9.5]"]
    assert rows[0].entry == ("near", 9.1) and rows[0].unit == "MeV"
    assert rows[2].mean == pytest.approx(float(values.sel(detector="far")[..., 0].mean()))


def test_repeated_draws_do_not_count_twice():
    few = normal(1, 50, seed=7)[:, torch.randint(50, (2000,), generator=torch.Generator().manual_seed(8))]
    assert summarize(Draws({"x": few}))[0].ess_bulk > 1000
    assert summarize(Draws({"x": few}, attrs={"effective_draws": 50.0}))[0].ess_bulk == 50.0


def test_chains_that_disagree_are_seen_and_so_is_a_drift_in_one():
    apart = normal(2, 500, seed=9) + torch.tensor([[0.0], [3.0]])
    drift = normal(1, 500, seed=10) + torch.linspace(0.0, 3.0, 500)
    assert summarize(Draws({"x": apart}))[0].r_hat > 1.3
    assert summarize(Draws({"x": drift}))[0].r_hat > 1.1


def test_a_number_that_never_moved_has_no_r_hat():
    row = summarize(Draws({"x": torch.full((2, 100), 0.3)}))[0]
    assert math.isnan(row.r_hat) and row.ess_bulk == 0.0
    each = summarize(Draws({"x": torch.tensor([[0.3], [0.7]]).expand(2, 100)}))[0]
    assert not each.r_hat < 100.0


def test_draws_of_unequal_shape_are_refused():
    with pytest.raises(InputError, match=r"draws of 'lp': expected leading axes \(chain, draw\) = \(2, 5\)"):
        Draws({"x": torch.zeros(2, 5)}, {"lp": torch.zeros(2, 4)})
    with pytest.raises(InputError, match="at least one free latent"):
        Draws({})
