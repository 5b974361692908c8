r"""The Hamiltonian of a mixing in matter of any constant density, prepared for evaluation at many points.

    2 E H = U D U^+ + x V,   x = 2 E V_CC,   S = exp(-i t 2 E H),   t = L / (2 E hbar c)

`Hamiltonian.amplitudes` takes three and four flavors through the closed form of `amplitudes`, and the lanes that it
leaves out, as well as other numbers of flavors, through `spectral`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from nuppl.physics.amplitudes import amplitudes
from nuppl.physics.characteristic import coefficients
from nuppl.physics.chunks import longest, pieces
from nuppl.physics.mixing import Mixing, Value
from nuppl.physics.potentials import MATTER_POTENTIAL, relative_potential
from nuppl.physics.spectral import evolution
from nuppl.physics.waves import Degrees
from nuppl.units import OSCILLATION_PHASE

__all__ = ["Hamiltonian", "potential_scale", "time_scale"]

_SPECTRAL_POINTS = 16_384


class Hamiltonian(NamedTuple):
    """D, U and V with shapes (*, N), (*, N, N), (*, N, N), and the polynomials of `characteristic` made of them.

    `chi` has the shape (N, N+1, *), real; `adjugate` (2, N final, N initial, N, N, *), real and imaginary part. Both
    are None unless N is 3 or 4. `support` are the flavors with a potential, or None where V is not diagonal.
    """

    squared_masses: Tensor
    pmns: Tensor
    potential: Tensor
    chi: Tensor | None
    adjugate: Tensor | None
    support: frozenset[int] | None

    @classmethod
    def of(
        cls, mixing: Mixing, antineutrino: bool, electron_fraction: Value = 0.5, epsilon: Tensor | None = None
    ) -> Hamiltonian:
        """For antineutrinos U and V are conjugate; the sign of V lies in x (see `potential_scale`)."""
        pmns, masses = mixing.pmns, mixing.squared_masses
        potential = relative_potential(mixing.flavors, electron_fraction, epsilon)
        if antineutrino:
            pmns, potential = pmns.conj().resolve_conj(), potential.conj().resolve_conj()
        count = masses.shape[-1]
        support = frozenset({0, *range(3, count)}) if epsilon is None else None
        if count not in (3, 4):
            return cls(masses, pmns, potential, None, None, support)
        chi, adjugate = coefficients(pmns, masses, potential)
        chi = chi.movedim((-2, -1), (0, 1))
        parts = torch.view_as_real(adjugate.resolve_conj()).movedim((-1, -5, -4, -3, -2), (0, 1, 2, 3, 4))
        return cls(masses, pmns, potential, chi, parts, support)

    @property
    def size(self) -> int:
        """N."""
        return self.pmns.shape[-1]

    def amplitudes(self, channels: Sequence[tuple[int, int]], x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Real and imaginary part of S, up to a phase that all channels share, for pairs (initial, final).

        The results have the shape (C, *); x and t broadcast with the parameters to (*).
        """
        if self.chi is None or self.adjugate is None:
            return self._general(channels, x, t)
        tables = torch.stack([self.adjugate[:, b, a] for a, b in channels], dim=1)
        real, imaginary, left_out = amplitudes(x, t, self.chi, tables, self._degrees(channels))
        if not bool(left_out.any()):
            return real, imaginary
        lanes = (x.expand(left_out.shape)[left_out], t.expand(left_out.shape)[left_out])
        rest = self._rest(left_out)._matrix(*lanes)
        chosen = torch.stack([rest[:, b, a] for a, b in channels])
        where = left_out.expand(real.shape)
        return real.masked_scatter(where, chosen.real), imaginary.masked_scatter(where, chosen.imag)

    def _degrees(self, channels: Sequence[tuple[int, int]]) -> Degrees:
        survival = tuple(a == b for a, b in channels)
        if self.support is None:
            return Degrees(self.size, (self.size - 1,) * len(channels), survival)
        # row a and column b are not in the minors of adj_ba, and with them go their potentials
        powers = tuple(len(self.support - {a, b}) for a, b in channels)
        return Degrees(len(self.support), powers, survival)

    def _rest(self, lanes: Tensor) -> Hamiltonian:
        shape = lanes.shape
        n = self.size
        return self._replace(
            squared_masses=self.squared_masses.expand(*shape, n)[lanes],
            pmns=self.pmns.expand(*shape, n, n)[lanes],
            potential=self.potential.expand(*shape, n, n)[lanes],
        )

    def _matrix(self, x: Tensor, t: Tensor) -> Tensor:
        """S with shape (*, N, N) by `spectral`."""
        vacuum = (self.pmns * self.squared_masses.unsqueeze(-2)) @ self.pmns.mH
        return evolution(vacuum + x[..., None, None] * self.potential, t)

    def _general(self, channels: Sequence[tuple[int, int]], x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        tensors = [self.squared_masses.movedim(-1, 0)]
        tensors += [matrix.movedim((-2, -1), (0, 1)) for matrix in (self.pmns, self.potential)]
        inputs = [*tensors, x, t]
        shape = torch.broadcast_shapes(*(tensor.shape[n:] for tensor, n in zip(inputs, _LEADING, strict=True)))
        parts = []
        for masses, pmns, potential, x_part, t_part in pieces(inputs, _LEADING, _SPECTRAL_POINTS):
            part = self._replace(
                squared_masses=masses.movedim(0, -1),
                pmns=pmns.movedim((0, 1), (-2, -1)),
                potential=potential.movedim((0, 1), (-2, -1)),
            )._matrix(x_part, t_part)
            parts.append(torch.stack([part[..., b, a] for a, b in channels]))
        axis = longest(shape)
        whole = parts[0] if axis is None or len(parts) == 1 else torch.cat(parts, dim=axis)
        whole = whole.expand(len(channels), *shape)
        return whole.real, whole.imag


_LEADING = (1, 2, 2, 0, 0)


def potential_scale(energy: Tensor, density: Tensor, electron_fraction: Value, antineutrino: bool) -> Tensor:
    """x = 2 E V_CC in eV^2, negative for antineutrinos; energy in GeV, density in g/cm^3."""
    sign = -1.0 if antineutrino else 1.0
    return energy * (density * electron_fraction * (sign * 2e9 * MATTER_POTENTIAL))


def time_scale(energy: Tensor, length: Tensor) -> Tensor:
    """t = L / (2 E hbar c) in eV^-2; energy in GeV, length in km."""
    return length * (2.0 * OSCILLATION_PHASE) / energy
