"""The release, and shorthands for points of the model."""

import math

import pytest
import torch

from nuppl.experiments import dayabay
from nuppl.experiments.dayabay_systematics import axes, sin2_theta
from nuppl.physics.oscillation import FourFlavor, ThreeFlavor

DEFAULT = {
    "sin2_2theta13": 0.0856,
    "dm2_32": 2.453e-3,
    "sin2_theta12": sin2_theta(torch.tensor(0.851, dtype=torch.float64)),
    "dm2_21": 7.53e-5,
}
CORRECTION = [0.11, -0.09, -0.07, -0.08, -0.09, -0.07, -0.09, -0.06, -0.07, -0.07]
CORRECTION += [-0.05, 0.00, 0.03, 0.06, -0.01, -0.02, -0.05, 0.00, -0.37]  # the best fit to the data


@pytest.fixture(scope="session")
def release():
    return dayabay.load()


@pytest.fixture(scope="session")
def mixing():
    """Three flavors at the default parameters, unless changed; four where dm2_41 is given."""

    def build(**changes):
        values = {**DEFAULT, **changes}
        return FourFlavor(**values) if "dm2_41" in values else ThreeFlavor(**values)

    return build


@pytest.fixture(scope="session")
def correction():
    return torch.tensor(CORRECTION, dtype=torch.float64).reshape(-1, 1, 1)


def shape_of(release, name):
    sizes = {axis.dim: len(axis.coords) for axis in axes(release)[name]}
    return [sizes.get(dim, 1) for dim in range(-4, 0)]


@pytest.fixture(scope="session")
def one_pull(release):
    """A single pull at one standard deviation, by its coordinates."""

    def build(name, coords):
        value = torch.zeros(shape_of(release, name), dtype=torch.float64)
        index = [0, 0, 0, 0]
        for axis, coord in zip(axes(release)[name], coords, strict=True):
            index[axis.dim] = axis.coords.index(coord)
        value[tuple(index)] = 1.0
        return dayabay.Pulls(**{name: value})

    return build


@pytest.fixture(scope="session")
def random_pulls(release, correction):
    """Every pull drawn at one standard deviation, at the best spectrum correction, for any batch shape."""

    def build(seed, *batch, names=None, size=1.0):
        generator = torch.Generator().manual_seed(seed)
        chosen = [name for name in axes(release) if name != "spectrum_correction"] if names is None else names
        values = {}
        for name in chosen:
            shape = [*batch, *shape_of(release, name)]
            values[name] = size * torch.randn(math.prod(shape), generator=generator, dtype=torch.float64).reshape(shape)
        return dayabay.Pulls(spectrum_correction=correction, **values)

    return build


@pytest.fixture(scope="session")
def deviance():
    """-2 log of the Poisson likelihood ratio of counts to expectation, summed over bins."""

    def compute(expected, counts):
        return 2.0 * (expected - counts + counts * (counts / expected).log()).sum((-1, -2))

    return compute
