"""Laplace's method for tight nuisances at every value of all others: pulls integrated in closed form.

    q(u) = q(u_A) N(u_B; m(u_A), C(u_A)),   C^-1 = P + J^T W J,   m = u_B - C df/du_B

B is the one vector site of nuisances, of at most 48 entries, that the data know best, such as the knots of a free
spectrum: given the others (A) the
data are nearly linear in it, with a Jacobian J that depends on A and is taken at each proposal by finite differences,
all proposals and all of B in one batch. A single Gaussian has one covariance for all of A; a response that A moves by a
few per cent then ruins the weights. q(u_A) is the Gaussian of `center`, with the tails of Student's t in the interest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nuppl.inference.center import center
from nuppl.inference.guides import GaussianGuide, Guide, TailedGuide, lower_factor, standard_normals
from nuppl.inference.laplace import laplace_guide
from nuppl.inference.settings import Settings
from nuppl.language.density import CHUNK, Whitened
from nuppl.optimize.objective import Objective, whitened_objective
from nuppl.typing import Progress, silent

__all__ = ["ConditionalGuide", "conditional_guide", "tailed"]

_TIGHT = 20.0
"""How much more the data must know of a coordinate than its prior, as a ratio of information, for it to be in B."""

_LARGEST = 48
"""Most coordinates in B: each costs one evaluation per proposal."""

_TAILED = 8
"""Tails in more coordinates than this would cost more efficiency than they guard."""

_STREAM = 1 << 24
_STEP = 1e-3
_DESCENTS = 2


@dataclass(frozen=True)
class ConditionalGuide:
    """A guide for A, and a Gaussian for B whose mean and covariance follow A.

    Attributes:
        objective: minus the log posterior.
        outer: guide for A, in the order of `rest`.
        block, rest: the columns of B and of A.
        loc: the centre with shape (D,).
        regression: of B on A in the Gaussian at the centre, shape (B, A): where the conditional mode is sought from.
    """

    objective: Objective
    outer: Guide
    block: Tensor
    rest: Tensor
    loc: Tensor
    regression: Tensor
    missed: int = 0
    progress: Progress = silent

    def sample(self, n: int, seed: int, stream: int) -> tuple[Tensor, Tensor]:
        """n draws and their log density."""
        outer, log_q = self.outer.sample(n, seed, stream)
        noise = standard_normals(n, len(self.block), seed, _STREAM + stream)
        size = max(1, 4 * CHUNK // len(self.block))
        parts, done = [], 0
        for some, z in zip(outer.split(size), noise.split(size), strict=True):
            parts.append(self._inner(some, z))
            done += len(some)
            self.progress(done, n, "proposals")
        u, log_inner = (torch.cat(part) for part in zip(*parts, strict=True))
        return u, log_q + log_inner

    def _inner(self, outer: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        u = torch.empty(len(outer), len(self.loc), dtype=torch.float64)
        u[:, self.rest] = outer
        u[:, self.block] = self.loc[self.block] + (outer - self.loc[self.rest]) @ self.regression.T
        factor, failed = torch.linalg.cholesky_ex(self._information(u))
        # A lane without a finite density has no use: any normalised Gaussian will do, its weight is zero.
        factor = torch.where((failed > 0)[:, None, None], torch.eye(len(self.block)), factor)
        for _ in range(_DESCENTS):
            score = self._gradient(u)[:, self.block].nan_to_num(0.0)
            u[:, self.block] -= torch.cholesky_solve(score[..., None], factor)[..., 0]
        u[:, self.block] += torch.linalg.solve_triangular(factor.mT, noise[..., None], upper=True)[..., 0]
        log_volume = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        normal = -0.5 * noise.square().sum(-1) - 0.5 * len(self.block) * math.log(2.0 * math.pi)
        return u, normal + log_volume

    def _information(self, u: Tensor) -> Tensor:
        """P + J^T W J of the block at each point, with shape (n, B, B)."""
        n, count = len(u), len(self.block)
        moved = u.repeat(count + 1, 1, 1)
        moved[torch.arange(count), :, self.block] += _STEP
        with torch.no_grad():
            mean, variance = self.objective.moments(moved.reshape(-1, u.shape[1]))
        mean, variance = (part.reshape(count + 1, n, -1) for part in (mean, variance))
        slope = (mean[:count] - mean[count]) / _STEP / variance[count].clamp(min=1e-12).sqrt()
        scaled = slope.permute(1, 0, 2).nan_to_num(0.0)
        return scaled @ scaled.mT + self.objective.stiffness[self.block].diag()

    def _gradient(self, u: Tensor) -> Tensor:
        leaf = u.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(self.objective.value(leaf).sum(), leaf)
        return gradient


def tailed(whitened: Whitened, gaussian: GaussianGuide) -> TailedGuide:
    """The same Gaussian with tails in the interest."""
    return TailedGuide.around(gaussian, whitened.layout.columns(whitened.program.interest)[:_TAILED])


def conditional_guide(whitened: Whitened, settings: Settings, progress: Progress = silent) -> Guide:
    """The guide around the mode; the Gaussian itself, but for its tails, where no vector of nuisances is tight."""
    objective = whitened_objective(whitened)
    gaussian = laplace_guide(whitened, progress)
    block = _tight(whitened, gaussian)
    if not len(block):
        return tailed(whitened, gaussian)
    interest = whitened.layout.columns(whitened.program.interest)
    missed = gaussian.missed
    gaussian, curved = center(objective, gaussian, [*interest, *block.tolist()], progress)
    keep = torch.ones(len(gaussian.loc), dtype=torch.bool)
    keep[block] = False
    rest = keep.nonzero()[:, 0]
    outer = GaussianGuide(gaussian.loc[rest], lower_factor(gaussian.scale_tril[rest]))
    mixed = gaussian.scale_tril[block] @ gaussian.scale_tril[rest].T
    places = {column: place for place, column in enumerate(rest.tolist())}
    return ConditionalGuide(
        objective=objective,
        outer=TailedGuide.around(outer, [places[column] for column in [*interest, *curved][:_TAILED]]),
        block=block,
        rest=rest,
        loc=gaussian.loc,
        regression=torch.cholesky_solve(mixed.T, outer.scale_tril).T,
        missed=missed,
        progress=progress,
    )


def _tight(whitened: Whitened, gaussian: GaussianGuide) -> Tensor:
    """The columns of the vector site, interest apart, that the data know best given all else."""
    information = torch.cholesky_inverse(gaussian.scale_tril).diagonal()
    sites = [name for name in whitened.layout.blocks if name not in whitened.program.interest]
    columns = {name: torch.tensor(whitened.layout.columns([name])) for name in sites}
    vectors = {name: c for name, c in columns.items() if 1 < len(c) <= _LARGEST}
    known = {name: float(information[c].median()) for name, c in vectors.items()}
    best = max(known, key=lambda name: known[name], default=None)
    return vectors[best] if best is not None and known[best] > _TIGHT else torch.zeros(0, dtype=torch.long)
