r"""Characteristic polynomial and adjugate of a Hamiltonian, as polynomials in the eigenvalue and the potential.

With M = D + x A in the basis of mass states (D = diag(m_k^2 - m_1^2), A = U^+ V U),

    chi(z, x) = det(z - M),   K_ba(z, x) = [U adj(z - M) U^+]_ba,   so that
    S_ba = [exp(-i t H)]_ba = sum_k exp(-i t z_k) K_ba(z_k, x) / chi'(z_k)   with   H = U D U^+ + x V.

The coefficients of z^n x^p are sums over minors in which each term is a single product. So the small ones, which fix
the small eigenvalues beside a large one, keep their relative accuracy.
"""

from __future__ import annotations

import functools
import itertools

import torch
from torch import Tensor

__all__ = ["coefficients"]


def coefficients(pmns: Tensor, squared_masses: Tensor, potential: Tensor) -> tuple[Tensor, Tensor]:
    """Coefficients of chi, real with shape (*, N, N+1), and of K_ba, complex with shape (*, N, N, N, N).

    `pmns` and `potential` (Hermitian, in the basis of flavors) have the shape (*, N, N), complex128, and
    `squared_masses` (*, N). The last two axes of the results are the powers n < N of z and p of x; the axes before
    them in K are b and a. The leading z^N of chi is left out.
    """
    count = squared_masses.shape[-1]
    shape = torch.broadcast_shapes(pmns.shape[:-2], squared_masses.shape[:-1], potential.shape[:-2])
    one = torch.eye(count, dtype=pmns.dtype)
    entries = torch.stack(
        [
            one.expand(*shape, count, count),
            torch.diag_embed(-squared_masses).to(pmns.dtype).expand(*shape, count, count),
            -(pmns.mH @ potential @ pmns).expand(*shape, count, count),
        ],
        dim=-3,
    )  # z, D and x A: the three parts of an entry of z - D - x A
    adjugate = _adjugate(entries)  # (*, N^2 entries, N^2 pairs of powers)
    column = adjugate[..., ::count, :]  # adj_j1, to expand the determinant along the first row
    parts = entries[..., 0, :] @ column  # (*, 3, N^2)
    chi = parts.real.flatten(-2) @ _raised(count)
    both = (pmns[..., :, None, :, None] * pmns.conj()[..., None, :, None, :]).flatten(-4, -3).flatten(-2)
    flavor = both @ adjugate
    return chi.unflatten(-1, (count, count + 1)), flavor.unflatten(-2, (count, count)).unflatten(-1, (count, count))


def _adjugate(entries: Tensor) -> Tensor:
    """adj(z - M) with shape (*, N^2, N^2): entries ij, powers of z and x."""
    count = entries.shape[-1]
    rows, columns, signs, powers = _cofactor_terms(count)
    factors = entries[..., rows, columns]  # (*, 3 parts, N^2 cofactors, permutations, N-1 factors)
    product = factors[..., 0]
    for factor in range(1, count - 1):
        following = factors[..., factor]
        product = (product.unsqueeze(-3) * following.unsqueeze(-4)).flatten(-4, -3)
    product = (product * signs).sum(-1)  # (*, 3^(N-1) choices of parts, N^2)
    return product.mT @ powers


@functools.cache
def _cofactor_terms(count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rows, columns and sign of every product in the cofactors, and the power of z and x of every choice of parts."""
    rows, columns, signs = [], [], []
    for i, j in itertools.product(range(count), repeat=2):  # adj_ij deletes row j and column i
        kept_rows = [k for k in range(count) if k != j]
        kept_columns = [k for k in range(count) if k != i]
        orders = list(itertools.permutations(range(count - 1)))
        rows.append([kept_rows for _ in orders])
        columns.append([[kept_columns[k] for k in order] for order in orders])
        signs.append([(-1.0) ** (i + j) * _parity(order) for order in orders])
    powers = torch.zeros(3 ** (count - 1), count * count, dtype=torch.complex128)
    for choice, parts in enumerate(itertools.product(range(3), repeat=count - 1)):
        powers[choice, parts.count(0) * count + parts.count(2)] = 1.0
    return torch.tensor(rows), torch.tensor(columns), torch.tensor(signs, dtype=torch.float64), powers


@functools.cache
def _raised(count: int) -> Tensor:
    """Where z^n x^p goes when it is multiplied by z, by a constant, and by x; z^N is left out."""
    table = torch.zeros(3, count, count, count, count + 1, dtype=torch.float64)
    for n, p in itertools.product(range(count), repeat=2):
        if n + 1 < count:
            table[0, n, p, n + 1, p] = 1.0
        table[1, n, p, n, p] = 1.0
        table[2, n, p, n, p + 1] = 1.0
    return table.flatten(-2).flatten(0, 2)


def _parity(order: tuple[int, ...]) -> float:
    inversions = sum(order[i] > order[j] for i in range(len(order)) for j in range(i + 1, len(order)))
    return (-1.0) ** inversions
