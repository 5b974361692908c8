"""The prediction from templates against the non-linear reference."""

import pytest
import torch

from nuppl.experiments import dayabay

POINTS = [
    {},
    {"sin2_2theta13": 0.06, "dm2_32": 2.2e-3},
    {"sin2_2theta13": 0.12, "dm2_32": 2.9e-3, "dm2_21": 7.9e-5},
    {"dm2_32": -2.5e-3},
    {"sin2_2theta13": 0.0},
]


@pytest.mark.parametrize("point", POINTS, ids=str)
def test_oscillation_is_exact(release, mixing, point):
    templates, exact = (
        dayabay.expected(release, mixing(**point), dayabay.Pulls(), response) for response in ("templates", "exact")
    )
    torch.testing.assert_close(templates, exact, rtol=1e-6, atol=0)


def test_so_is_the_spectrum_correction(release, mixing, correction):
    pulls = dayabay.Pulls(spectrum_correction=correction)
    templates, exact = (dayabay.expected(release, mixing(), pulls, response) for response in ("templates", "exact"))
    torch.testing.assert_close(templates, exact, rtol=2e-5, atol=0)


@pytest.mark.parametrize("point", POINTS[:3], ids=str)
def test_all_pulls_together_leave_the_likelihood_in_place(release, mixing, random_pulls, deviance, point):
    """-2 log L of data that the reference predicts, for pulls drawn at one standard deviation."""
    pulls = random_pulls(11, 10, 1, 1, 1)
    templates, exact = (
        dayabay.expected(release, mixing(**point), pulls, response) for response in ("templates", "exact")
    )
    assert deviance(templates, exact).max().item() < 0.1


WIDE = [(0.0, -3.4, 0.0), (3.0, -2.0, -0.6), (-1.8, -2.5, -0.9), (-1.0, -3.0, -1.0), (0.1, 3.8, -0.1), (2.0, 3.0, 2.0)]


def test_the_resolution_is_exact_four_standard_deviations_out(release, mixing, correction, deviance):
    """A polynomial in the three pulls is not: sigma^2 is their sum of squares, and all but vanishes where b does."""
    resolution = torch.tensor(WIDE, dtype=torch.float64).reshape(-1, 1, 1, 1, 1, 3, 1, 1)
    pulls = dayabay.Pulls(spectrum_correction=correction, resolution=resolution)
    templates, exact = (dayabay.expected(release, mixing(), pulls, response) for response in ("templates", "exact"))
    assert deviance(templates, exact).max().item() < 0.03


def test_the_resolution_stays_where_the_table_ends(release, mixing):
    """Rather than leave with the tenth power: a step of an optimiser may end there."""
    ends, beyond = (
        dayabay.expected(release, mixing(), dayabay.Pulls(resolution=torch.full((3, 1, 1), size, dtype=torch.float64)))
        for size in (4.0, 20.0)
    )
    torch.testing.assert_close(beyond, ends)


def test_a_batch_is_its_points_one_by_one_across_chunks(release, mixing, random_pulls):
    theta = torch.linspace(0.01, 0.19, 259, dtype=torch.float64).reshape(259, 1, 1, 1, 1, 1, 1, 1)
    pulls = random_pulls(5, 259, 1, 1, 1)
    batch = dayabay.expected(release, mixing(sin2_2theta13=theta), pulls)
    assert batch.shape == (259, 1, 1, 1, 1, 1, 8, 26)
    for lane in (0, 255, 256, 258):
        single = dayabay.Pulls(**{k: v[lane, 0, 0, 0] if v.ndim == 8 else v for k, v in vars(pulls).items()})
        one = dayabay.expected(release, mixing(sin2_2theta13=float(theta[lane])), single)
        assert one.shape == (8, 26)
        torch.testing.assert_close(batch[lane].reshape(8, 26), one, rtol=1e-11, atol=0)


def test_gradients_are_those_of_the_reference(release, mixing, random_pulls):
    gradients = []
    for response in ("templates", "exact"):
        theta = torch.tensor(0.085, dtype=torch.float64, requires_grad=True)
        splitting = torch.tensor(2.45e-3, dtype=torch.float64, requires_grad=True)
        pulls = random_pulls(6, names=["thermal_power", "spectrum_correlated", "efficiency"])
        leaves = [
            theta,
            splitting,
            *(getattr(pulls, n).requires_grad_() for n in ("thermal_power", "spectrum_correlated")),
        ]
        counts = dayabay.expected(release, mixing(sin2_2theta13=theta, dm2_32=splitting), pulls, response)
        weight = torch.linspace(0.5, 1.5, 26, dtype=torch.float64)
        gradients.append(torch.autograd.grad((counts * weight).sum(), leaves))
    for templates, exact in zip(*gradients, strict=True):
        torch.testing.assert_close(templates, exact, rtol=1e-3, atol=1e-3)


def test_a_point_beyond_the_templates_is_exact_alone_and_nan_in_a_batch(release, mixing):
    far = dayabay.expected(release, mixing(dm2_32=8e-3), dayabay.Pulls())
    torch.testing.assert_close(far, dayabay.expected(release, mixing(dm2_32=8e-3), dayabay.Pulls(), "exact"))
    both = torch.tensor([2.5e-3, 8e-3], dtype=torch.float64).reshape(2, 1, 1, 1, 1, 1, 1, 1)
    batch = dayabay.expected(release, mixing(dm2_32=both), dayabay.Pulls())
    assert batch.isnan().flatten(1).any(-1).tolist() == [False, True]
