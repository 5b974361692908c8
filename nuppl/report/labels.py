"""Labels and units: LaTeX as model files write it, for figures (mathtext) and for pages (HTML)."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from typing import Any

import xarray as xr
from matplotlib.mathtext import MathTextParser

__all__ = ["axis_label", "axis_name", "coordinates", "html_label", "html_unit", "literal", "plain", "tex_label"]

_NAMES = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau phi chi psi omega "
    "Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega"
)
_GREEK = dict(zip(_NAMES.split(), "αβγδεζηθικλμνξπρστφχψωΓΔΘΛΞΠΣΦΨΩ", strict=True))
_UPRIGHT = ("sin", "cos", "tan", "log", "ln", "exp")
_SPACES = {r"\,": " ", r"\;": " ", r"\ ": " ", r"\_": "_", r"\%": "%", "~": " "}


def plain(name: str) -> str:
    """A site or plate name as words."""
    return name.replace("_", " ")


def axis_name(coordinate: xr.DataArray) -> str:
    """The label of an axis along a coordinate: `prompt energy [MeV]`."""
    unit = coordinate.attrs.get("unit", "")
    return plain(str(coordinate.name)) + (f" [{unit}]" if unit else "")


def coordinates(draws: xr.DataArray, place: tuple[int, ...]) -> tuple[str, ...]:
    """The coordinates of one entry of draws (chain, draw, ...); its numbers where it has none."""
    return tuple(_coordinate(draws, dim, i) for dim, i in zip(draws.dims[2:], place, strict=True))


def _coordinate(draws: xr.DataArray, dim: Any, i: int) -> str:
    if dim not in draws.coords:
        return str(i)
    value = draws.coords[dim].values[i]
    return f"{value:g}" if isinstance(value, float) else str(value)


def tex_label(name: str, attrs: Mapping[str, Any]) -> str:
    """The label of a site for mathtext; its name in words where the model file gave none."""
    label = str(attrs.get("label", ""))
    if not label or label == name.replace("_", r"\_"):
        return plain(name)
    return f"${label}$" if _is_mathtext(label) else plain(name)


def _is_mathtext(label: str) -> bool:
    """A label that matplotlib cannot read must not cost anyone a report."""
    try:
        MathTextParser("path").parse(f"${label}$")
    except (ValueError, RuntimeError):
        return False
    return True


def literal(text: Any) -> str:
    """Text in a figure in which a dollar sign is a dollar sign."""
    return str(text).replace("$", r"\$")


def axis_label(name: str, attrs: Mapping[str, Any], scale: str = "") -> str:
    """Label, power of ten and unit for an axis."""
    unit = str(attrs.get("unit", ""))
    upright = rf"\mathrm{{{unit}}}".replace(" ", r"\ ")
    tex_unit = f"${upright}$" if "^" in unit and _is_mathtext(upright) else literal(unit)
    inside = " ".join(part for part in (scale, tex_unit) if part)
    return tex_label(name, attrs) + (f" [{inside}]" if inside else "")


def html_unit(unit: str) -> str:
    """`eV^2` with a raised 2."""
    return re.sub(r"\^\{?(-?\w+)\}?", r"<sup>\1</sup>", html.escape(unit)).replace("-", "−")


def html_label(name: str, attrs: Mapping[str, Any]) -> str:
    """The label of a site for a page; its name where the LaTeX is beyond this small translation.

    >>> html_label("sin2_2theta13", {"label": r"\\sin^2 2\\theta_{13}"})
    'sin<sup>2</sup> 2θ<sub>13</sub>'
    """
    label = str(attrs.get("label", ""))
    if not label or label == name.replace("_", r"\_"):
        return html.escape(name)
    text = html.escape(label)
    for source, target in _SPACES.items():
        text = text.replace(source, target)
    text = re.sub(r"\\(?:mathrm|text|mathit|rm|mathbf)(?=\{)", "", text)
    text = re.sub(r"\\([A-Za-z]+)\s?", _symbol, text)
    text = re.sub(r"\^\{([^{}]*)\}|\^([^\W_])", lambda m: f"<sup>{m[1] or m[2]}</sup>", text)
    text = re.sub(r"_\{([^{}]*)\}|_(\w)", lambda m: f"<sub>{m[1] or m[2]}</sub>", text)
    text = re.sub(r"\{([^{}]*)\}", r"\1", text)
    return html.escape(name) if re.search(r"[\\{}^]", text) else text.strip()


def _symbol(match: re.Match[str]) -> str:
    word = match[1]
    if word in _GREEK:
        return _GREEK[word]
    return word if word in _UPRIGHT else match[0]
