"""Embeddings: shapes, sets without order, members that are missing; standardisation by kind."""

import math

import pytest
import torch

from nuppl.errors import InputError
from nuppl.neural import registry, seeds
from nuppl.neural.embeddings import EMBEDDINGS, Embedding
from nuppl.neural.fields import KINDS, Field
from nuppl.neural.settings import Training
from nuppl.neural.simulations import Fixed
from nuppl.neural.standardize import Standardize
from nuppl.neural.training import train

SHAPES = {
    "identity": [(3,), (2, 4)],
    "mlp": [(3,), (4, 5)],
    "cnn1": [(16,), (2, 31), (3,)],
    "cnn2": [(9, 14), (3, 16, 16)],
    "deepset": [(6, 2)],
    "attention": [(6, 2)],
}
SETS = ("deepset", "attention")


def embedding(name, shape):
    with seeds.apart(1):
        return Embedding(Standardize((Field("x", shape, ragged=name in SETS),)), {"x": name}).eval()


def values(n, shape):
    return torch.randn(n, math.prod(shape), generator=seeds.generator(2), dtype=torch.float64)


def test_the_table_is_whole():
    assert SHAPES.keys() == EMBEDDINGS.keys()


@pytest.mark.parametrize(("name", "shape"), [(name, shape) for name in SHAPES for shape in SHAPES[name]])
def test_features_and_gradients(name, shape):
    module = embedding(name, shape)
    features = module(values(5, shape))
    assert features.shape == (5, module.features) and features.dtype == torch.float32
    weights = dict(module.named_parameters())
    if weights:
        features.square().sum().backward()
    assert [key for key, weight in weights.items() if weight.grad is None or not weight.grad.any()] == []


@pytest.mark.parametrize("name", SETS)
def test_the_order_of_members_does_not_matter(name):
    module, x = embedding(name, (6, 2)), values(4, (6, 2)).reshape(4, 6, 2)
    shuffled = x[:, torch.tensor([3, 1, 5, 0, 2, 4])]
    changed = x.clone()
    changed[:, 2] += 1
    with torch.no_grad():
        assert torch.allclose(module(x.flatten(1)), module(shuffled.flatten(1)), atol=1e-5)
        assert not torch.allclose(module(x.flatten(1)), module(changed.flatten(1)), atol=1e-4)


@pytest.mark.parametrize("name", SETS)
def test_missing_members_have_no_influence(name):
    x = values(4, (3, 2)).reshape(4, 3, 2)
    padded = torch.full((4, 6, 2), math.nan, dtype=torch.float64)
    padded[:, [0, 2, 5]] = x
    small, large = embedding(name, (3, 2)), embedding(name, (6, 2))
    large.parts.load_state_dict(small.parts.state_dict())
    with torch.no_grad():
        assert torch.allclose(small(x.flatten(1)), large(padded.flatten(1)), atol=1e-5)


@pytest.mark.parametrize("name", SETS)
def test_an_empty_set_is_a_set(name):
    module = embedding(name, (6, 2))
    x = values(3, (6, 2))
    x[1] = math.nan
    features = module(x)
    assert features.isfinite().all()
    features.sum().backward()
    assert all(weight.grad.isfinite().all() for weight in module.parameters())


@pytest.mark.parametrize("name", SETS)
def test_a_guide_learns_from_sets_of_variable_size(name):
    """For theta ~ N(0, 1) and m measurements of unit error theta | x ~ N(sum x / (m + 1), 1/(m + 1))."""
    randomness = seeds.generator(4)
    n, most = 3000, 5
    theta = torch.randn(n, 1, generator=randomness, dtype=torch.float64)
    x = theta + torch.randn(n, most, generator=randomness, dtype=torch.float64)
    size = torch.randint(1, most + 1, (n, 1), generator=randomness)
    x = torch.where(torch.arange(most) < size, x, math.nan)
    data = (Field("x", (most, 1), ragged=True),)
    config = registry.Config("npe", (Field("theta", (1,)),), data, {"x": name}, {"transforms": 1, "width": 32})
    settings = Training(epochs=20, least_steps=0, rate=5e-3)
    guide = train(registry.build(config), Fixed(theta, x), settings).estimator
    exact = torch.distributions.Normal(x.nansum(1, keepdim=True) / (size + 1), (size + 1.0) ** -0.5)
    with torch.no_grad():
        gap = (exact.log_prob(theta)[:, 0] - guide.log_prob(theta, x)).mean()
    # Not knowing the sizes alone would cost 0.09, not seeing the data at all 0.8.
    assert float(gap) < 0.05


def test_a_member_that_is_half_missing_is_refused():
    space = Standardize((Field("x", (3, 2), ragged=True),))
    x = values(4, (3, 2))
    x[2, 1] = math.nan
    with pytest.raises(InputError, match="a member of a set is missing where all its features are NaN"):
        space.fit(x)


def test_a_users_module_and_several_fields():
    class Sum(torch.nn.Module):
        def forward(self, x):
            return x.sum((1, 2)).unsqueeze(1)

    data = (Field("image", (3, 4)), Field("time", ()))
    modules = {"image": Sum()}
    assert registry.build(registry.Config("npe", (Field("theta"),), data), modules=modules).embedding.features == 2
    with pytest.raises(InputError, match="'image' was embedded by a module of your own: give it again"):
        registry.build(registry.Config("npe", (Field("theta"),), data, {"image": "custom"}))


@pytest.mark.parametrize(
    ("field", "given", "message"),
    [
        (Field("x", (4,)), {"y": "mlp"}, "unknown data field 'y'"),
        (Field("x", (4,)), {"x": "mpl"}, r"unknown embedding 'mpl' \(did you mean 'mlp'"),
        (Field("x", (4, 2), ragged=True), {"x": "mlp"}, "'x' is a set of variable size: expected one of deepset"),
        (Field("x", (4, 2)), {"x": "deepset"}, "'x' is not a set of variable size: expected one of identity"),
        (Field("x", (4,)), {"x": "cnn2"}, r"needs a field with 2 axes, or one more for channels, got shape \(4,\)"),
        (Field("x", (4, 2)), {"x": torch.nn.Linear(2, 3)}, r"expected features with shape \(n, F\) .* got \(2, 4, 3\)"),
    ],
)
def test_embeddings_that_do_not_fit(field, given, message):
    with pytest.raises(InputError, match=message):
        Embedding(Standardize((field,)), given)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_kinds_invert_and_their_slope_is_right(kind):
    x = torch.tensor([[1.0], [7.0], [300.0]], dtype=torch.float64, requires_grad=True)
    entry = KINDS[kind]
    y = entry.forward(x)
    assert torch.allclose(entry.inverse(y), x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    assert torch.allclose(entry.log_slope(x), slope.log())


@pytest.mark.parametrize("kind", ["real", "positive", "count"])
def test_fitted_values_have_unit_variance(kind):
    x = 1 + torch.poisson(torch.full((500, 3), 40.0, dtype=torch.float64), generator=seeds.generator(1))
    x[:, 2] = 12.0
    space = Standardize((Field("x", (3,), kind),))
    space.fit(x)
    z = space(x)
    assert torch.allclose(z[:, :2].mean(0), torch.zeros(2), atol=1e-5)
    assert torch.allclose(z[:, :2].std(0), torch.ones(2), atol=1e-2)
    assert (z[:, 2].abs() < 1e-5).all() and space.log_slope(x).isfinite().all()
    assert torch.allclose(space.inverse(z), x, rtol=1e-5)
    if kind == "count":
        # The root brings Poisson counts to unit variance by itself.
        assert float(space.scale[0]) == pytest.approx(1.0, abs=0.1)


def test_an_image_shares_one_scale_and_a_set_one_per_feature():
    x = values(200, (4, 3)) * torch.tensor([1.0, 10.0, 100.0], dtype=torch.float64).repeat(4)
    image, members = Standardize((Field("x", (4, 3), shared=2),)), Standardize((Field("x", (4, 3), ragged=True),))
    image.fit(x)
    members.fit(x)
    assert len(image.scale.unique()) == 1 and len(members.scale.unique()) == 3


def test_scales_stay_double_when_a_module_is_moved():
    space = Standardize((Field("x", (2,)),))
    space.fit(values(10, (2,)))
    before = space.loc.clone()
    assert space.float().loc.dtype == torch.float64
    assert torch.allclose(space.loc, before, rtol=1e-6)
