"""Laws of whitening over a table of distributions."""

import pyro.distributions as dist
import pytest
import torch
from torch.distributions import transforms

import nuppl
from nuppl.errors import InputError
from nuppl.language.distributions import LogUniform
from nuppl.language.precision import double_precision
from nuppl.language.transport import transport


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def lognormal_in_two_steps():
    base = dist.Normal(tensor(0.0, 1.0), 1.0)
    return dist.TransformedDistribution(
        base, [transforms.AffineTransform(1.0, tensor(0.5, 2.0)), transforms.ExpTransform()]
    )


def normal_below_a_bound():
    """A truncated normal as a transformed uniform: Phi^-1 of a uniform between two quantiles."""
    ends = torch.special.ndtr(tensor(-1.0, 0.7))
    step = transforms.CumulativeDistributionTransform(dist.Normal(tensor(0.0)[0], tensor(1.0)[0])).inv
    return dist.TransformedDistribution(dist.Uniform(ends[0], ends[1]), [step])


COVARIANCE = torch.tensor([[2.0, 0.6, 0.0], [0.6, 1.0, -0.2], [0.0, -0.2, 0.5]], dtype=torch.float64)

# Constructor, and whether u is exactly standard normal.
TABLE = {
    "Normal": (lambda: dist.Normal(tensor(1.0, -2.0), tensor(0.1, 30.0)), True),
    "Normal event": (lambda: dist.Normal(tensor(1.0, -2.0), tensor(0.1, 30.0)).to_event(1), True),
    "MultivariateNormal": (lambda: dist.MultivariateNormal(tensor(1.0, 2.0, 3.0), COVARIANCE), True),
    "MultivariateNormal event": (
        lambda: dist.MultivariateNormal(torch.zeros(2, 3, dtype=torch.float64), COVARIANCE).to_event(1),
        True,
    ),
    "Uniform": (lambda: dist.Uniform(tensor(0.0, -5.0), tensor(0.2, 1e4)), True),
    "Uniform event": (lambda: dist.Uniform(tensor(0.0, -5.0), tensor(0.2, 1e4)).to_event(1), True),
    "LogUniform": (lambda: LogUniform(tensor(1e-3, 1e-4), tensor(10.0, 1.0)), True),
    "LogNormal": (lambda: dist.LogNormal(tensor(0.0, 3.0), tensor(0.5, 1.0)), True),
    "LogNormal in two steps": (lognormal_in_two_steps, True),
    "truncated normal": (normal_below_a_bound, True),
    "HalfNormal": (lambda: dist.HalfNormal(tensor(0.1, 3.0)), True),
    "HalfCauchy": (lambda: dist.HalfCauchy(tensor(0.1, 3.0)), True),
    "Cauchy": (lambda: dist.Cauchy(tensor(0.0, 1.0), tensor(1.0, 3.0)), True),
    "Exponential": (lambda: dist.Exponential(tensor(0.5, 20.0)), True),
    "Laplace": (lambda: dist.Laplace(tensor(0.0, 1.0), tensor(1.0, 3.0)), True),
    "Gumbel": (lambda: dist.Gumbel(tensor(0.0, 1.0), tensor(1.0, 3.0)), True),
    "Weibull": (lambda: dist.Weibull(tensor(1.0, 2.0), tensor(1.5, 3.0)), True),
    "Gamma": (lambda: dist.Gamma(tensor(2.0, 50.0), tensor(1.0, 5.0)), False),
    "Gamma event": (lambda: dist.Gamma(tensor(2.0, 50.0), tensor(1.0, 5.0)).to_event(1), False),
    "InverseGamma": (lambda: dist.InverseGamma(tensor(2.0, 50.0), tensor(1.0, 5.0)), False),
    "Beta": (lambda: dist.Beta(tensor(2.0, 0.5), tensor(1.0, 5.0)), False),
    "StudentT": (lambda: dist.StudentT(tensor(3.0, 5.0), tensor(0.0, 2.0), tensor(1.0, 3.0)), False),
    "Dirichlet": (lambda: dist.Dirichlet(torch.tensor([[1.0, 2.0, 3.0], [5.0, 5.0, 0.5]], dtype=torch.float64)), False),
    "Dirichlet event": (
        lambda: dist.Dirichlet(torch.tensor([[1.0, 2.0, 3.0], [5.0, 5.0, 0.5]], dtype=torch.float64)).to_event(1),
        False,
    ),
    "LKJCholesky": (lambda: dist.LKJCholesky(3, tensor(1.5)[0]), False),
}

each_distribution = pytest.mark.parametrize("name", TABLE)


@pytest.fixture(autouse=True)
def _doubles():
    with double_precision():
        yield


def points(fn, reach=5.0, n=9):
    """Points u with shape (n, *batch, *u_event) that reach out on both sides."""
    shape = (*fn.batch_shape, *transport(fn).event_shape)
    generator = torch.Generator().manual_seed(1)
    return (2.0 * torch.rand(n, *shape, generator=generator) - 1.0) * reach


@each_distribution
def test_the_values_lie_in_the_support(name):
    fn = TABLE[name][0]()
    value = transport(fn).forward(points(fn))
    assert value.shape == (9, *fn.batch_shape, *fn.event_shape)
    assert bool(fn.support.check(value).all())


@each_distribution
def test_round_trip(name):
    """To 1e-12 in u, or to what a float64 value can hold of u: 8 roundings over dT/du, and of Phi itself."""
    fn = TABLE[name][0]()
    mapping = transport(fn)
    u = points(fn, reach=5.0 if TABLE[name][1] else 2.0)
    value = mapping.forward(u)
    back = mapping.inverse(value)
    assert back.shape == u.shape
    again = mapping.forward(back)
    tails = torch.exp(-0.5 * u.square()) / (2.0 * torch.pi) ** 0.5
    limit = 1e-12 + 8.0 * torch.finfo(torch.float64).eps / tails
    if "MultivariateNormal" in name or not TABLE[name][1]:
        limit = torch.tensor(1e-10)
    assert bool(((back - u).abs() <= limit).all()), float(((back - u).abs() / limit).max())
    # In the tails of Phi, value and u lose digits together: one rounding of Phi moves the value by dT/dPhi.
    torch.testing.assert_close(again, value, rtol=1e-9, atol=1e-12)


def test_uniform_round_trips_to_1e_12_in_its_value():
    fn = dist.Uniform(tensor(0.0, -3.0), tensor(0.2, 7.0))
    mapping = transport(fn)
    value = mapping.forward(points(fn, 5.0, 100))
    torch.testing.assert_close(mapping.forward(mapping.inverse(value)), value, rtol=1e-12, atol=1e-15)


@each_distribution
def test_the_density_of_u_is_that_of_the_value_times_the_jacobian(name):
    fn = TABLE[name][0]()
    mapping = transport(fn)
    u = points(fn, reach=3.0, n=4)
    value = mapping.forward(u)
    density = mapping.log_density(u, value)
    assert density.shape == (4, *fn.batch_shape)
    jacobian = torch.stack([log_abs_det(fn, mapping, point) for point in u])
    expected = fn.log_prob(value).reshape(4, -1).sum(1) + jacobian
    torch.testing.assert_close(density.reshape(4, -1).sum(1), expected, rtol=1e-9, atol=1e-8)


def log_abs_det(fn, mapping, u):
    """log |dT/du| of all entries together, by autograd; in the free entries where the support is constrained."""
    matrix = torch.autograd.functional.jacobian(mapping.forward, u)
    if isinstance(fn, dist.LKJCholesky):
        below = torch.tril_indices(3, 3, -1)
        matrix = matrix[below[0], below[1]]
    elif fn.event_shape != mapping.event_shape:
        matrix = matrix[..., :-1, :, :]
    return torch.linalg.slogdet(matrix.reshape(u.numel(), u.numel())).logabsdet


@each_distribution
def test_u_is_standard_normal_where_the_transport_is_exact(name):
    fn, exact = TABLE[name][0](), TABLE[name][1]
    mapping = transport(fn)
    assert mapping.exact == exact
    u = points(fn, reach=3.0)
    density = mapping.log_density(u, mapping.forward(u)).reshape(9, -1).sum(1)
    normal = (-0.5 * u.square() - 0.5 * torch.log(torch.tensor(2.0 * torch.pi))).reshape(9, -1).sum(1)
    assert torch.allclose(density, normal, rtol=1e-12, atol=1e-12) == exact


@each_distribution
def test_extra_lanes_on_the_left_change_nothing(name):
    """Distributions without lanes meet values with eight axes more; the density keeps the lanes apart."""
    fn = TABLE[name][0]()
    mapping = transport(fn)
    u = points(fn, reach=2.0, n=3)
    wide = u.reshape(3, *(1,) * 5, *u.shape[1:])
    density = mapping.log_density(wide, mapping.forward(wide))
    assert density.shape == (3, *(1,) * 5, *fn.batch_shape)
    torch.testing.assert_close(density.reshape(3, -1), mapping.log_density(u, mapping.forward(u)).reshape(3, -1))


@each_distribution
def test_gradients_are_finite(name):
    fn = TABLE[name][0]()
    u = points(fn).requires_grad_()
    value = transport(fn).forward(u)
    (slope,) = torch.autograd.grad((value + transport(fn).log_density(u, value).sum()).sum(), u)
    assert bool(slope.isfinite().all())


def test_a_discrete_latent_is_refused():
    with pytest.raises(InputError, match="Poisson cannot be whitened: expected a continuous one"):
        transport(dist.Poisson(3.0))


@nuppl.model
def triangle():
    a = nuppl.parameter("a", dist.Uniform(0.0, 1.0))
    b = nuppl.parameter("b", dist.Uniform(0.0, a))
    nuppl.observe("x", dist.Normal(a + b, 1.0), 0.5)


def test_dependent_priors_leak_nothing():
    """b ~ U(0, a): no point lies outside, and the density before data is exactly that of u."""
    from nuppl.language.density import Whitened

    whitened = Whitened(triangle.bind())
    u = 3.0 * torch.randn(10_000, 2, generator=torch.Generator().manual_seed(2))
    values = whitened.values(u)
    assert bool(((values["b"] >= 0.0) & (values["b"] <= values["a"])).all())
    prior, likelihood = whitened.split(u)
    torch.testing.assert_close(prior, torch.distributions.Normal(0.0, 1.0).log_prob(u).sum(1))
    expected = torch.distributions.Normal(values["a"] + values["b"], 1.0).log_prob(torch.tensor(0.5))
    torch.testing.assert_close(likelihood, expected)
    torch.testing.assert_close(whitened.coordinates(whitened.values(u.clamp(-4, 4))), u.clamp(-4, 4), rtol=0, atol=1e-8)


def test_log_uniform():
    fn = LogUniform(1e-3, 10.0)
    x = torch.logspace(-2.9, 0.9, 5)
    torch.testing.assert_close(fn.log_prob(x).exp(), 1.0 / (x * torch.tensor(1e4).log()))
    assert float(fn.mean) == pytest.approx((10.0 - 1e-3) / float(torch.tensor(1e4).log()), rel=1e-12)
    with pytest.raises(ValueError, match="within the support"):
        fn.log_prob(tensor(11.0))
    outside = LogUniform(1e-3, 10.0, validate_args=False).log_prob(tensor(1e-4, 11.0))
    assert outside.tolist() == [-torch.inf, -torch.inf]
    assert fn.expand((4, 2)).sample().shape == (4, 2) and fn.expand((4, 2)).low.shape == (4, 2)
    for low, high in ((0.0, 1.0), (2.0, 1.0)):
        with pytest.raises(InputError, match="expected 0 < low < high"):
            LogUniform(low, high)
