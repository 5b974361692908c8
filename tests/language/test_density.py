"""The two densities, bad lanes, simulators and Asimov data in densities."""

import pyro.distributions as dist
import pytest
import torch

import nuppl
from nuppl.errors import InputError
from nuppl.language.density import Natural, Whitened
from nuppl.language.precision import double_precision


@pytest.fixture(autouse=True)
def _doubles():
    with double_precision():
        yield


@nuppl.model
def mixed():
    low = nuppl.parameter("low", nuppl.LogUniform(1e-3, 1.0), nominal=0.05)
    norm = nuppl.parameter("norm", dist.Uniform(1e3, 1e4))
    with nuppl.plate("bin", 3, dim=-1):
        width = nuppl.parameter("width", dist.Gamma(torch.tensor([2.0, 3.0, 4.0]), 1.0))
        shift = nuppl.pull("shift", dist.Normal(0.0, torch.tensor([0.5, 1.0, 2.0])))
        mean = norm * low * (1.0 + 0.1 * shift) + width
        nuppl.observe("counts", dist.Poisson(mean.clamp(min=0.0)), torch.tensor([260.0, 280.0, 310.0]))


@nuppl.model
def simplex():
    with nuppl.plate("core", 2, dim=-1):
        fractions = nuppl.parameter("fractions", dist.Dirichlet(torch.tensor([1.0, 2.0, 3.0])))
        nuppl.observe("x", dist.Normal(fractions[..., 0], 0.1), torch.tensor([0.2, 0.3]))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("model", [mixed, simplex], ids=lambda model: model.name)
def test_whitened_density_is_the_posterior_times_the_jacobian(model):
    whitened = Whitened(model.bind())
    u = torch.randn(4, whitened.dim, generator=generator())
    values = whitened.values(u)
    for i in range(4):
        one = {name: value[i : i + 1] for name, value in values.items()}
        jacobian = torch.autograd.functional.jacobian(lambda v: free_entries(whitened, v), u[i : i + 1])
        logdet = torch.linalg.slogdet(jacobian.reshape(whitened.dim, whitened.dim)).logabsdet
        expected = float(model.bind().terms(one).posterior + logdet)
        assert float(whitened.log_prob(u)[i]) == pytest.approx(expected, rel=1e-10)


def free_entries(whitened, u):
    """All values in one vector, without the last entry of each simplex."""
    parts = [value if name != "fractions" else value[..., :-1] for name, value in whitened.values(u).items()]
    return torch.cat([part.reshape(len(u), -1) for part in parts], 1)


@pytest.mark.parametrize("density", [Whitened, Natural])
def test_coordinates_invert_values(density):
    mapped = density(mixed.bind())
    u = 0.3 * torch.randn(5, mapped.dim, generator=generator())
    torch.testing.assert_close(mapped.coordinates(mapped.values(u)), u, rtol=0.0, atol=1e-10)


def test_lanes_are_independent_in_values_and_gradients():
    whitened = Whitened(mixed.bind())
    u = torch.randn(6, whitened.dim, generator=generator()).requires_grad_()
    together = whitened.log_prob(u)
    (slopes,) = torch.autograd.grad(together.sum(), u)
    for i in range(6):
        point = u[i : i + 1].detach().requires_grad_()
        alone = whitened.log_prob(point)
        torch.testing.assert_close(alone[0], together[i], rtol=1e-12, atol=0.0)
        torch.testing.assert_close(torch.autograd.grad(alone.sum(), point)[0][0], slopes[i], rtol=1e-10, atol=1e-10)


@nuppl.model
def fragile():
    """NaN wherever a is negative."""
    a = nuppl.parameter("a", dist.Normal(0.0, 1.0), nominal=1.0)
    nuppl.observe("x", dist.Normal(a.sqrt(), 1.0), 0.5)


def test_a_bad_lane_becomes_minus_infinity_is_counted_and_hurts_no_other():
    whitened = Whitened(fragile.bind())
    u = torch.tensor([[0.5], [-1.0], [2.0], [-0.1]], requires_grad=True)
    density = whitened.log_prob(u)
    assert density.isfinite().tolist() == [True, False, True, False]
    assert density[1] == -torch.inf and whitened.failures == 2
    good = Whitened(fragile.bind()).log_prob(u[::2].detach())
    assert torch.equal(density[::2], good)
    whitened.log_prob(u[:2])
    assert whitened.failures == 3, "counted over all calls"
    (slope,) = torch.autograd.grad(density[density.isfinite()].sum(), u)
    assert slope[::2].isfinite().all() and (slope[::2] != 0.0).all()
    assert not fragile.bind().terms({"a": torch.tensor([-1.0])}).data.isnan().any()


def test_counts_that_are_not_whole_do_not_raise():
    @nuppl.model
    def counting():
        mu = nuppl.parameter("mu", dist.Uniform(0.0, 20.0))
        nuppl.observe("n", dist.Poisson(mu), 7.0)

    n, mu = 3.7, 2.0
    found = counting.bind(data={"n": n}).terms({"mu": torch.tensor([mu])}).data
    exact = n * torch.tensor(mu).log() - mu - torch.lgamma(torch.tensor(n + 1.0))
    torch.testing.assert_close(found[0], exact)


def test_natural_coordinates_have_bounds_and_scales():
    natural = Natural(mixed.bind())
    assert natural.dim == 8
    centre = natural.values(torch.zeros(1, 8))
    assert float(centre["low"]) == pytest.approx(0.05) and float(centre["norm"]) == pytest.approx(5500.0)
    ends = natural.values(natural.lower[None].clamp(min=-1e3)), natural.values(natural.upper[None].clamp(max=1e3))
    assert float(ends[0]["low"]) == pytest.approx(1e-3) and float(ends[1]["low"]) == pytest.approx(1.0)
    assert float(ends[0]["norm"]) == pytest.approx(1e3) and float(ends[1]["norm"]) == pytest.approx(1e4)
    assert ends[0]["width"].tolist() == [[0.0, 0.0, 0.0]]
    assert natural.lower[5:].tolist() == [-torch.inf] * 3 and natural.upper[5:].tolist() == [torch.inf] * 3
    torch.testing.assert_close(natural.scale[5:], torch.tensor([0.5, 1.0, 2.0]))


def test_natural_gradients_stay_finite_beside_a_logarithmic_coordinate():
    """exp(5500) would be infinite, and its unused gradient NaN."""
    natural = Natural(mixed.bind())
    z = torch.zeros(2, natural.dim, requires_grad=True)
    (slope,) = torch.autograd.grad(natural.log_likelihood(z).sum(), z)
    assert slope.isfinite().all() and (slope[:, :2] != 0.0).all()


def test_priors_do_not_count_in_a_fit():
    natural = Natural(mixed.bind())
    z = 0.1 * torch.randn(3, natural.dim, generator=generator())
    terms = natural.terms(z)
    torch.testing.assert_close(natural.log_likelihood(z), terms.pull + terms.data)
    assert (terms.prior != 0.0).all()


def test_bounds_that_move_with_a_latent_are_no_bounds():
    @nuppl.model
    def moving():
        a = nuppl.parameter("a", dist.Uniform(0.0, 1.0))
        b = nuppl.random_effect("b", dist.Uniform(0.0, a))
        nuppl.observe("x", dist.Normal(b, 1.0), 0.5)

    natural = Natural(moving.bind())
    assert natural.upper.isfinite().tolist() == [True, False]
    b = natural.coordinates({"a": torch.tensor(0.9), "b": torch.tensor(0.8)})
    assert natural.log_likelihood(b).isfinite().all(), "beyond the bound at the nominal a = 0.5"


def undeclared():
    a = nuppl.parameter("a", dist.Uniform(0.5, 1.0))
    nuppl.observe("x", dist.Normal(nuppl.pull("b", dist.Normal(0.0, a)), 1.0), 0.5)


def simulated():
    a = nuppl.parameter("a", dist.Uniform(0.5, 1.0))
    nuppl.observe("x", nuppl.Simulator(lambda m: m + torch.randn(m.shape), a), 0.5)


def unmeasured():
    nuppl.observe("x", dist.Normal(nuppl.pull("a"), 1.0))


def held():
    nuppl.observe("x", dist.Normal(0.0, 1.0), 0.5)


@pytest.mark.parametrize(
    ("density", "program", "message"),
    [
        (Natural, undeclared, "declare it with nuppl.random_effect('b', ...)"),
        (Natural, simulated, "site 'x' is a simulator without density: a fit needs a density"),
        (Natural, unmeasured, "site 'x' has no data: a fit needs data"),
        (Natural, held, "nothing to fit"),
        (Natural, simplex.function, "site 'fractions' lives on a support of another dimension"),
        (Whitened, simulated, "site 'x' is a simulator without density: a posterior needs a density"),
        (Whitened, unmeasured, "site 'x' has no data: a posterior needs data"),
    ],
)
def test_what_a_density_cannot_use_is_refused(density, program, message):
    with pytest.raises(InputError) as error:
        density(nuppl.Model(program).bind())
    assert message in str(error.value)


def test_bayesian_inference_works_with_an_undeclared_random_effect():
    whitened = Whitened(nuppl.Model(undeclared).bind())
    assert whitened.log_prob(torch.zeros(3, 2)).isfinite().all()


def test_a_density_larger_than_the_lanes_names_its_site():
    @nuppl.model
    def folded():
        a = nuppl.parameter("a", dist.Uniform(0.5, 1.0))
        nuppl.observe("x", dist.Normal((a * torch.ones(5)).sum(-1), 1.0), 0.5)

    with pytest.raises(InputError, match=r"site 'x': its log density has shape \(1, 3, 1, 1, 1, 1, 1, 1\)"):
        Whitened(folded.bind()).log_prob(torch.zeros(3, 1))
