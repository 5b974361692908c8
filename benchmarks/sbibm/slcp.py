"""Simple likelihood, complex posterior: four points from a normal in the plane whose shape five parameters give.

    x_1 .. x_4 ~ N((t_1, t_2), S),   S = ((s_1^2, rho s_1 s_2), (rho s_1 s_2, s_2^2)),   s_1 = t_3^2,  s_2 = t_4^2,
    rho = tanh t_5

Lueckmann et al., arXiv:2101.04653, after Papamakarios et al., arXiv:1805.07226. The signs of t_3 and t_4 cannot be
known: four modes, and cut ones.
"""

import pyro.distributions as dist
import torch

import nuppl

JITTER = 1e-6


@nuppl.model(interest=tuple(f"t_{k}" for k in range(1, 6)))
def slcp():
    """Five parameters, eight numbers, four modes."""
    t = [nuppl.parameter(f"t_{k}", dist.Uniform(-3.0, 3.0), label=f"t_{k}") for k in range(1, 6)]
    s_1, s_2, rho = t[2].square(), t[3].square(), t[4].tanh()
    mixed = rho * s_1 * s_2
    rows = torch.stack((s_1.square() + JITTER, mixed), -1), torch.stack((mixed, s_2.square() + JITTER), -1)
    with nuppl.plate("point", 4, dim=-1):
        nuppl.observe("x", dist.MultivariateNormal(torch.stack(t[:2], -1), torch.stack(rows, -2)))
