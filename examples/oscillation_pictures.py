"""The pictures of docs/oscillation.md: `python examples/oscillation_pictures.py`."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import torch

from nuppl.physics import oscillation

DOCS = Path(__file__).parents[1] / "docs"
NORMAL, INVERTED = (
    oscillation.ThreeFlavor(
        **{name: getattr(fit, name) for name in ("sin2_theta12", "sin2_theta13", "sin2_theta23", "delta_cp")},
        dm2_21=fit.dm2_21,
        dm2_31=fit.dm2_31,
    )
    for fit in oscillation.REFERENCES.values()
)


def curves() -> None:
    """Appearance and disappearance in a beam of 1300 km."""
    energy = torch.linspace(0.4, 8.0, 1500, dtype=torch.float64)
    figure, axes = plt.subplots(1, 2, figsize=(9.0, 3.4), layout="constrained")
    for axis, final in zip(axes, ("e", "mu"), strict=True):
        for mixing, ordering, color in ((NORMAL, "normal", "C0"), (INVERTED, "inverted", "C3")):
            for antineutrino, style in ((False, "-"), (True, "--")):
                values = oscillation.matter_probability(
                    mixing, energy, 1300.0, 2.85, initial="mu", final=final, antineutrino=antineutrino
                )
                label = f"{ordering}, {'antineutrinos' if antineutrino else 'neutrinos'}"
                axis.plot(energy, values, style, color=color, lw=1.2, label=label)
        axis.set(xlabel="energy in GeV", ylabel=rf"$P(\nu_\mu \to \nu_{{{'e' if final == 'e' else chr(92) + 'mu'}}})$")
        axis.set(xlim=(0.4, 8.0), ylim=(0.0, None))
    axes[0].legend(frameon=False, fontsize=8)
    figure.savefig(DOCS / "oscillation-curves.png", dpi=110)


def oscillogram() -> None:
    """Muon neutrinos from the atmosphere, in both orderings."""
    energy = torch.logspace(0.0, 1.7, 150, dtype=torch.float64)
    cosine = torch.linspace(-1.0, 0.0, 121, dtype=torch.float64)[:, None]
    figure, axes = plt.subplots(1, 3, figsize=(11.0, 3.4), layout="constrained", sharey=True)
    panels = ((NORMAL, "mu", "e", "normal"), (INVERTED, "mu", "e", "inverted"), (NORMAL, "mu", "mu", "normal"))
    for axis, (mixing, initial, final, ordering) in zip(axes, panels, strict=True):
        values = oscillation.earth_probability(mixing, energy, cosine, initial=initial, final=final, steps=4)
        mesh = axis.pcolormesh(energy, cosine[:, 0], values, cmap="viridis", rasterized=True, shading="nearest")
        name = {"e": "e", "mu": r"\mu"}
        axis.set(xscale="log", xlabel="energy in GeV")
        axis.set_title(rf"$P(\nu_{{{name[initial]}}} \to \nu_{{{name[final]}}})$, {ordering} ordering", fontsize=10)
        figure.colorbar(mesh, ax=axis)
    axes[0].set_ylabel("cosine of the zenith angle")
    figure.savefig(DOCS / "oscillation-oscillogram.png", dpi=110)


if __name__ == "__main__":
    torch.set_num_threads(1)
    curves()
    oscillogram()
