"""Response matrices."""

import pytest
import torch

from nuppl.errors import InputError
from nuppl.physics import response

EDGES = torch.linspace(0.0, 8.0, 81, dtype=torch.float64)


def test_energy_loss_conserves_events_and_scales_the_migrations():
    matrix = torch.triu(torch.rand(6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
    matrix = matrix / matrix.sum(0)
    scaled = response.energy_loss(matrix, torch.tensor([1.0, 0.0, 2.0], dtype=torch.float64))
    torch.testing.assert_close(scaled[0], matrix)
    torch.testing.assert_close(scaled[1], torch.eye(6, dtype=torch.float64))
    torch.testing.assert_close(scaled.sum(-2), torch.ones(3, 6, dtype=torch.float64))
    ratio = scaled[2][0, 5] / scaled[2][5, 5]
    assert ratio.item() == pytest.approx(2.0 * (matrix[0, 5] / matrix[5, 5]).item())


def test_a_uniform_spectrum_is_diluted_by_a_stretched_axis():
    curve = torch.linspace(0.0, 9.0, 200, dtype=torch.float64)
    matrix = response.nonlinearity(EDGES, curve, 1.25 * curve)
    content = matrix @ torch.ones(80, dtype=torch.float64)
    torch.testing.assert_close(content, torch.full((80,), 0.8, dtype=torch.float64))


def test_the_identity_curve_is_the_identity_and_batches():
    curve = torch.linspace(0.0, 8.0, 81, dtype=torch.float64)
    matrix = response.nonlinearity(EDGES, curve, torch.stack([curve, 1.01 * curve]))
    torch.testing.assert_close(matrix[0], torch.eye(80, dtype=torch.float64))
    torch.testing.assert_close(matrix[1], response.nonlinearity(EDGES, curve, 1.01 * curve))


def test_resolution_has_the_width_it_was_given():
    a, b, c = (torch.tensor(value, dtype=torch.float64) for value in (0.016, 0.081, 0.026))
    column = response.resolution(EDGES, a, b, c)[:, 40]
    centers = 0.5 * (EDGES[1:] + EDGES[:-1])
    mean = (column * centers).sum()
    width = (column * (centers - mean) ** 2).sum().sqrt()
    assert column.sum().item() == pytest.approx(1.0, abs=1e-6)
    assert mean.item() == pytest.approx(4.05, abs=1e-6)
    assert width.item() == pytest.approx((0.016**2 * 4.05**2 + 0.081**2 * 4.05 + 0.026**2) ** 0.5, rel=1e-6)


def test_rebinning_keeps_what_lies_inside_and_refuses_foreign_edges():
    matrix = response.rebinning(EDGES, torch.tensor([0.7, 1.3, 8.0], dtype=torch.float64))
    assert matrix.sum(-1).tolist() == [6.0, 67.0]
    with pytest.raises(InputError, match=r"coarse: expected edges among those of the fine bins, got \[0.75\]"):
        response.rebinning(EDGES, torch.tensor([0.7, 0.75], dtype=torch.float64))
