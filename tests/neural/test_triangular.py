"""The inverse of a flow column by column is the inverse of the flow."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from zuko.flows import NSF

from nuppl.neural.triangular import inverted


@pytest.mark.parametrize(("width", "passes"), [(1, None), (2, None), (5, None), (5, 2)])
def test_the_inverse_undoes_the_flow_and_says_how_volumes_change(width, passes):
    torch.manual_seed(1)
    flow = NSF(width, 3, transforms=3, hidden_features=[16, 16], activation=nn.SiLU, passes=passes).double()
    y, context = torch.randn(50, width, dtype=torch.float64), torch.randn(50, 3, dtype=torch.float64)
    x, log_volume = inverted(flow, y, context)
    back, forward = flow(context).transform.call_and_ladj(x)
    assert torch.allclose(back, y, atol=1e-9)
    assert torch.allclose(log_volume, forward, atol=1e-9)
    assert log_volume.requires_grad and x.requires_grad
