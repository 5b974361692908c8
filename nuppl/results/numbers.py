"""Numbers as physicists print them: the error has two significant digits, the value as many decimals."""

from __future__ import annotations

import math

__all__ = ["format_interval", "format_measurement", "format_number"]

DIGITS = 2
"""Significant digits of an error."""


def format_measurement(value: float, error: float) -> str:
    """Value and error, rounded to two digits of the error, with a common power of ten where it helps.

    >>> format_measurement(0.08542, 0.00232)
    '0.0854 ± 0.0023'
    >>> format_measurement(2.4708e-3, 5.9e-5)
    '(2.471 ± 0.059)e-3'
    """
    if not (math.isfinite(value) and math.isfinite(error)) or error <= 0.0:
        return f"{format_number(value)} ± {format_number(error)}"
    power, decimals = _scale(value, error)
    text = f"{value / 10**power:.{decimals}f} ± {error / 10**power:.{decimals}f}"
    return f"({text})e{power}" if power else text


def format_interval(value: float, lower: float, upper: float) -> str:
    """A value with its interval as asymmetric errors.

    >>> format_interval(2.47e-3, 2.41e-3, 2.54e-3)
    '(2.470 +0.070 −0.060)e-3'
    """
    up, down = upper - value, value - lower
    smallest = min(up, down) if min(up, down) > 1e-3 * max(up, down) else max(up, down)
    if not all(map(math.isfinite, (value, up, down))) or smallest <= 0.0:
        return f"{format_number(value)} [{format_number(lower)}, {format_number(upper)}]"
    power, decimals = _scale(value, smallest)
    shown, high, low = (f"{number / 10**power:.{decimals}f}" for number in (value, up, down))
    text = f"{shown} +{high} −{low}"
    return f"({text})e{power}" if power else text


def format_number(value: float, digits: int = 4) -> str:
    """A bare number with `digits` significant digits.

    >>> format_number(1234567.0), format_number(0.00123456)
    ('1234567', '0.001235')
    """
    if not math.isfinite(value):
        return str(value)
    if abs(value) >= 10.0**digits and abs(value) < 1e9:
        return f"{value:.0f}"
    return f"{value:.{digits}g}"


def _scale(value: float, error: float) -> tuple[int, int]:
    """The power of ten to take out, and the decimals that leave two digits of the error."""
    _, _, exponent = f"{error:.{DIGITS - 1}e}".partition("e")
    size = max(abs(value), error)
    power = math.floor(math.log10(size))
    power = 0 if -3 < power < 6 else power
    return power, max(0, DIGITS - 1 - int(exponent) + power)
