"""Figures without global state, as SVG inside a data URI: the page needs nothing from outside."""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import matplotlib
from matplotlib.figure import Figure

__all__ = [
    "BAND",
    "BLUE",
    "CYCLE",
    "FORMATS",
    "GREY",
    "INK",
    "LIGHT",
    "ORANGE",
    "Picture",
    "figure",
    "picture",
    "style",
    "tidy",
]

INK, BLUE, ORANGE, GREY = "#1c2430", "#2a6fb0", "#c8501e", "#8a93a0"
LIGHT, BAND = "#cfe1f2", "#8ab8de"
CYCLE = (BLUE, ORANGE, "#2f8f5b", "#8e5bb5", "#b8860b", "#4aa3a3", "#a3485f", "#5b6675")
"""Colours of chains and of other things that are many, told apart in print too."""
FORMATS: dict[str, dict[str, str | None]] = {
    "svg": {"Date": None},
    "pdf": {"CreationDate": None},
    "png": {},
}
"""Formats of files, each with the metadata that keeps the time of drawing out of it."""
DPI = 200
"""Of PNG files, and of the pixels inside others."""
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
    """A figure ready for the page, or for a file of its own."""

    title: str
    caption: str
    drawn: Figure

    @property
    def width(self) -> int:
        """In CSS pixels."""
        return round(96 * self.drawn.get_figwidth())

    @property
    def name(self) -> str:
        """The title as the name of a file: `counts-near-far`.

        >>> picture(figure(1.0, 1.0), "Counts: near, far", "").name
        'counts-near-far'
        """
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")

    @cached_property
    def source(self) -> str:
        """The figure as SVG in a data URI."""
        return f"data:image/svg+xml;base64,{base64.b64encode(self.encoded('svg')).decode()}"

    def _repr_html_(self) -> str:
        return (
            f'<img src="{self.source}" width="{self.width}" alt="{html.escape(self.title)}" style="background: #fff">'
        )

    def encoded(self, form: str) -> bytes:
        """The figure in a format of `FORMATS`, without the time at which it was drawn."""
        buffer = io.BytesIO()
        with style():
            self.drawn.savefig(buffer, format=form, dpi=DPI, metadata=FORMATS[form])
        return buffer.getvalue()


def figure(width: float, height: float) -> Figure:
    """An empty figure, in inches, laid out so that nothing overlaps."""
    return Figure(figsize=(width, height), layout="constrained")


def picture(drawn: Figure, title: str, caption: str) -> Picture:
    """A figure with its title and caption."""
    return Picture(title, caption, drawn)


def tidy(axes: Any) -> None:
    """Drop the frame's upper and right line."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


@contextmanager
def style() -> Iterator[None]:
    """The look of all figures drawn inside the block; matplotlib's settings are restored after it."""
    with matplotlib.rc_context(STYLE):
        yield
