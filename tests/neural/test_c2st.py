"""The classifier two-sample test agrees with scikit-learn's protocol, and knows equal draws from different ones."""

import importlib
from pathlib import Path

import pytest
import torch

from nuppl.errors import InputError
from nuppl.neural.c2st import c2st

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.parametrize("number", [0, 6])
def test_figures_are_those_of_scikit_learn(number, monkeypatch):
    """Two of the twenty cases, the cheapest; `benchmarks/c2st.py` runs all."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    cases = importlib.import_module("c2st")
    reference, draws = map(torch.from_numpy, cases.pair(number))
    assert float(c2st(reference, draws)) == pytest.approx(cases.SKLEARN[number], abs=0.005)


def test_many_pairs_at_once_are_each_as_alone():
    draws = torch.randn(3, 400, 2, generator=torch.Generator().manual_seed(1))
    draws[2, :, 0] += 2.0
    together = c2st(draws[:1].expand(2, -1, -1), draws[1:])
    alone = torch.stack([c2st(draws[0], draws[1]), c2st(draws[0], draws[2])])
    assert torch.allclose(together, alone, atol=0.02)
    assert float(together[0]) < 0.56 and 0.75 < float(together[1]) < 0.95


def test_units_do_not_matter():
    a, b = torch.randn(2, 400, 2, generator=torch.Generator().manual_seed(2))
    b = b + torch.tensor([1.0, 0.0])
    units = torch.tensor([1e-3, 1e5])
    assert float(c2st(a * units, b * units)) == pytest.approx(float(c2st(a, b)), abs=0.02)


@pytest.mark.parametrize(
    ("reference", "draws", "message"),
    [
        (torch.zeros(10, 2), torch.zeros(10, 3), "same shape"),
        (torch.zeros(3, 2), torch.zeros(3, 2), "at least 5"),
        (torch.zeros(10, 2), torch.full((10, 2), torch.nan), "finite"),
    ],
)
def test_bad_draws_are_refused(reference, draws, message):
    with pytest.raises(InputError, match=message):
        c2st(reference, draws)
