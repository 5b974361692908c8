"""Importance weights of a guide's draws against the exact density, and what follows from them.

log w = log p(u, data) - log q(u),   evidence Z = mean w,   effective draws = (sum w)^2 / sum w^2.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nuppl.errors import InputError
from nuppl.inference.guides import Guide
from nuppl.inference.recorder import collect
from nuppl.inference.settings import Settings
from nuppl.language.density import Whitened
from nuppl.results.draws import Draws, effective_size, pareto_k
from nuppl.typing import Progress, silent

__all__ = ["certified", "evidence", "log_weights"]


def log_weights(whitened: Whitened, u: Tensor, log_q: Tensor, progress: Progress = silent) -> Tensor:
    """log p - log q with shape (n,), for draws with shape (n, D)."""
    parts, done = [], 0
    with torch.no_grad():
        for part in u.split(whitened.chunk):
            parts.append(whitened.log_prob(part))
            done += len(part)
            progress(done, len(u), "weights")
    return torch.cat(parts) - log_q


def evidence(weights: Tensor) -> dict[str, float]:
    """What a set of log weights with shape (chain, n) says: evidence, effective draws, efficiency, Pareto k.

    Raises:
        InputError: every weight is zero.
    """
    flat = weights.reshape(-1)
    if not bool((flat > -torch.inf).any()):
        raise InputError("the posterior density is zero at every proposal: the guide and the model do not overlap")
    n, effective = len(flat), effective_size(flat)
    return {
        "log_evidence": float(flat.logsumexp(0)) - math.log(n),
        "log_evidence_error": math.sqrt(max(1.0 / effective - 1.0 / n, 0.0)),
        "effective_draws": effective,
        "efficiency": effective / n,
        "pareto_k": pareto_k(flat),
        "proposals": n,
    }


def certified(whitened: Whitened, guide: Guide, settings: Settings, engine: str, progress: Progress = silent) -> Draws:
    """A guide's draws as they are, with their importance weights as a certificate."""
    batches = [guide.sample(settings.draws, settings.seed, chain) for chain in range(settings.chains)]
    weights = torch.stack([log_weights(whitened, u, log_q, progress) for u, log_q in batches])
    stats = {"lp": weights + torch.stack([log_q for _, log_q in batches]), "log_weight": weights}
    return collect(whitened, settings, torch.stack([u for u, _ in batches]), stats, evidence(weights), engine)
