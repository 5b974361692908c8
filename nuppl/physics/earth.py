r"""The density of the Earth along the path of a neutrino, and oscillation through it.

Preliminary Reference Earth Model: densities in g/cm^3 as polynomials a + b x + c x^2 + d x^3 in x = r / 6371 km,
shell by shell (Dziewonski, Anderson, Phys. Earth Planet. Inter. 25, 297 (1981), table I). Electron fractions are
0.4656 in the core and 0.4957 elsewhere (Bahcall, Krastev, hep-ph/9610542).

A path that arrives at depth d with cosine of the zenith angle c from a production height h has the length
L = sqrt((R + h)^2 - r^2 (1 - c^2)) - r c, r = R - d. It is cut where it crosses the shells. Within a shell each step is
two slabs whose densities (1/2 +- 1/sqrt(3)) rho_1 + (1/2 -+ 1/sqrt(3)) rho_2 come from the Gauss points of the step:
the commutator-free Magnus integrator of fourth order (Blanes, Moan, Appl. Numer. Math. 56, 1519 (2006)).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from nuppl.errors import InputError
from nuppl.physics.arguments import Values, not_negative, positive, within
from nuppl.physics.matter import through_slabs
from nuppl.physics.mixing import Mixing

__all__ = ["PREM", "Earth", "Shell", "earth_probability", "path_length", "profile_probability", "profile_slabs"]


class Shell(NamedTuple):
    """A spherical shell: its outer radius in km, the polynomial of its density in g/cm^3, its electron fraction."""

    radius: float
    density: tuple[float, ...]
    electron_fraction: float


class Earth(NamedTuple):
    """Shells from the centre outwards; the radius of the last is that of the Earth, in which polynomials count."""

    shells: tuple[Shell, ...]

    @property
    def radius(self) -> float:
        """In km."""
        return self.shells[-1].radius

    def density(self, radius: Values) -> Tensor:
        """Density in g/cm^3 at a distance from the centre in km, with shape (*); 0 outside.

        >>> [round(PREM.density(r).item(), 3) for r in (0.0, 3000.0, 6000.0, 6371.0, 6372.0)]
        [13.088, 10.602, 3.526, 1.02, 0.0]
        """
        distance = not_negative("radius", radius)
        density = torch.zeros_like(distance)
        for shell in reversed(self.shells):
            density = torch.where(distance <= shell.radius, _polynomial(shell.density, distance / self.radius), density)
        return density


_CORE, _MANTLE = 0.4656, 0.4957

PREM = Earth(
    (
        Shell(1221.5, (13.0885, 0.0, -8.8381), _CORE),
        Shell(3480.0, (12.5815, -1.2638, -3.6426, -5.5281), _CORE),
        Shell(5701.0, (7.9565, -6.4761, 5.5283, -3.0807), _MANTLE),
        Shell(5771.0, (5.3197, -1.4836), _MANTLE),
        Shell(5971.0, (11.2494, -8.0298), _MANTLE),
        Shell(6151.0, (7.1089, -3.8045), _MANTLE),
        Shell(6346.6, (2.6910, 0.6924), _MANTLE),
        Shell(6356.0, (2.900,), _MANTLE),
        Shell(6368.0, (2.600,), _MANTLE),
        Shell(6371.0, (1.020,), _MANTLE),
    )
)
"""Preliminary Reference Earth Model, with its ocean."""


def _polynomial(coefficients: Sequence[float], x: Tensor) -> Tensor:
    value = torch.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        value = value * x + coefficient
    return value


def path_length(
    cos_zenith: Values, production_height: Values = 15.0, depth: Values = 0.0, earth: Earth = PREM
) -> Tensor:
    """Length of the path in km with shape (*), from production at a height to detection at a depth, both in km.

    Raises InputError (a ValueError) for cos_zenith outside [-1, 1] and negative heights and depths.

    >>> [round(path_length(c, 15.0).item(), 1) for c in (-1.0, 0.0, 1.0)]
    [12757.0, 437.4, 15.0]
    """
    inner, outer, cosine = _ends(cos_zenith, production_height, depth, earth)
    length: Tensor = (outer.square() - inner.square() * (1.0 - cosine.square())).sqrt() - inner * cosine
    return length


def _ends(cos_zenith: Values, height: Values, depth: Values, earth: Earth) -> tuple[Tensor, Tensor, Tensor]:
    inner = earth.radius - within("depth", depth, 0.0, earth.radius)
    return inner, earth.radius + not_negative("production_height", height), within("cos_zenith", cos_zenith, -1.0, 1.0)


def earth_slabs(
    cos_zenith: Values, production_height: Values, depth: Values, earth: Earth, steps: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Lengths and densities with shape (*, K) and electron fractions with shape (K,), from production to detection.

    Shells that a path does not reach have slabs of length zero; those that no path reaches are left out.
    """
    inner, outer, cosine = torch.broadcast_tensors(*_ends(cos_zenith, production_height, depth, earth))
    start = path_length(cosine, outer - earth.radius, earth.radius - inner, earth)
    nearest2 = inner.square() * (1.0 - cosine.square())  # squared distance of the whole straight line to the centre
    detection = torch.zeros_like(start)

    def crossing(radius: float, sign: float) -> Tensor:
        """Distance before detection at which the line crosses a sphere, within the path."""
        chord2 = radius**2 - nearest2
        half = torch.where(chord2 > 0.0, chord2, 1.0).sqrt()
        offset: Tensor = torch.where(chord2 > 0.0, sign * half, 0.0) - inner * cosine
        return offset

    radii = [shell.radius for shell in reversed(earth.shells)]
    marks = [crossing(radius, 1.0) for radius in radii] + [crossing(radius, -1.0) for radius in reversed(radii)]
    places = [start, *(torch.minimum(torch.maximum(mark, detection), start) for mark in marks), detection]
    inside: list[Shell | None] = [None, *reversed(earth.shells), *earth.shells[1:], None]
    lengths, densities, fractions = [], [], []
    for shell, far, near in zip(inside, places, places[1:], strict=False):
        if not bool((far > near).any()):
            continue
        count = 1 if shell is None or len(shell.density) == 1 else steps
        for step in range(count):
            size = (far - near) / count
            middle = far - (step + 0.5) * size
            pair = [_density(shell, middle + sign * size * _GAUSS, inner, cosine, earth.radius) for sign in (1.0, -1.0)]
            lengths += [0.5 * size] * 2
            densities += _magnus(*pair)
            fractions += [_MANTLE if shell is None else shell.electron_fraction] * 2
    if not lengths:
        return detection.unsqueeze(-1), detection.unsqueeze(-1), torch.tensor([_MANTLE], dtype=torch.float64)
    return (
        torch.stack(lengths, dim=-1),
        torch.stack(torch.broadcast_tensors(*densities), dim=-1),
        torch.tensor(fractions, dtype=torch.float64),
    )


_GAUSS = math.sqrt(3.0) / 6.0


def _density(shell: Shell | None, distance: Tensor, inner: Tensor, cosine: Tensor, radius: float) -> Tensor:
    if shell is None:
        return torch.zeros_like(distance)
    square = inner.square() + distance.square() + 2.0 * inner * distance * cosine
    return _polynomial(shell.density, square.clamp_min(1e-12).sqrt() / radius)


def _magnus(first: Tensor, second: Tensor) -> list[Tensor]:
    """Densities of the two halves of a step from those at its two Gauss points, in the order of the path."""
    mean, difference = 0.5 * (first + second), (first - second) / math.sqrt(3.0)
    return [mean + difference, mean - difference]


def earth_probability(
    mixing: Mixing,
    energy: Values,
    cos_zenith: Values,
    *,
    production_height: Values = 15.0,
    depth: Values = 0.0,
    earth: Earth = PREM,
    steps: int = 8,
    initial: str | None = None,
    final: str | None = None,
    antineutrino: bool = False,
    epsilon: Tensor | None = None,
) -> Tensor:
    """Probability P(initial -> final) of atmospheric neutrinos, through the air and the Earth.

    `energy` (above 0, in GeV), `cos_zenith` (1 is from above), `production_height` and `depth` (in km) broadcast with
    the parameters of `mixing` to the shape (*). `steps` divide each shell; the error falls with their fourth power: 8
    give 3e-6 from 1 GeV and 2e-4 at 0.3 GeV through the core, with 16 2e-7 and 1e-5. The rest is as in
    `matter_probability`. Raises InputError (a ValueError) naming the argument.

    >>> from nuppl.physics.oscillation import ThreeFlavor
    >>> mixing = ThreeFlavor(sin2_theta13=0.0222, dm2_31=2.5e-3)
    >>> round(earth_probability(mixing, 4.0, -0.8, initial="mu", final="e").item(), 3)
    0.027
    """
    if steps < 1:
        raise InputError(f"steps: expected at least 1, got {steps}")
    slabs = earth_slabs(cos_zenith, production_height, depth, earth, steps)
    return through_slabs(mixing, positive("energy", energy), *slabs, initial, final, antineutrino, epsilon)


def profile_slabs(density: Callable[[Tensor], Tensor], edges: Values) -> tuple[Tensor, Tensor]:
    """Lengths and densities with shape (*, 2 K) of slabs for a density profile, by the same fourth-order integrator.

    `density` gives g/cm^3 at distances in km from the start of the path, with shape (*, K); `edges` with shape (*, K
    + 1) are the ends of the steps, in km and ascending. Put one at each jump of the density.
    """
    ends = not_negative("edges", edges)
    if ends.ndim == 0 or ends.shape[-1] < 2 or bool((ends.diff(dim=-1) < 0.0).any()):
        raise InputError(f"edges: expected at least two ascending distances, got shape {tuple(ends.shape)}: sort them")
    size = ends.diff(dim=-1)
    middle = 0.5 * (ends[..., 1:] + ends[..., :-1])
    first, second = (not_negative("density", density(middle + sign * _GAUSS * size)) for sign in (-1.0, 1.0))
    halves = torch.stack(_magnus(first, second), dim=-1).flatten(-2)
    return (0.5 * size).repeat_interleave(2, dim=-1), halves


def profile_probability(
    mixing: Mixing,
    energy: Values,
    density: Callable[[Tensor], Tensor],
    edges: Values,
    *,
    electron_fraction: Values = 0.5,
    initial: str | None = None,
    final: str | None = None,
    antineutrino: bool = False,
    epsilon: Tensor | None = None,
) -> Tensor:
    """Probability P(initial -> final) through matter of any density profile (see `profile_slabs` for `density`,
    `edges`).

    The rest is as in `matter_probability`. The error falls with the fourth power of the steps: halve them to see it.

    >>> from nuppl.physics.oscillation import ThreeFlavor
    >>> mixing, edges = ThreeFlavor(sin2_theta13=0.0222, dm2_31=2.5e-3), torch.linspace(0.0, 1300.0, 5)
    >>> p = profile_probability(mixing, 2.0, lambda x: 2.5 + x / 2000.0, edges, initial="mu", final="e")
    >>> round(p.item(), 4)
    0.0753
    """
    lengths, densities = profile_slabs(density, edges)
    return through_slabs(
        mixing,
        positive("energy", energy),
        lengths,
        densities,
        electron_fraction,
        initial,
        final,
        antineutrino,
        epsilon,
    )
