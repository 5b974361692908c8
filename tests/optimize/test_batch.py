"""Many fits at once end where single fits end."""

from __future__ import annotations

from pathlib import Path

import pyro.distributions as dist
import pytest
import torch

import nuppl
from nuppl.language.density import Natural
from nuppl.language.loading import load_model
from nuppl.language.precision import double_precision
from nuppl.language.simulation import toys
from nuppl.optimize.batch import fit_lanes
from nuppl.optimize.batch_bundle import minimize_bundled
from nuppl.optimize.batch_newton import minimize_all
from nuppl.optimize.batch_shared import minimize_shared
from nuppl.optimize.lanes import Likelihoods
from nuppl.optimize.minuit import migrad
from nuppl.optimize.objective import Objective, natural_objective
from nuppl.optimize.response import Response

ROOT = Path(__file__).parents[2]
MODELS = ("models/counting.py", "models/bounded_gaussian.py", "models/two_detector.py", "examples/near_far.py")


def likelihoods(file, n, seed=3):
    program = load_model(str(ROOT / file))[0].bind()
    natural = Natural(program)
    drawn = toys(program, n, seed=seed, at=program.nominal())
    return Likelihoods(natural, drawn.data, drawn.centers)


def single(found, lane):
    """What a minimiser of one function sees of one lane."""
    one = found.rows(torch.tensor([lane]))
    like = natural_objective(found.natural)
    return Objective(one._value, like.moments, like.stiffness, like.lower, like.upper)


@pytest.mark.parametrize("file", MODELS)
@double_precision()
def test_derivatives_by_lane_are_those_of_a_single_point(file):
    found = likelihoods(file, 5)
    z = 0.1 * torch.rand(5, found.dim, generator=torch.Generator().manual_seed(1)) + 0.05
    columns = torch.arange(found.dim)
    value, gradient = found.gradient(z)
    assert torch.allclose(value, found.values(z))
    objective = natural_objective(found.natural)
    information = found.curvature(z, columns)
    for lane in range(5):
        leaf = z[lane : lane + 1].clone().requires_grad_()
        one = found.rows(torch.tensor([lane]))
        full = torch.autograd.functional.hessian(lambda x, one=one: one._value(x).sum(), leaf)
        assert torch.allclose(gradient[lane], torch.autograd.grad(one._value(leaf).sum(), leaf)[0][0])
        assert torch.allclose(information[lane], objective.curvature(z[lane]), rtol=1e-6, atol=1e-8)
        values, vectors = torch.linalg.eigh(full[0, :, 0])
        positive = (vectors * values.abs()) @ vectors.T
        assert torch.allclose(found.hessian(z, columns)[lane], positive, rtol=1e-5, atol=1e-6)


MINIMIZERS = {
    "own": lambda found, start, response: minimize_all(found, start),
    "shared": minimize_shared,
    "bundled": minimize_bundled,
    "whole": lambda found, start, response: minimize_bundled(found, start, response.whole),
}


# The bundle trusts Gauss and Newton's curvature; without signal that of two_detector has little to do with it.
CASES = [
    (file, how) for file in MODELS for how in MINIMIZERS if how in ("own", "shared") or file != "models/two_detector.py"
]


@pytest.mark.parametrize(("file", "how"), CASES)
@double_precision()
def test_many_fits_agree_with_minuit(file, how):
    found = likelihoods(file, 12)
    start = torch.full((12, found.dim), 0.2)
    response = Response.around(natural_objective(found.natural), start[:1])
    minima = MINIMIZERS[how](found, start, response)
    assert bool(minima.converged.all())
    for lane in range(4):
        reference = migrad(single(found, lane), minima.point[lane])
        assert float(minima.value[lane]) < reference.value + 1e-4


@double_precision()
def test_a_minimum_at_a_kink_is_found_and_recognised():
    @nuppl.model(interest="a")
    def kinked():
        a = nuppl.parameter("a", dist.Uniform(-3.0, 3.0), nominal=1.0)
        b = nuppl.parameter("b", dist.Uniform(-3.0, 3.0), nominal=1.0)
        # |a| and |b - a| want to be negative, so the minimum is where both have their kink.
        with nuppl.plate("bin", 3, dim=-1):
            first, second, third = torch.eye(3)
            mean = a.abs() * first + (b - a).abs() * second + b * third
            nuppl.observe("x", dist.Normal(mean, 1.0), torch.tensor([-1.0, -2.0, 0.5]))

    natural = Natural(kinked.bind())
    found = Likelihoods(natural, {}, {})
    start = torch.tensor([[0.3, 0.7], [-0.9, 0.2], [1.0, -1.0]])
    response = Response.around(natural_objective(natural), start[:1])
    minima = minimize_bundled(found, start, response.whole)
    assert bool(minima.converged.all())
    at = natural.values(minima.point)
    assert float(torch.cat([at["a"].abs().flatten(), at["b"].abs().flatten()]).max()) < 1e-3
    # 2 log L as a sum of squares: (1 + 4 + 0.25) / 2 above the constant.
    least = 0.5 * (1.0 + 4.0 + 0.25) + 1.5 * torch.tensor(2.0 * torch.pi).log()
    assert torch.allclose(minima.value, least.expand(3), atol=1e-3)


@double_precision()
def test_a_poor_step_from_afar_is_not_taken_for_a_kink():
    found = likelihoods("examples/near_far.py", 48)
    start = 4.0 * torch.randn(48, found.dim, generator=torch.Generator().manual_seed(2))
    start = start.clamp(found.natural.lower, found.natural.upper)
    response = Response.around(natural_objective(found.natural), start[:1])
    for each in (response, response.whole):
        minima = minimize_bundled(found, start, each, max_steps=200)
        near = minimize_all(found, torch.full((48, found.dim), 0.1))
        done = minima.converged & near.converged
        assert not bool(((minima.value - near.value)[done] > 1e-2).any())
    assert float(done.double().mean()) > 0.9


@double_precision()
def test_no_lane_knows_of_the_others():
    found = likelihoods("models/two_detector.py", 64)
    start = torch.zeros(64, found.dim)
    together, alone = fit_lanes(found, start), fit_lanes(found.rows(torch.tensor([7])), start[:1])
    assert torch.allclose(together.point[7], alone.point[0], atol=1e-9)
    assert int(together.steps[7]) == int(alone.steps[0])


@double_precision()
def test_what_is_held_stays_and_bounds_are_kept():
    found = likelihoods("models/two_detector.py", 64)
    held = torch.zeros(found.dim, dtype=torch.bool)
    held[1] = True
    minima = fit_lanes(found, torch.full((64, found.dim), 0.3), held=held)
    assert bool((minima.point[:, 1] == 0.3).all())
    assert bool((minima.point >= found.natural.lower).all() & (minima.point <= found.natural.upper).all())
    # Without oscillation in the truth half of all toys have their minimum at the bound: 5 standard deviations of 64.
    share = float(minima.at_bound[:, 0].double().mean())
    assert abs(share - 0.5) < 5 * 0.5 / 8
    everything = torch.ones(found.dim, dtype=torch.bool)
    still = fit_lanes(found, minima.point, held=everything)
    assert torch.equal(still.point, minima.point) and bool(still.converged.all())


@double_precision()
def test_a_lane_without_density_has_failed_and_harms_nobody():
    @nuppl.model(interest="mu")
    def rate():
        mu = nuppl.parameter("mu", dist.Uniform(-1.0, 5.0), nominal=1.0)
        nuppl.observe("n", dist.Poisson(mu), 3.0)

    natural = Natural(rate.bind())
    found = Likelihoods(natural, {"n": torch.tensor([3.0, 4.0])}, {})
    minima = fit_lanes(found, torch.tensor([[-1.0], [0.5]]))
    assert minima.converged.tolist() == [False, True] and float(minima.value[0]) == torch.inf
    assert abs(float(natural.values(minima.point[1:])["mu"]) - 4.0) < 1e-2


@double_precision()
def test_data_without_a_known_mean_are_fitted_by_their_density():
    @nuppl.model(interest="a")
    def heavy():
        a = nuppl.parameter("a", dist.Uniform(-9.0, 9.0), nominal=0.0)
        with nuppl.plate("part", 11, dim=-1):
            shift = nuppl.pull("shift")
            nuppl.observe("x", dist.Cauchy(a + shift, 1.0), torch.linspace(-1.0, 3.0, 11))

    found = Likelihoods(Natural(heavy.bind()), {}, {})
    minima = fit_lanes(found, torch.tensor([0.5] * 12)[None] * torch.tensor([[0.0], [1.0]]))
    assert bool(minima.converged.all())
    # Symmetric data: the middle is the answer, from either start.
    assert torch.allclose(found.natural.values(minima.point)["a"].flatten(), torch.ones(2), atol=0.02)
