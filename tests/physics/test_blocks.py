"""Matrices multiplied block by block."""

import pytest
import torch

from nuppl.physics.blocks import BlockMatrix


@pytest.fixture(scope="module")
def banded():
    dense = torch.randn(17, 23, generator=torch.Generator().manual_seed(1), dtype=torch.float64).triu(-1).tril(4)
    dense[:, 20:] = 0.0
    return dense


@pytest.mark.parametrize("groups", [1, 4, 23])
def test_the_product_is_that_of_the_whole_matrix(banded, groups):
    x = torch.randn(3, 2, 17, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    torch.testing.assert_close(BlockMatrix(banded, groups)(x), x @ banded, rtol=1e-13, atol=1e-13)


def test_derivatives_of_first_and_second_order(banded):
    matrix = BlockMatrix(banded, 4)
    x = torch.randn(2, 17, generator=torch.Generator().manual_seed(3), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: matrix(x).square(), x)
    assert torch.autograd.gradgradcheck(lambda x: matrix(x).square(), x)


def test_only_entries_that_are_not_zero_are_multiplied(banded):
    """A value that is not finite spoils only the columns that its row reaches."""
    x = torch.ones(17, dtype=torch.float64)
    x[0] = torch.inf
    assert BlockMatrix(banded, 23)(x).isfinite().sum().item() == 23 - int((banded[0] != 0).sum())
