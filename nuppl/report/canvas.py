"""Figures without global state, as SVG inside a data URI: the page needs nothing from outside."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.figure import Figure

__all__ = ["BAND", "BLUE", "GREY", "INK", "LIGHT", "ORANGE", "Picture", "figure", "picture", "style", "tidy"]

INK, BLUE, ORANGE, GREY = "#1c2430", "#2a6fb0", "#c8501e", "#8a93a0"
LIGHT, BAND = "#cfe1f2", "#8ab8de"
STYLE: Any = {
    "svg.fonttype": "path",
    "svg.hashsalt": "nuppl",
    "font.size": 10.0,
    "mathtext.fontset": "dejavusans",
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "xtick.direction": "in",
    "ytick.direction": "in",
    "axes.formatter.useoffset": False,
}


@dataclass(frozen=True)
class Picture:
    """A figure ready for the page."""

    title: str
    caption: str
    source: str
    """A data URI."""
    width: int
    """In CSS pixels."""


def figure(width: float, height: float) -> Figure:
    """An empty figure, in inches, laid out so that nothing overlaps."""
    return Figure(figsize=(width, height), layout="constrained")


def picture(drawn: Figure, title: str, caption: str) -> Picture:
    """Draw a figure as SVG."""
    buffer = io.StringIO()
    drawn.savefig(buffer, format="svg", metadata={"Date": None})
    encoded = base64.b64encode(buffer.getvalue().encode()).decode()
    return Picture(title, caption, f"data:image/svg+xml;base64,{encoded}", round(96 * drawn.get_figwidth()))


def tidy(axes: Any) -> None:
    """Drop the frame's upper and right line."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


@contextmanager
def style() -> Iterator[None]:
    """The look of all figures drawn inside the block; matplotlib's settings are restored after it."""
    with matplotlib.rc_context(STYLE):
        yield
