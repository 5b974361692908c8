r"""The response of a detector of Daya Bay as a polynomial in nine variables.

    T(xi) = T_0 + sum_g phi_g(xi) T_g + sum_{g <= h} xi_g xi_h T_gh + T_s

xi: energy scale and energy loss in the vessel (one each per detector), the four shapes of the non-linearity, the
relative change of a^2 and c^2, and the pull of b, which dominates the resolution sigma^2 = a^2 E^2 + b^2 E + c^2. Pulls
of 30 % on b are far from linear: it has powers up to the fourth. Derivatives are differences over one standard deviation.
T_s is what a shift of the energy does beyond second order, as events cross the steps of the fine bins: what a common
scale carries over each edge of the analysis bins, tabulated in the local shift s from scale and non-linearity together.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from nuppl.experiments.dayabay_exact import detector_scales, response_matrix
from nuppl.experiments.dayabay_release import Release

__all__ = ["FIRST", "PAIRS", "SHIFTS", "features", "matrices", "pair_features", "shift", "shift_matrices", "variables"]

_STATISTICS = 8  # the index of b among the variables
_POWERS = 4
_RANGE = 2.5  # pulls of b over which its powers are fitted
_STEPS = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.6, 0.6, 1.0)  # one standard deviation of each variable

FIRST = len(_STEPS) + _POWERS - 1
"""Number of features phi."""

SHIFTS = torch.linspace(-10.0, 10.0, 41, dtype=torch.float64)
"""Grid of the local shift s, in standard deviations of the energy scale (0.2 %)."""

PAIRS = tuple((g, h) for g in range(9) for h in range(g, 9) if (g, h) != (_STATISTICS, _STATISTICS))
"""Second-order terms."""


def variables(release: Release, values: Mapping[str, Tensor]) -> Tensor:
    """xi with shape (*, 9, D)."""
    scale = (detector_scales(release, values)[1] - 1.0) / _scale_error(release)
    own = torch.stack(torch.broadcast_tensors(scale, values["energy_loss"]), dim=-2)
    a, b, c = values["resolution"].unbind(-1)
    errors = release.resolution[:, 1]
    variances = (1.0 + errors[0] * a).square() - 1.0, (1.0 + errors[2] * c).square() - 1.0
    terms = torch.stack(torch.broadcast_tensors(*values["nonlinearity"].unbind(-1), *variances, b), dim=-1)
    common = terms[..., None].expand(*terms.shape, own.shape[-1])
    shape = torch.broadcast_shapes(own.shape[:-2], common.shape[:-2])
    return torch.cat([own.expand(*shape, *own.shape[-2:]), common.expand(*shape, *common.shape[-2:])], dim=-2)


def features(xi: Tensor) -> Tensor:
    """phi = (xi, b^2, b^3, b^4) with shape (*, FIRST, D)."""
    b = xi[..., _STATISTICS :, :]
    return torch.cat([xi, *(b**power for power in range(2, _POWERS + 1))], dim=-2)


def pair_features(xi: Tensor) -> Tensor:
    """xi_g xi_h with shape (*, len(PAIRS), D)."""
    first, second = zip(*PAIRS, strict=True)
    return xi[..., first, :] * xi[..., second, :]


def matrices(release: Release) -> tuple[Tensor, Tensor]:
    """T_0 and T_g with shape (1 + FIRST, 26, 240), and T_gh with shape (len(PAIRS), 26, 240)."""
    step = torch.tensor(_STEPS, dtype=torch.float64)
    unit = torch.diag(step)
    nominal, upper, lower = (_at(release, point) for point in (torch.zeros(1, 9).double(), unit, -unit))
    slopes = (upper - lower) / (2.0 * step[:, None, None])
    powers = _powers(release, nominal)
    first = torch.cat([nominal, slopes[:_STATISTICS], powers])
    second = []
    for g, h in PAIRS:
        if g == h:
            second.append((upper[g] + lower[g] - 2.0 * nominal[0]) / (2.0 * step[g] ** 2))
        else:
            corners = _at(release, torch.stack([s * unit[g] + t * unit[h] for s in (1.0, -1.0) for t in (1.0, -1.0)]))
            second.append((corners[0] - corners[1] - corners[2] + corners[3]) / (4.0 * step[g] * step[h]))
    return first, torch.stack(second)


def shift(release: Release, xi: Tensor) -> Tensor:
    """s at each edge of the bins with shape (*, D, E + 1): relative shift of the energy over the error of the scale."""
    left = torch.searchsorted(release.visible_energy[0].contiguous(), release.edges).clamp_max(
        len(release.scintillator_energy) - 1
    )
    relative = release.visible_energy[1:, left] / release.visible_energy[0, left] / _scale_error(release)
    return xi[..., 0, :, None] + xi[..., 2:6, :].mT @ relative


def shift_matrices(release: Release, first: Tensor, second: Tensor) -> Tensor:
    """What a common scale brings above each lower edge beyond second order, on SHIFTS: shape (len(SHIFTS), 26, 240)."""
    points = torch.zeros(len(SHIFTS), 9, dtype=torch.float64)
    points[:, 0] = scale = SHIFTS
    known = first[0] + scale[:, None, None] * first[1] + scale[:, None, None] ** 2 * second[0]
    return (_at(release, points) - known).flip(1).cumsum(1).flip(1)


def _powers(release: Release, nominal: Tensor) -> Tensor:
    """Coefficients of b, b^2, ...: least squares at Chebyshev nodes, exact at zero."""
    angle = torch.pi * (torch.arange(9, dtype=torch.float64) + 0.5) / 9
    pull = _RANGE * angle.cos()
    points = torch.zeros(len(pull), 9, dtype=torch.float64)
    points[:, _STATISTICS] = pull
    design = torch.stack([pull**power for power in range(1, _POWERS + 1)], dim=-1)
    change = (_at(release, points) - nominal).flatten(1)
    return torch.linalg.lstsq(design, change).solution.unflatten(-1, nominal.shape[1:])


def _at(release: Release, xi: Tensor) -> Tensor:
    """The response at variables with shape (n, 9)."""
    errors = release.resolution[:, 1]
    a, c = ((1.0 + xi[:, k]).sqrt() - 1.0 for k in (6, 7))
    resolution = torch.stack([a / errors[0], xi[:, _STATISTICS], c / errors[2]], dim=-1)
    scale = 1.0 + _scale_error(release) * xi[:, 0]
    return response_matrix(release, scale, xi[:, 1], xi[:, 2:6], resolution)


def _scale_error(release: Release) -> Tensor:
    return release.correlations["detector_relative"][1].norm()
