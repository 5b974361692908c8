"""Models, options, the table of sites, fixed sites, data, terms; plain Pyro on a nuppl model."""

import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Predictive, Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from pyro.optim import Adam

import nuppl
from nuppl.errors import InputError
from nuppl.language.density import Whitened

COUNTS = torch.tensor([[9.0, 11.0, 14.0], [3.0, 4.0, 6.0]], dtype=torch.float64)


@nuppl.model(interest="signal", reference={"signal": 0.0}, starts=[{"signal": 5.0}])
def analysis(
    background: float = 3.0, flux: str = "HM", detectors: int = 2, shape: bool = True, tags: tuple = ("a", "b")
):
    """Signal over background in two detectors and three bins, with every kind of site."""
    signal = nuppl.parameter("signal", dist.Uniform(0.0, 20.0), unit="events", label="s", nominal=4.0)
    width = nuppl.parameter("width", dist.HalfNormal(1.0))
    shift = nuppl.random_effect("shift", dist.Normal(0.0, 0.1 + width))
    gamma = nuppl.auxiliary("gamma", dist.Gamma(2.0, 1.0), lambda g: dist.Poisson(20.0 * g), 17)
    with nuppl.plate("detector", ["near", "far"], dim=-2):
        efficiency = nuppl.pull("efficiency", dist.Normal(1.0, 0.1))
        with nuppl.plate("bin", 3, dim=-1):
            rate = efficiency * (signal + background * gamma) + 0.01 * shift
            nuppl.observe("counts", dist.Poisson(rate.clamp(min=1e-3)), COUNTS)
    correlated = nuppl.pull(
        "correlated", dist.MultivariateNormal(torch.zeros(2), torch.tensor([[1.0, 0.3], [0.3, 2.0]]))
    )
    nuppl.observe("x", dist.Normal(correlated.sum(-1), 1.0), 0.2)


def draws(n, seed=0):
    from nuppl.language.simulation import simulate

    program = analysis.bind()
    drawn = simulate(program, n, seed=seed, tile=n)
    return {name: drawn[name] for name in program.latents}


def plain_trace(point):
    """Pyro's own trace at one point."""
    sites = analysis.bind().sites
    given = {name: value.reshape(sites[name].plain_shape) for name, value in point.items()}
    trace = poutine.trace(poutine.condition(analysis, data=given)).get_trace()
    trace.compute_log_prob()
    return trace


def test_terms_are_those_of_plain_pyro():
    values = draws(6)
    terms = analysis.bind().terms(values)
    kinds = {
        "prior": ["signal", "width", "gamma"],
        "pull": ["efficiency", "correlated"],
        "random_effect": ["shift"],
        "data": ["counts", "gamma_measured", "x"],
    }
    for i in range(6):
        trace = plain_trace({name: value[i] for name, value in values.items()})
        for kind, names in kinds.items():
            expected = sum(float(trace.nodes[name]["log_prob_sum"]) for name in names)
            assert float(getattr(terms, kind)[i]) == pytest.approx(expected, rel=1e-12)
        assert float(terms.posterior[i]) == pytest.approx(float(trace.log_prob_sum()), rel=1e-12)
    torch.testing.assert_close(terms.likelihood, terms.pull + terms.random_effect + terms.data)


def test_one_value_serves_all_lanes():
    values = draws(4)
    one = {name: value[0] for name, value in values.items()}
    mixed = analysis.bind().terms({**one, "signal": values["signal"]})
    each = [analysis.bind().terms({**one, "signal": signal}).posterior for signal in values["signal"]]
    torch.testing.assert_close(mixed.posterior, torch.cat(each), rtol=1e-13, atol=0.0)


def test_a_latent_with_many_lanes_makes_all_terms_as_long():
    @nuppl.model
    def effect_only():
        width = nuppl.parameter("width", dist.HalfNormal(1.0))
        nuppl.random_effect("shift", dist.Normal(0.0, width))

    terms = effect_only.bind().terms({"width": torch.tensor(1.0), "shift": torch.zeros(5)})
    assert [len(term) for term in terms] == [5, 5, 5, 5]


def test_pointwise_terms_sum_to_the_data_term():
    values = draws(5)
    program = analysis.bind()
    pointwise = program.pointwise(values)
    assert {name: tuple(term.shape[1:]) for name, term in pointwise.items()} == {
        "gamma_measured": (),
        "counts": (2, 3),
        "x": (),
    }
    total = sum(term.reshape(len(term), -1).sum(1) for term in pointwise.values())
    torch.testing.assert_close(total.expand(5), program.terms(values).data, rtol=1e-13, atol=0.0)


def test_means_and_variances_of_the_data():
    values = draws(5)
    moments = analysis.bind().moments(values)
    mean, variance = moments["counts"]
    assert mean.shape == (5, 2, 3)
    expected = (
        values["efficiency"] * (values["signal"] + 3.0 * values["gamma"])[:, None] + 0.01 * values["shift"][:, None]
    )
    torch.testing.assert_close(mean, expected[..., None].expand(5, 2, 3))
    torch.testing.assert_close(variance, mean)


def test_the_table_of_sites():
    sites = analysis.bind().sites
    kinds = {name: site.kind for name, site in sites.items()}
    assert kinds == {
        "signal": "parameter",
        "width": "parameter",
        "shift": "random_effect",
        "gamma": "parameter",
        "gamma_measured": "data",
        "efficiency": "pull",
        "counts": "data",
        "correlated": "pull",
        "x": "data",
    }
    assert [name for name, site in sites.items() if site.conditional] == ["shift"]
    assert [name for name, site in sites.items() if site.auxiliary] == ["gamma_measured"]
    assert sites["signal"].unit == "events" and sites["signal"].label == "s"
    assert (float(sites["signal"].lower), float(sites["signal"].upper)) == (0.0, 20.0)
    assert sites["correlated"].shape == (2,) and sites["efficiency"].shape == (2,)
    assert all(site.dtype == torch.float64 for site in sites.values())


def test_nominal_values_are_given_medians_or_means():
    nominal = analysis.bind().nominal()
    assert float(nominal["signal"]) == 4.0
    assert float(nominal["width"]) == pytest.approx(0.6744897501960817, rel=1e-12)
    assert float(nominal["gamma"]) == 2.0, "the mean of a Gamma, whose median has no closed form"
    assert nominal["efficiency"].tolist() == [1.0, 1.0]


def test_conditional_sites_are_seen_without_gradients_in_force():
    with torch.no_grad():
        assert analysis.bind().sites["shift"].conditional


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"background": "2.5"}, ("background", 2.5)),
        ({"background": 2}, ("background", 2)),
        ({"flux": "EF"}, ("flux", "EF")),
        ({"detectors": "3"}, ("detectors", 3)),
        ({"shape": "no"}, ("shape", False)),
        ({"shape": "True"}, ("shape", True)),
        ({"tags": "c, d,"}, ("tags", ("c", "d"))),
    ],
)
def test_options_are_converted(given, expected):
    assert analysis.bind(given).options[expected[0]] == expected[1]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"backgroud": 1.0}, "unknown option 'backgroud' (did you mean 'background'?)"),
        ({"background": "much"}, "option 'background': expected a float, got 'much'"),
        ({"detectors": "2.5"}, "option 'detectors': expected a int, got '2.5'"),
        ({"shape": "perhaps"}, "option 'shape': expected true or false, got 'perhaps'"),
    ],
)
def test_wrong_options_are_refused(given, message):
    with pytest.raises(InputError) as error:
        analysis.bind(given)
    assert message in str(error.value)


def test_options_need_defaults():
    with pytest.raises(InputError, match="each needs a default; rate has none"):

        @nuppl.model
        def broken(rate, background=1.0):
            pass


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"interest": "signl"}, "unknown interest 'signl' (did you mean 'signal'?)"),
        ({"reference": {"sgnal": 0.0}}, "unknown reference 'sgnal'"),
        ({"starts": [{"sigma": 0.0}]}, "unknown start 'sigma'"),
        ({"panels": {"both": ["near", "fra"]}}, "unknown entry of panel 'both' 'fra' (did you mean 'far'?)"),
    ],
)
def test_names_in_the_decorator_must_be_sites(wrong, message):
    with pytest.raises(InputError) as error:
        nuppl.model(**wrong)(analysis.function).bind()
    assert message in str(error.value)


def test_panels_may_name_entries_that_a_chosen_option_leaves_out():
    @nuppl.model(panels={"all": ("near", "far")})
    def detectors(names: tuple[str, ...] = ("near", "far")):
        rate = nuppl.parameter("rate", dist.Uniform(0.0, 9.0))
        with nuppl.plate("detector", names, dim=-2), nuppl.plate("bin", 3, dim=-1):
            nuppl.observe("counts", dist.Poisson(rate), torch.ones(len(names), 3))

    assert detectors.bind().sites["counts"].shape == (2, 3)
    assert detectors.bind({"names": "near"}).sites["counts"].shape == (1, 3)


def test_fixed_sites():
    values = draws(3)
    program = analysis.bind(fixed={"signal": 2.0, "efficiency": [0.9, 1.1]})
    assert list(program.latents) == ["width", "shift", "gamma", "correlated"]
    assert {name: value.tolist() for name, value in program.fixed.items()} == {"signal": 2.0, "efficiency": [0.9, 1.1]}
    assert program.interest == ("width", "gamma")
    free = {**values, "signal": torch.tensor(2.0), "efficiency": torch.tensor([0.9, 1.1], dtype=torch.float64)}
    torch.testing.assert_close(program.terms(values).data, analysis.bind().terms(free).data)


def test_with_keeps_what_was_fixed_before():
    program = analysis.bind(fixed={"efficiency": [0.9, 1.1], "signal": 2.0})
    more = program.with_(fixed={"width": 0.5}, data={"x": 1.0})
    assert sorted(more.fixed) == ["efficiency", "signal", "width"]
    assert more.fixed["efficiency"].tolist() == [0.9, 1.1]
    assert float(more.data["x"]) == 1.0 and torch.equal(more.data["counts"], COUNTS)
    assert float(more.with_(fixed={"signal": 3.0}).fixed["signal"]) == 3.0


def test_values_outside_the_prior_are_asked_for():
    with pytest.raises(InputError, match="value of 'signal': expected between 0 and 20 events, got -1"):
        analysis.bind(fixed={"signal": -1.0})
    outside = analysis.bind().with_(fixed={"signal": -1.0}, outside=True)
    assert float(outside.fixed["signal"]) == -1.0
    assert float(outside.with_(fixed={"width": 0.5}).fixed["signal"]) == -1.0


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"counts": COUNTS.T}, "data of site 'counts': expected shape (2, 3) (detector: 2, bin: 3), got (3, 2)"),
        ({"counts": COUNTS.log().sub(100.0)}, "of at least 0, got counts[near, 0] = -97.8028 (6 of 6 entries"),
        ({"counts": COUNTS * torch.nan}, "got NaN or infinity in 6 of 6"),
        ({"x": torch.inf}, "got NaN or infinity in 1 of 1"),
        ({"count": COUNTS}, "unknown data site 'count' (did you mean 'counts'?)"),
    ],
)
def test_wrong_data_are_refused(data, message):
    with pytest.raises(InputError) as error:
        analysis.bind(data=data)
    assert message in str(error.value)


def test_data_are_replaced_in_three_ways():
    values, new = draws(3), 2.0 * COUNTS
    bound = analysis.bind(data={"counts": new})
    torch.testing.assert_close(bound.terms(values).data, analysis.bind().terms(values, {"counts": new}).data)
    torch.testing.assert_close(bound.terms(values).data, analysis.bind().with_(data={"counts": new}).terms(values).data)
    assert not torch.allclose(bound.terms(values).data, analysis.bind().terms(values).data)


def test_data_may_differ_from_lane_to_lane():
    values = draws(3)
    many = torch.stack([COUNTS, COUNTS + 1.0, COUNTS + 2.0])
    together = analysis.bind().terms(values, {"counts": many}).data
    each = [analysis.bind().terms({k: v[i] for k, v in values.items()}, {"counts": many[i]}).data for i in range(3)]
    torch.testing.assert_close(together, torch.cat(each), rtol=1e-13, atol=0.0)


def test_the_support_of_data_may_move_with_a_latent():
    @nuppl.model
    def ruler():
        length = nuppl.parameter("length", dist.Uniform(0.0, 10.0), nominal=1.0)
        nuppl.observe("x", dist.Uniform(0.0, length), 3.0)

    terms = ruler.bind().terms({"length": torch.tensor([1.0, 5.0])})
    assert terms.data.tolist() == [-torch.inf, pytest.approx(-torch.tensor(5.0).log().item(), rel=1e-6)]


def test_a_pull_is_gaussian():
    with pytest.raises(InputError, match=r"pull 'a': expected a Normal .* got Poisson; use nuppl.auxiliary"):
        nuppl.pull("a", dist.Poisson(3.0))


def test_a_held_random_effect_is_an_observation():
    program = analysis.bind(fixed={"shift": 0.3})
    with pytest.raises(InputError, match=r"site 'shift' is held, but its Normal depends on another latent"):
        Whitened(program)
    assert Whitened(analysis.bind(fixed={"shift": 0.3, "width": 1.0})).dim == 6


def test_outside_inference_observations_are_returned_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert nuppl.observe("n", dist.Poisson(3.0), 7).dtype == torch.float64
        nuppl.auxiliary("g", dist.Gamma(2.0, 1.0), lambda g: dist.Poisson(g), 3.0)


# Plain Pyro on a nuppl model.


def test_pyro_trace_and_condition():
    trace = poutine.trace(poutine.condition(analysis, data={"signal": torch.tensor(2.0)})).get_trace(background=1.0)
    assert [n for n in trace.nodes if trace.nodes[n]["type"] == "sample"] == list(analysis.bind().sites)
    assert trace.nodes["counts"]["is_observed"] and trace.nodes["signal"]["value"] == 2.0
    assert trace.nodes["width"]["value"].dtype == torch.float64
    assert trace.nodes["signal"]["infer"]["nuppl"].unit == "events"
    assert torch.get_default_dtype() == torch.float32


# A plate of nuppl leaves no site; Pyro's guides make plates of their own, and Pyro says so.
@pytest.mark.filterwarnings("ignore:Found plate statements in guide")
def test_pyro_svi_takes_steps():
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    svi = SVI(analysis, AutoNormal(analysis), Adam({"lr": 0.05}), Trace_ELBO())
    losses = [svi.step() for _ in range(60)]
    assert sum(losses[-10:]) < sum(losses[:10])
    pyro.clear_param_store()


def test_pyro_predictive():
    pyro.set_rng_seed(0)
    drawn = Predictive(analysis, num_samples=4)()
    assert drawn["efficiency"].shape == (4, 2, 1) and drawn["shift"].shape == (4, 1, 1)


def test_a_model_inside_a_model():
    @nuppl.model
    def outer():
        with nuppl.scope("inner"):
            analysis(background=1.0)
        nuppl.parameter("extra", dist.Normal(0.0, 1.0))

    program = outer.bind()
    assert len(program.sites) == len(analysis.bind().sites) + 1
    values = draws(3)
    nested = program.terms({f"inner_{k}": v for k, v in values.items()} | {"extra": torch.zeros(3)})
    torch.testing.assert_close(nested.likelihood, analysis.bind({"background": 1.0}).terms(values).likelihood)


def test_plain_pyro_sites_are_parameters_and_data():
    def program():
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        pyro.deterministic("twice", 2.0 * mu)
        pyro.sample("x", dist.Normal(mu, 1.0), obs=torch.tensor(0.5))

    sites = nuppl.Model(program).bind().sites
    assert {name: site.kind for name, site in sites.items()} == {"mu": "parameter", "x": "data"}
