"""How the draws came about: traces of chains, and the ranks of each chain's draws among all.

If all chains sample the same distribution, the ranks of each are uniform (Vehtari et al., arXiv:1903.08008, section
4.1). Draws of islands, and draws picked by weight, come in no order: a trace of them would show nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from scipy.stats import rankdata

from nuppl.report.canvas import BLUE, CYCLE, GREY, INK, Picture, figure, picture, tidy
from nuppl.report.interest import Number, numbers

__all__ = ["chains"]

Array = NDArray[np.float64]
LONGEST = 2000
"""Draws of one chain in a trace."""
CHAINS = 12
"""Chains drawn one by one; of more, those whose ranks are the least uniform."""
BINS = 20
FEWEST = 100
"""Draws of one chain below which its ranks cannot be binned."""


def chains(groups: Mapping[str, xr.Dataset], interest: Sequence[str], attrs: Mapping[str, Any]) -> list[Picture]:
    """Traces where draws have an order, and rank plots where there is more than one chain.

    Arguments:
        attrs: of the run: "islands" and "effective_draws" tell draws without an order.
    """
    found = numbers(groups, interest)
    if not found:
        return []
    ordered = not _unordered(attrs)
    pictures = [_traces(found)] if ordered else []
    count, length = found[0].draws.shape
    return [*pictures, _ranks(found, attrs)] if count > 1 and length >= FEWEST else pictures


def _unordered(attrs: Mapping[str, Any]) -> str:
    """Why the draws come in no order, in words; empty where they do."""
    if int(attrs.get("islands", 0)) > 0:
        return f"{int(attrs['islands'])} islands, independent runs whose draws come in no order"
    if "effective_draws" in attrs:
        return "batches of draws picked by weight from one set of proposals; they come in no order"
    return ""


def _traces(found: list[Number]) -> Picture:
    drawn = figure(10.5, 0.6 + 1.7 * len(found))
    for axes, number in zip(drawn.subplots(len(found), 1, sharex=True, squeeze=False)[:, 0], found, strict=True):
        values = number.shown(number.draws)
        step = -(-values.shape[1] // LONGEST)
        for i, chain in enumerate(values[:, ::step]):
            along = np.arange(len(chain)) * step
            # Thousands of points as pixels: as curves they would make the page slow.
            axes.plot(along, chain, color=CYCLE[i % len(CYCLE)], lw=0.6, alpha=0.8, rasterized=True)
        axes.set_xlim(0, values.shape[1] - 1)
        axes.set_ylabel(number.axis)
        axes.yaxis.set_major_locator(MaxNLocator(4))
        tidy(axes)
    drawn.axes[-1].set_xlabel("draw")
    count = len(found[0].draws)
    caption = f"{count} chains, one colour each" if count > 1 else "One chain"
    return picture(
        drawn, "Traces", f"{caption}. A healthy chain looks like noise around a level that all chains share."
    )


def _ranks(found: list[Number], attrs: Mapping[str, Any]) -> Picture:
    counts = [_histogram(number.draws) for number in found]
    shown = _least_uniform(counts)
    columns = min(len(found), 4)
    blocks = -(-len(found) // columns)
    drawn = figure(min(10.5, 1.0 + 3.2 * columns), blocks * (0.9 + 0.42 * len(shown)))
    outer = drawn.subfigures(blocks, columns, squeeze=False).ravel()
    for part in outer[len(found) :]:
        part.set_visible(False)
    for part, number, histogram in zip(outer, found, counts, strict=False):
        _block(part, number, histogram, shown)
    why = _unordered(attrs)
    kind = "island" if "islands" in why else "batch" if why else "chain"
    caption = f"The ranks of each {kind}'s draws among all draws, in {BINS} bins: uniform where all sample the same"
    caption += f". Shown: {len(shown)} of {len(counts[0])}, the least uniform" if len(shown) < len(counts[0]) else ""
    return picture(drawn, "Ranks", f"{caption}." + (f" These are {why}, so there is no trace to show." if why else ""))


def _histogram(draws: Array) -> Array:
    """The number of ranks in each bin over the number expected, with shape (chain, BINS)."""
    ranks = rankdata(draws.ravel(), method="average").reshape(draws.shape)
    edges = np.linspace(0.5, draws.size + 0.5, BINS + 1)
    counts = np.stack([np.histogram(chain, edges)[0] for chain in ranks])
    return np.asarray(counts * (BINS / draws.shape[1]))


def _least_uniform(counts: list[Array]) -> list[int]:
    distance = np.max([np.square(c - 1.0).sum(1) for c in counts], axis=0)
    return sorted(np.argsort(-distance, kind="stable")[:CHAINS].tolist())


def _block(part: Any, number: Number, histogram: Array, shown: list[int]) -> None:
    top = max(1.8, 1.05 * float(histogram[shown].max()))
    edges = np.linspace(0.0, 1.0, BINS + 1)
    for axes, i in zip(part.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0], shown, strict=True):
        axes.stairs(histogram[i], edges, color=BLUE, fill=True, alpha=0.55)
        axes.axhline(1.0, color=INK, lw=0.8, ls="--")
        axes.set_xlim(0.0, 1.0)
        axes.set_ylim(0.0, top)
        axes.set_yticks([])
        axes.set_ylabel(str(i + 1), rotation=0, ha="right", va="center", fontsize=9, color=GREY)
        axes.tick_params(axis="x", length=2)
        tidy(axes)
    axes.set_xlabel("rank / number of draws", fontsize=9)
    part.suptitle(number.tex, fontsize=10)
