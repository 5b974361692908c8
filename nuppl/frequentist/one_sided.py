"""The asymptotic distribution of q-tilde, and CLs.

With s = sqrt(q_A), q_A that of the Asimov data without signal, P(q > x) at the tested mu and without signal is

    x <= s^2:  1 - Phi(sqrt(x)),          1 - Phi(sqrt(x) - s)
    x >  s^2:  1 - Phi((x + s^2) / 2s),   1 - Phi((x - s^2) / 2s)

and CLs is their ratio (Cowan et al., arXiv:1007.1727, eqs. 65 and 66; Read, J. Phys. G 28 (2002) 2693). Without signal
sqrt(q) - s scatters like a unit Gaussian, which gives the bands.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nuppl.frequentist.asimov import Fixed, at_values
from nuppl.frequentist.cls import BANDS, Cls, crossing
from nuppl.frequentist.experiments import observed
from nuppl.frequentist.profile import Profile
from nuppl.language.precision import double_precision

__all__ = ["one_sided_cls", "one_sided_critical", "ratio"]


@double_precision()
def one_sided_critical(profile: Profile, levels: Sequence[float]) -> Tensor:
    """With shape (L, G): where the probability of a larger q is one minus the level."""
    s = _without_signal(profile).rise(profile.grid.points).sqrt()
    z = torch.special.ndtri(torch.tensor(levels, dtype=torch.float64))[:, None].clamp(min=0.0)
    return torch.where(z <= s, z.square().expand(-1, len(s)), 2.0 * z * s - s.square())


def ratio(q: Tensor, s: Tensor) -> Tensor:
    """CLs of q, for the root s of the Asimov value, both with shape (n,)."""
    away = _distance(q, s)
    log: Tensor = torch.special.log_ndtr(-away - s) - torch.special.log_ndtr(-away)
    return log.exp()


def expected(s: Tensor) -> Tensor:
    """CLs that is expected without signal, with shape (5, n), lowest first."""
    n = -torch.tensor(BANDS, dtype=torch.float64)[:, None]
    log: Tensor = torch.special.log_ndtr(-n - s) - torch.special.log_ndtr(-n)
    return log.exp()


@double_precision()
def one_sided_cls(profile: Profile, levels: Sequence[float]) -> Cls:
    """CLs on the grid, and upper limits by full fits between its points."""
    data, empty = Fixed.of(profile), _without_signal(profile)
    estimate = float(observed(profile).estimate[0, 0])

    def both(mu: Tensor) -> Tensor:
        """Observed and expected CLs with shape (6, n)."""
        s = empty.rise(mu[:, None]).sqrt()
        q = torch.where(mu < estimate, 0.0, data.rise(mu[:, None]))
        return torch.cat([ratio(q, s)[None], expected(s)])

    values = both(profile.grid.axes[0].values)
    limits = crossing(profile.grid.axes[0].values, values, levels, both)
    return Cls(values[0], values[1:], limits[:, 0], limits[:, 1:])


def _without_signal(profile: Profile) -> Fixed:
    return Fixed.expected(profile, at_values(profile, torch.zeros(1, 1), profile.likelihoods).point)


def _distance(q: Tensor, s: Tensor) -> Tensor:
    root = q.sqrt()
    return torch.where(root <= s, root - s, (q - s.square()) / (2.0 * s.clamp(min=1e-150)))
