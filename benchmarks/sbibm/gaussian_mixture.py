"""A mean seen through a mixture of a wide and a narrow normal in the plane: x ~ N(t, 1)/2 + N(t, 0.1^2)/2.

Lueckmann et al., Benchmarking Simulation-Based Inference, arXiv:2101.04653, after Sisson et al., PNAS 104, 1760 (2007).
"""

import pyro.distributions as dist
import torch

import nuppl

SPREADS = torch.tensor([1.0, 0.1])


@nuppl.model(interest=("t_1", "t_2"))
def gaussian_mixture():
    """Two parameters, two numbers, a sharp peak on a broad one."""
    t = [nuppl.parameter(f"t_{k}", dist.Uniform(-10.0, 10.0), label=f"t_{k}") for k in (1, 2)]
    means = torch.stack(t, -1)[..., None, :]
    spreads = SPREADS.to(means)[:, None]
    normals = dist.Normal(*torch.broadcast_tensors(means, spreads)).to_event(1)
    weights = dist.Categorical(torch.full(normals.batch_shape, 0.5))
    nuppl.observe("x", dist.MixtureSameFamily(weights, normals))
