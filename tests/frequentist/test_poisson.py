"""Feldman and Cousins' own tables (Phys. Rev. D 57 (1998) 3873, Tables IV and following), to 0.01."""

from __future__ import annotations

import pytest

from nuppl.errors import InputError
from nuppl.frequentist.poisson import poisson_interval

LOWER = (0, 0, 0, 0, 0, 0, 0.15, 0.89, 1.51, 1.88, 2.63, 3.04, 4.01, 4.42, 5.50)
UPPER = (1.08, 1.88, 3.04, 4.42, 5.60, 6.99, 8.47, 9.53, 10.99, 12.30, 13.50, 14.81, 16.00, 17.05, 18.50)
WITHOUT = ((0, 2.44), (0.11, 4.36), (0.53, 5.91), (1.10, 7.42), (1.47, 8.60), (1.84, 9.99))
NOTHING_SEEN = {0.0: 2.44, 0.5: 1.94, 1.0: 1.61, 1.5: 1.33, 2.0: 1.26, 2.5: 1.18, 3.0: 1.08}


@pytest.mark.parametrize("count", range(15))
def test_ninety_per_cent_over_a_background_of_three(count):
    assert poisson_interval(count, 3.0, 0.9, "monotone") == pytest.approx((LOWER[count], UPPER[count]), abs=0.01)


@pytest.mark.parametrize("count", range(6))
def test_ninety_per_cent_without_background(count):
    assert poisson_interval(count, 0.0, 0.9, "monotone") == pytest.approx(WITHOUT[count], abs=0.01)


@pytest.mark.parametrize("background", NOTHING_SEEN)
def test_nothing_seen(background):
    upper = poisson_interval(0, background, 0.9, "monotone")[1]
    assert upper == pytest.approx(NOTHING_SEEN[background], abs=0.01)


def test_the_plain_construction_is_shorter_where_it_is_not_monotone():
    assert poisson_interval(0, 3.0, 0.9)[1] == pytest.approx(0.953, abs=0.01)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [((-1, 3.0, 0.9), "0 or more"), ((1, 3.0, 1.0), "between 0 and 1"), ((1, 3.0, 0.9, "mine"), "convention")],
)
def test_bad_input(arguments, said):
    with pytest.raises(InputError, match=said):
        poisson_interval(*arguments)
