"""Rounding of measurements."""

from __future__ import annotations

import math

import pytest

from nuppl.results.numbers import format_interval, format_measurement, format_number


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0.08542, 0.00232, "0.0854 ± 0.0023"),
        (2.4708e-3, 5.9e-5, "(2.471 ± 0.059)e-3"),
        (7.531e-5, 1.8e-6, "(7.53 ± 0.18)e-5"),
        (5546118.0, 2355.0, "(5.5461 ± 0.0024)e6"),
        (1234.5, 56.7, "1234 ± 57"),
        (-0.5, 0.0996, "-0.50 ± 0.10"),
        (0.0, 1.0, "0.0 ± 1.0"),
        (1e-6, 3e-3, "(0.0 ± 3.0)e-3"),
        (1.0, 0.0, "1 ± 0"),
        (math.nan, 1.0, "nan ± 1"),
    ],
)
def test_measurements(value, error, text):
    assert format_measurement(value, error) == text


def test_intervals():
    assert format_interval(10.0, 9.0, 12.5) == "10.0 +2.5 −1.0"
    assert format_interval(0.1, 0.1, 0.3) == "0.10 +0.20 −0.00"
    assert format_interval(1.0, 1.0, 1.0) == "1 [1, 1]"
    assert format_interval(1.0, -math.inf, 2.0) == "1 [-inf, 2]"


def test_bare_numbers():
    assert [format_number(x) for x in (0.0, 12345.6, 0.5, math.inf)] == ["0", "12346", "0.5", "inf"]
