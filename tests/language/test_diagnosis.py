"""Bad models in pairs with their right twins: the message names site, entry, argument, and NaN apart from zero."""

import pyro.distributions as dist
import pytest
import torch

import nuppl
from nuppl.errors import InputError
from nuppl.language.check import check, format_report
from nuppl.language.diagnosis import diagnose, explain_no_density, spread_points
from nuppl.optimize.fit import fit

COUNTS = torch.tensor([[3.0, 5.0, 4.0], [2.0, 1.0, 6.0]], dtype=torch.float64)
ONE = torch.ones(2, 3, dtype=torch.float64)
FAR_B = torch.zeros(2, 3, dtype=torch.float64)
FAR_B[1, 1] = 1.0


def bins(distribution, data=COUNTS):
    with nuppl.plate("detector", ["near", "far"], dim=-2), nuppl.plate("bin", ["a", "b", "c"], dim=-1):
        nuppl.observe("counts", distribution, data)


def rate():
    return nuppl.parameter("rate", dist.Uniform(2.0, 6.0))


def nan_rate():
    bins(dist.Poisson(rate() * torch.where(FAR_B > 0, torch.nan, ONE)))


def negative_rate():
    bins(dist.Poisson(rate() - 8.0 * FAR_B))


def empty_bin():
    bins(dist.Poisson(rate() * (1.0 - FAR_B)))


def right_rate():
    bins(dist.Poisson(rate() * ONE))


def root_of_negative():
    r = rate()
    bins(dist.Normal(r, (1.0 - r).sqrt()))


def negative_width():
    r = rate()
    bins(dist.Normal(r, -r))


def no_width():
    r = rate()
    bins(dist.Normal(r, 0.0 * r))


def right_width():
    r = rate()
    bins(dist.Normal(r, r.sqrt()))


def below_the_end():
    bins(dist.Uniform(rate(), 20.0), COUNTS - 10.0 * FAR_B)


def within_the_ends():
    bins(dist.Uniform(-20.0, 10.0 + rate()))


def event_with_an_empty_entry():
    nuppl.observe("x", dist.Poisson(rate()[..., None] * (1.0 - FAR_B[1])).to_event(1), COUNTS[1])


def event():
    nuppl.observe("x", dist.Poisson(rate()[..., None] * ONE[1]).to_event(1), COUNTS[1])


def vector_with_nan():
    nuppl.observe("x", dist.MultivariateNormal((rate() * torch.nan)[..., None] * ONE[0], torch.eye(3)), COUNTS[0])


def vector():
    nuppl.observe("x", dist.MultivariateNormal(rate()[..., None] * ONE[0], torch.eye(3)), COUNTS[0])


def effect_without_data_to_bear_it():
    effect = nuppl.random_effect("effect", dist.Normal(rate(), 1.0))
    nuppl.observe("x", dist.Uniform(0.0, torch.where(effect > -100.0, 1.0, effect)), 3.0)


def effect():
    drawn = nuppl.random_effect("effect", dist.Normal(rate(), 1.0))
    nuppl.observe("x", dist.Normal(drawn, 1.0), 3.0)


# bad, its right twin, the site, words of the message
PAIRS = [
    (nan_rate, right_rate, "counts", ("NaN at all", "counts[far, b] = 1", "Poisson has rate = nan", "clamp")),
    (negative_rate, right_rate, "counts", ("NaN at all", "counts[far, b] = 1", "rate = -4 (expected at least 0)")),
    (empty_bin, right_rate, "counts", ("zero at all", "counts[far, b] = 1", "Poisson has rate = 0", "cannot happen")),
    (root_of_negative, right_width, "counts", ("NaN at all", "scale = nan (expected a number)", "root of a negative")),
    (negative_width, right_width, "counts", ("NaN at all", "counts[near, a] = 3", "scale = -4 (expected more than 0)")),
    (no_width, right_width, "counts", ("scale = 0 (expected more than 0)",)),
    (below_the_end, within_the_ends, "counts", ("zero at all", "outside the support of its Uniform, 4 to 20")),
    (event_with_an_empty_entry, event, "x", ("zero at all", "x[1] = 1", "Poisson has rate = 0")),
    (vector_with_nan, vector, "x", ("NaN at all", "MultivariateNormal has loc = nan in some entries")),
    (effect_without_data_to_bear_it, effect, "x", ("zero at all", "x = 3, outside the support of its Uniform, 0 to 1")),
]


@pytest.mark.parametrize(("bad", "right", "site", "words"), PAIRS, ids=[pair[0].__name__ for pair in PAIRS])
def test_a_density_that_is_nowhere_finite_is_explained(bad, right, site, words):
    program = nuppl.model(bad).bind()
    found = diagnose(program)
    assert (found.possible, found.site) == (False, site)
    assert f"site {site!r}" in found.text and "\n" not in found.text
    for word in words:
        assert word in found.text, found.text
    assert ("NaN at all" in found.text) != ("zero at all" in found.text), "the two are told apart"
    report = check(nuppl.model(bad))
    assert [(f.rule, f.site, f.message) for f in report.findings if f.severity == "error"] == [
        ("density", site, found.text)
    ], format_report(report)
    with pytest.raises(InputError) as refused:
        fit(program)
    assert str(refused.value) == found.text

    assert check(nuppl.model(right)).passed
    assert diagnose(nuppl.model(right).bind()).possible
    assert fit(nuppl.model(right).bind(), minos=False).statistic < torch.inf


def test_the_points_of_an_engine_are_told_from_those_of_the_prior():
    program = nuppl.model(empty_bin).bind()
    text = explain_no_density(program, {"rate": torch.tensor([3.0, 4.0, 5.0], dtype=torch.float64)})
    assert "zero at all of 3 points tried (where the engine looked)" in text


def test_a_density_that_is_zero_at_some_points_and_nan_at_others_says_both():
    @nuppl.model
    def both():
        r = rate()
        nuppl.observe("n", dist.Poisson(torch.where(r < 3.0, -r, 0.0 * r)), 3.0)

    text = explain_no_density(both.bind(), {"rate": torch.tensor([2.5, 2.6, 5.0], dtype=torch.float64)})
    assert "NaN at 2 and zero at 1 of 3 points" in text


def test_several_sites_are_told_the_worst_first():
    @nuppl.model
    def several():
        r = rate()
        nuppl.observe("sometimes", dist.Poisson(torch.where(r > 4.0, 0.0 * r, r)), 3.0)
        nuppl.observe("always", dist.Poisson(0.0 * r), 2.0)
        nuppl.observe("never", dist.Poisson(r), 2.0)

    text = explain_no_density(several.bind())
    assert text.index("'always'") < text.index("'sometimes'") and "'never'" not in text


def test_where_only_the_start_is_bad_a_better_one_is_named():
    @nuppl.model
    def start(nominal: float = 0.0):
        r = nuppl.parameter("rate", dist.Uniform(0.0, 1.0), nominal=nominal)
        nuppl.observe("n", dist.Poisson(r), 3.0)

    text = explain_no_density(start.bind())
    assert "255 of 256 points tried have one" in text and "the best at rate = 0.9" in text and "nominal=" in text
    with pytest.raises(InputError, match="at the start"):
        fit(start.bind())
    assert [(f.rule, f.severity) for f in check(start).findings] == [("density", "warning")]
    assert fit(start.bind({"nominal": 0.5}), minos=False).parameters["rate"].at_bound
    assert check(start, {"nominal": 0.5}).findings == ()


def test_points_begin_at_the_nominal_one_follow_the_prior_and_leave_the_generator_alone():
    @nuppl.model
    def model():
        a = nuppl.parameter("a", dist.Uniform(0.0, 1.0), nominal=0.25)
        b = nuppl.parameter("b", dist.Gamma(50.0, 1.0))
        nuppl.observe("x", dist.Normal(a + b, 1.0), 3.0)

    torch.manual_seed(3)
    expected = torch.rand(())
    torch.manual_seed(3)
    points = spread_points(model.bind(), 4000)
    assert float(torch.rand(())) == float(expected)
    assert float(points["a"][0]) == 0.25 and points["a"].shape == points["b"].shape == (4000,)
    # Five standard errors of the mean of 4000 draws.
    assert float(points["a"].mean()) == pytest.approx(0.5, abs=5 * 12**-0.5 / 4000**0.5)
    assert float(points["b"].mean()) == pytest.approx(50.0, abs=5 * 50**0.5 / 4000**0.5)


# prior, words of the message, or None for the right twin
PRIORS = [
    (lambda: dist.ImproperUniform(dist.constraints.real, (), ()), ("expected a proper prior", "ImproperUniform")),
    (lambda: dist.ImproperUniform(dist.constraints.positive, (), ()), ("expected a proper prior",)),
    (lambda: dist.Uniform(0.0, torch.inf), ("expected a proper prior", "Uniform with low = 0 and high = inf")),
    (lambda: dist.Uniform(-torch.inf, torch.inf), ("expected a proper prior", "low = -inf")),
    (lambda: nuppl.LogUniform(1e-3, torch.inf), ("expected a proper prior", "high = inf")),
    (lambda: dist.Normal(0.0, torch.inf), ("expected a proper prior", "scale = inf")),
    (lambda: dist.HalfNormal(torch.inf), ("expected a proper prior", "scale = inf")),
    (lambda: dist.Uniform(0.0, 1e6), None),
    (lambda: nuppl.LogUniform(1e-12, 1e12), None),
    (lambda: dist.Normal(0.0, 1e6), None),
    (lambda: dist.HalfCauchy(1.0), None),
    (lambda: dist.Normal(0.0, -1.0), ("expected valid arguments", "scale = -1 (expected more than 0)")),
    (lambda: dist.Normal(torch.nan, 1.0), ("expected valid arguments", "loc = nan (expected a number)")),
    (lambda: dist.Gamma(1.0, 0.0), ("expected valid arguments", "rate = 0 (expected more than 0)")),
    (lambda: dist.Gamma(1.0, 1e-3), None),
    (lambda: dist.Poisson(3.0), ("expected a continuous prior", "discrete Poisson", "sum it out")),
    (lambda: dist.Bernoulli(0.5), ("expected a continuous prior", "discrete Bernoulli")),
    (lambda: dist.Categorical(torch.ones(3)), ("expected a continuous prior", "discrete Categorical")),
]


@pytest.mark.parametrize(("prior", "words"), PRIORS)
def test_a_prior_is_continuous_proper_and_made_from_valid_arguments(prior, words):
    @nuppl.model
    def model():
        nuppl.observe("x", dist.Normal(nuppl.parameter("k", prior()), 1.0), 0.3)

    if words is None:
        assert check(model).passed
        return
    with pytest.raises(InputError) as refused:
        model.bind()
    for word in ("parameter 'k'", *words):
        assert word in str(refused.value)
    assert "\n" not in str(refused.value)
    (finding,) = check(model).findings
    assert (finding.site, finding.severity) == ("k", "error") and str(refused.value) in finding.message


def test_a_held_site_needs_no_prior():
    @nuppl.model
    def model():
        nuppl.observe("x", dist.Normal(nuppl.parameter("k", dist.Uniform(0.0, torch.inf)) + nuppl.pull("a"), 1.0), 0.3)

    with pytest.raises(InputError, match="proper prior"):
        model.bind()
    assert list(model.bind(fixed={"k": 2.0}).latents) == ["a"]


def test_one_improper_entry_of_a_vector_is_enough():
    @nuppl.model
    def model(high: float = torch.inf):
        with nuppl.plate("bin", 2, dim=-1):
            b = nuppl.parameter("b", dist.Uniform(0.0, torch.tensor([1.0, high])))
            nuppl.observe("x", dist.Normal(b, 1.0), torch.zeros(2))

    with pytest.raises(InputError, match=r"proper prior.* high = 1 to inf"):
        model.bind()
    assert model.bind({"high": 5.0}).sites["b"].prior["high"].flatten().tolist() == [1.0, 5.0]


@pytest.mark.parametrize(
    ("distribution", "data", "words"),
    [
        (lambda a: dist.Uniform(0.0, 1.0), [0.5, 3.0], "the support of Uniform, 0 to 1, got x[far] = 3 (1 of 2"),
        (lambda a: dist.Exponential(1.0), [-0.5, 3.0], "the support of Exponential, got x[near] = -0.5 (1 of 2"),
        (lambda a: dist.Poisson(a.exp()), [1.0, -3.0], "counts of at least 0, got x[far] = -3 (1 of 2"),
        (lambda a: dist.Binomial(4, a.sigmoid()), [1.0, 5.0], "at least 0 and at most 4, got x[far] = 5 (1 of 2"),
    ],
)
def test_data_outside_the_support_are_named(distribution, data, words):
    @nuppl.model
    def model():
        a = nuppl.pull("a")
        with nuppl.plate("detector", ["near", "far"], dim=-1):
            nuppl.observe("x", distribution(a), torch.tensor([0.5, 0.5]).round() if data[0] == 1.0 else None)

    with pytest.raises(InputError) as refused:
        model.bind(data={"x": data})
    assert words in str(refused.value)
    assert model.bind(data={"x": [data[0] if data[0] > 0 else 0.5] * 2}).data["x"].shape == (2,)
