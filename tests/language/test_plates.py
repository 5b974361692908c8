"""Plates carry coordinates, leave no site and can be entered again; scopes prefix sites and plates."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

import nuppl
from nuppl.errors import InputError
from nuppl.language.density import Whitened

DETECTORS = ["near", "middle", "far"]


@nuppl.model
def two_blocks():
    """One plate entered twice by name, alone and inside another."""
    with nuppl.plate("detector", DETECTORS, dim=-2):
        efficiency = nuppl.pull("efficiency")
    with nuppl.plate("detector", DETECTORS, dim=-2), nuppl.plate("bin", torch.tensor([0.5, 1.5]), dim=-1):
        nuppl.observe("counts", dist.Poisson(10.0 + efficiency.exp()), torch.full((3, 2), 9.0))


def test_a_plate_gives_names_coordinates_and_dims():
    sites = two_blocks.bind().sites
    assert list(sites) == ["efficiency", "counts"]
    detector, bins = sites["counts"].axes
    assert (detector.name, detector.size, detector.dim, detector.coords) == ("detector", 3, -2, tuple(DETECTORS))
    assert (bins.name, bins.size, bins.dim, bins.coords) == ("bin", 2, -1, (0.5, 1.5))
    assert sites["efficiency"].axes == (detector,)
    assert sites["counts"].shape == (3, 2) and sites["counts"].full_shape == (1, 1, 1, 1, 1, 3, 2)
    assert sites["efficiency"].plain_shape == (3, 1)


@pytest.mark.parametrize("coords", [4, np.int64(4), [1, 2, 3, 4], range(4), np.arange(4.0), torch.arange(4), "abcd"])
def test_coordinates_of_all_kinds(coords):
    with poutine.trace() as trace, nuppl.plate("p", coords, dim=-3):
        value = pyro.sample("x", dist.Normal(0.0, 1.0))
    assert value.shape == (4, 1, 1)
    assert list(trace.trace.nodes) == ["x"]


@pytest.mark.parametrize("dim", [-8, -9, 0, 1])
def test_the_batch_axis_is_not_a_plates(dim):
    with pytest.raises(InputError, match=f"plate 'p': expected dim between -7 and -1 .* got {dim}"):
        nuppl.plate("p", 2, dim=dim)


@pytest.mark.parametrize("coords", [0, []])
def test_an_empty_plate_is_refused(coords):
    with pytest.raises(InputError, match="plate 'p': expected at least one entry, got 0"):
        nuppl.plate("p", coords, dim=-1)


def test_two_plates_on_one_axis_collide():
    @nuppl.model
    def colliding():
        with nuppl.plate("a", 2, dim=-1), nuppl.plate("b", 2, dim=-1):
            nuppl.pull("x")

    with pytest.raises(InputError, match=r"test_plates.py, line \d+: ValueError: at plates \"b\" and \"a\", collide"):
        colliding.bind()


def test_a_failed_program_leaves_the_plates_free():
    test_two_plates_on_one_axis_collide()
    assert two_blocks.bind().sites["counts"].shape == (3, 2)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (["near", "far"], ["near", "far"], None),
        (["near", "far"], ["far", "near"], "has 2 entries (far, near) here and 2 (near, far) at an earlier site"),
        (2, 3, "has 3 entries here and 2 at an earlier site"),
    ],
)
def test_one_name_means_one_axis(first, second, message):
    @nuppl.model
    def model():
        with nuppl.plate("p", first, dim=-1):
            nuppl.pull("a")
        with nuppl.plate("p", second, dim=-1):
            nuppl.pull("b")

    if message is None:
        assert len(model.bind().sites) == 2
    else:
        with pytest.raises(InputError) as error:
            model.bind()
        assert message in str(error.value) and "site 'b'" in str(error.value)


def experiment(scale, data):
    with nuppl.plate("detector", DETECTORS, dim=-1):
        shift = nuppl.pull("shift")
        nuppl.observe("x", dist.Normal(scale + 0.1 * shift, 1.0), torch.tensor(data, dtype=torch.float64))


@nuppl.model
def alone(which: str = "first"):
    scale = nuppl.parameter("scale", dist.Normal(0.0, 2.0))
    experiment(scale, [0.1, 0.2, 0.3] if which == "first" else [3.0, 2.0, 1.0])


@nuppl.model
def joint():
    scale = nuppl.parameter("scale", dist.Normal(0.0, 2.0))
    with nuppl.scope("danss"):
        experiment(scale, [0.1, 0.2, 0.3])
    with nuppl.scope("neos"), nuppl.scope("two"):
        experiment(scale, [3.0, 2.0, 1.0])


def test_a_scope_prefixes_sites_and_plates():
    sites = joint.bind().sites
    assert list(sites) == ["scale", "danss_shift", "danss_x", "neos_two_shift", "neos_two_x"]
    assert [axis.name for name in ("danss_x", "neos_two_x") for axis in sites[name].axes] == [
        "danss_detector",
        "neos_two_detector",
    ]
    assert sites["danss_x"].axes[0].coords == tuple(DETECTORS)


def test_a_plate_around_a_scope_keeps_its_name():
    @nuppl.model
    def model():
        with nuppl.plate("year", 2, dim=-1), nuppl.scope("danss"), nuppl.plate("detector", 3, dim=-2):
            nuppl.pull("shift")

    assert [axis.name for axis in model.bind().sites["danss_shift"].axes] == ["danss_detector", "year"]


def test_a_joint_program_is_the_sum_of_its_parts():
    n, generator = 5, torch.Generator().manual_seed(3)
    scale = torch.randn(n, dtype=torch.float64, generator=generator)
    one, two = (torch.randn(n, 3, dtype=torch.float64, generator=generator) for _ in range(2))
    together = joint.bind().terms({"scale": scale, "danss_shift": one, "neos_two_shift": two})
    first = alone.bind().terms({"scale": scale, "shift": one})
    second = alone.bind({"which": "second"}).terms({"scale": scale, "shift": two})
    torch.testing.assert_close(together.likelihood, first.likelihood + second.likelihood, rtol=1e-14, atol=0.0)
    torch.testing.assert_close(together.prior, first.prior, rtol=0.0, atol=0.0)
    assert Whitened(joint.bind()).dim == 7


@pytest.mark.parametrize("prefix", ["a/b", "", "a b"])
def test_a_prefix_is_a_name(prefix):
    with pytest.raises(InputError, match="scope: expected a name"):
        nuppl.scope(prefix)
