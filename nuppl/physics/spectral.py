r"""exp(-i t H) of Hermitian matrices of any size from their eigenvectors: the general method, exact at degeneracies.

    S = V e(E) V^+,   dS = V [f(E_j, E_k) (V^+ dH V)_jk] V^+ + (dS/dt) dt,
    f(x, y) = (e^{-itx} - e^{-ity}) / (x - y) = -i t e^{-it(x+y)/2} sinc(t (x-y)/2)

(Daleckii and Krein; Higham, Functions of Matrices, SIAM 2008, sec. 3.2). The divided difference has no denominator that
vanishes, so the gradient is right where eigenvalues meet and eigenvectors have none. It costs microseconds a point and
serves as the reference, for other numbers of flavors, and for lanes that the closed form leaves out.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

__all__ = ["evolution"]


def evolution(hamiltonian: Tensor, time: Tensor) -> Tensor:
    """exp(-i time hamiltonian) with shape (*, N, N), for Hermitian matrices with shape (*, N, N) and times with shape
    (*).

    A matrix that holds NaN or infinity gives NaN.
    """
    shape = torch.broadcast_shapes(hamiltonian.shape[:-2], time.shape)
    matrices = hamiltonian.expand(*shape, *hamiltonian.shape[-2:])
    result: Tensor = _Evolution.apply(matrices, time.expand(shape))  # type: ignore[no-untyped-call]
    return result


class _Evolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hamiltonian: Tensor, time: Tensor) -> Tensor:
        finite = torch.isfinite(torch.view_as_real(hamiltonian)).flatten(-3).all(-1)
        values, vectors = torch.linalg.eigh(torch.where(finite[..., None, None], hamiltonian, 0.0))
        values = torch.where(finite[..., None], values, math.nan)
        phases = torch.polar(torch.ones_like(values), -values * time[..., None])
        ctx.save_for_backward(values, vectors, time)
        evolved: Tensor = (vectors * phases.unsqueeze(-2)) @ vectors.mH
        return evolved

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        values, vectors, time = ctx.saved_tensors
        inner = vectors.mH @ gradient @ vectors
        mean = 0.5 * (values.unsqueeze(-1) + values.unsqueeze(-2))
        half = 0.5 * (values.unsqueeze(-1) - values.unsqueeze(-2))
        width = torch.sinc(time[..., None, None] * half / math.pi) * time[..., None, None]
        differences = -1j * width * torch.polar(torch.ones_like(mean), -mean * time[..., None, None])
        to_hamiltonian = vectors @ (differences.conj() * inner) @ vectors.mH
        phases = torch.polar(torch.ones_like(values), -values * time[..., None])
        slope = -1j * values * phases
        to_time = (slope.conj() * inner.diagonal(dim1=-2, dim2=-1)).real.sum(-1)
        return 0.5 * (to_hamiltonian + to_hamiltonian.mH), to_time
