"""The training loop: interrupted after any epoch it ends the same; bad input has one clear message."""

import io
import math

import numpy as np
import pytest
import torch

from nuppl.errors import InputError
from nuppl.neural import fields, registry, seeds
from nuppl.neural.settings import Training
from nuppl.neural.simulations import Fixed, Fresh
from nuppl.neural.training import train

NAMES = sorted(registry.ESTIMATORS)
SMALL = {name: {"transforms": 2, "width": 16} for name in ("npe", "nle")}
SHORT = Training(epochs=3, least_steps=0, batch=50)


def draw(n, seed):
    randomness = seeds.generator(seed)
    theta = torch.randn(n, 2, generator=randomness, dtype=torch.float64)
    return theta, theta + 0.5 * torch.randn(n, 2, generator=randomness, dtype=torch.float64)


def built(name, seed=0, modules=None):
    return registry.build(
        registry.Config(name, fields.plain("theta", 2), fields.plain("x", 2), options=SMALL.get(name, {})),
        seed,
        modules,
    )


def through_disk(state):
    """What a checkpoint is: written and read without unpickling anything that could run."""
    file = io.BytesIO()
    torch.save(state, file)
    return torch.load(io.BytesIO(file.getvalue()), weights_only=True)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("source", [Fixed(*draw(300, 1)), Fresh(draw, epoch=200, held=100)], ids=["fixed", "fresh"])
@pytest.mark.parametrize("name", NAMES)
def test_killed_after_any_epoch_it_ends_the_same(name, source):
    states = []
    whole = train(built(name), source, SHORT, save=lambda state: states.append(through_disk(state)))
    assert [state["finished"] for state in states] == [False, False, True]
    for state in states:
        # Other first weights: all that matters is in the state.
        resumed = train(built(name, seed=7), source, SHORT, state=state)
        assert same(resumed.estimator.state_dict(), whole.estimator.state_dict())
        assert [row[:4] for row in resumed.history] == [row[:4] for row in whole.history]
        assert resumed.best == whole.best and resumed.simulations == whole.simulations


def test_dropout_of_a_users_module_is_resumed_too():
    def module():
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(0.3))

    states, source = [], Fixed(*draw(300, 1))
    with torch.random.fork_rng(devices=[]):
        whole = train(built("npe", modules={"x": module()}), source, SHORT, save=states.append)
        resumed = train(built("npe", modules={"x": module()}), source, SHORT, state=states[1])
    assert same(resumed.estimator.state_dict(), whole.estimator.state_dict())


def test_the_best_weights_are_kept_and_training_stops_early():
    source = Fixed(*draw(60, 1))
    settings = Training(epochs=400, least_steps=0, batch=16, rate=5e-3, patience=5, average=0.0, schedule="constant")
    seen = []
    done = train(built("npe"), source, settings, progress=lambda n, total, what: seen.append((n, total, what)))
    losses = [row.validation for row in done.history]
    assert len(losses) < 400 and done.best == 1 + losses.index(min(losses)) == len(losses) - 5
    assert seen[0][:2] == (1, 400) and len(seen) == len(losses) and "held-out loss" in seen[0][2]
    with torch.no_grad():
        now = done.estimator.loss(*source.held_out(settings.validation, settings.seed), seeds.generator(0)).mean()
    assert float(now) == pytest.approx(min(losses), abs=1e-5)
    assert not any(weight.requires_grad for weight in done.estimator.parameters())


def test_simulations_are_counted():
    assert train(built("nre"), Fixed(*draw(300, 1)), SHORT).simulations == 300
    assert train(built("nre"), Fresh(draw, epoch=200, held=100), SHORT).simulations == 100 + 3 * 200


def test_held_out_simulations_are_not_trained_on():
    source = Fixed(torch.arange(100.0).unsqueeze(1), torch.arange(100.0).unsqueeze(1))
    held = set(source.held_out(0.2, 3)[0].flatten().tolist())
    batches = [set(theta.flatten().tolist()) for theta, _ in source.batches(0.2, 3, 1, 16)]
    assert len(held) == 20 and len(batches) == source.steps(0.2, 16) == 5
    assert not held & set.union(*batches) and len(set.union(*batches)) == 80
    again = [set(theta.flatten().tolist()) for theta, _ in source.batches(0.2, 3, 2, 16)]
    assert batches != again


def test_a_store_on_disk_gives_what_memory_gives(tmp_path):
    theta, x = draw(300, 1)
    for name, values in (("theta", theta), ("x", x)):
        np.save(tmp_path / f"{name}.npy", values.numpy())
    store = Fixed(*(np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("theta", "x")))
    one, other = (train(built("npe"), source, SHORT).estimator for source in (store, Fixed(theta, x)))
    assert same(one.state_dict(), other.state_dict())


def test_fewer_simulations_than_a_batch():
    with pytest.raises(InputError, match="60 with 6 held out leave 54, fewer than a batch of 128: simulate"):
        train(built("npe"), Fixed(*draw(60, 1)), Training())
    with pytest.raises(InputError, match="60 for an epoch are fewer than a batch of 128"):
        train(built("npe"), Fresh(draw, epoch=60), Training())


@pytest.mark.parametrize("row", range(0, 200, 40))
def test_values_that_are_not_finite_are_found_wherever_they_are(row):
    theta, x = draw(200, 1)
    x[row, 1] = math.nan
    with pytest.raises(InputError, match="simulated data: field 'x' is of kind 'real': expected finite numbers, got"):
        train(built("npe"), Fixed(theta, x), SHORT)


def test_simulations_of_another_shape():
    theta, x = draw(200, 1)
    with pytest.raises(InputError, match=r"simulated data: expected 2 numbers \(x\[2\]\) .* got shape"):
        train(built("npe"), Fixed(theta, torch.cat((x, x), 1)), SHORT)
    with pytest.raises(InputError, match="as many parameters as data, got 200 and 100"):
        Fixed(theta, x[:100])
    with pytest.raises(InputError, match=r"parameters with shape \(n, columns\), got \(200,\)"):
        Fixed(theta[:, 0], x)


def test_a_state_of_another_training_is_refused():
    states, source = [], Fixed(*draw(300, 1))
    train(built("npe"), source, SHORT, save=states.append)
    with pytest.raises(InputError, match=r"other settings: rate was 0.001, is 0.01"):
        train(built("npe"), source, Training(epochs=3, least_steps=0, batch=50, rate=0.01), state=states[0])
    with pytest.raises(InputError, match="expected one of this estimator, but the weights do not fit"):
        train(built("nre"), source, SHORT, state=states[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch": 1}, "batch: expected at least 2, got 1"),
        ({"rate": 0.0}, "rate: expected a number above zero"),
        ({"validation": 1.0}, "validation: expected a share between 0 and 1"),
        ({"average": 1.0}, "average: expected a decay from 0 to below 1"),
        ({"schedule": "cosin"}, r"unknown schedule 'cosin' \(did you mean 'cosine'"),
    ],
)
def test_settings_out_of_range(change, message):
    with pytest.raises(InputError, match=message):
        Training(**change)


def test_the_rate_rises_and_falls():
    settings = Training(rate=1.0)
    rates = [settings.rate_at(step, 1000) for step in range(1000)]
    assert rates[0] < 0.06 and max(rates) > 0.99 and rates[-1] < 1e-4
    assert rates.index(max(rates)) < 30
