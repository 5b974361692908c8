"""The tables of benchmarks/posterior.md."""

from __future__ import annotations

from typing import NamedTuple

from posterior_effective import Score, Series

__all__ = ["HEADER", "Row", "best", "ratio"]

HEADER = (
    "| sampler | on | settings | s per run | ESS: minimum | harmonic mean | of interest | minimum per s "
    "| harmonic per s | distance, sigma: greatest (rms) |\n|---|---|---|---:|---:|---:|---:|---:|---:|---:|"
)


class Row(NamedTuple):
    """One sampler."""

    sampler: str
    ours: bool
    kind: str
    settings: str
    series: Series
    score: Score

    @property
    def rate(self) -> float:
        """Effective draws per second, minimum over parameters."""
        return self.score.least / self.series.seconds

    @property
    def harmonic(self) -> float:
        """Effective draws per second, harmonic mean over parameters."""
        return self.score.harmonic / self.series.seconds

    def __str__(self) -> str:
        s = self.score
        return (
            f"| {self.sampler} | {self.kind} | {self.settings} | {self.series.seconds:,.1f} | {s.least:,.0f} "
            f"| {s.harmonic:,.0f} | {s.interest:,.0f} | {self.rate:,.3g} | {self.harmonic:,.3g} "
            f"| {s.offset:.3f} ({s.typical:.3f}) |"
        )


def best(rows: list[Row], ours: bool, kinds: tuple[str, ...]) -> Row | None:
    """The fastest by the minimum over parameters."""
    return max((row for row in rows if row.ours is ours and row.kind in kinds), key=lambda row: row.rate, default=None)


def ratio(name: str, row: Row | None, peer: Row | None) -> list[str]:
    """How many times faster a row is than a peer's."""
    if row is None or peer is None:
        return []
    return [
        f"{name}: {row.sampler} ({row.settings}) over {peer.sampler} ({peer.settings}): **{row.rate / peer.rate:.1f}** "
        f"by the minimum over parameters, {row.harmonic / peer.harmonic:.1f} by the harmonic mean."
    ]
