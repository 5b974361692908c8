"""Critical values learned from toys of all points."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nuppl.errors import InputError
from nuppl.frequentist.approximate import Approximate
from nuppl.frequentist.critical import critical
from nuppl.frequentist.grid import Grid
from nuppl.frequentist.learned import learn_critical
from nuppl.frequentist.learned_scan import learned_scan
from nuppl.frequentist.partition import Partition
from nuppl.frequentist.profile import profile
from nuppl.language.loading import load_model
from nuppl.language.precision import double_precision
from nuppl.results.checkpoints import Checkpoints

ROOT = Path(__file__).parents[2]
LEVELS = (0.6827, 0.9, 0.95)


@pytest.fixture(autouse=True)
def double():
    with double_precision():
        yield


def measured(mu, seed):
    """The statistic of the bounded Gaussian: mu at least zero."""
    x = mu + torch.randn(mu.shape, generator=torch.Generator().manual_seed(seed))
    return (x - mu).square() - (x - x.clamp(min=0.0)).square()


@pytest.fixture(scope="module")
def learned():
    mu = torch.linspace(0.0, 6.0, 8000, dtype=torch.float64)
    return learn_critical(["mu"], mu[:, None], measured(mu, 5), seed=1)


def test_coverage_is_kept_everywhere_and_on_average(learned):
    points = torch.linspace(0.0, 6.0, 25)[:, None]
    value, error = learned.critical(LEVELS, points)
    toys = measured(points.expand(-1, 20_000).contiguous(), 6)
    covered = torch.stack([(toys <= row[:, None]).double().mean(1) for row in value])
    deviation = covered - torch.tensor(LEVELS)[:, None]
    # 4000 calibrate: one binomial error of the mean is 0.7 %; 4000 teach, about nine parameters' worth.
    assert float(deviation.mean(1).abs().max()) < 0.03
    assert float(deviation.square().mean(1).sqrt().max()) < 0.035
    exact = critical(toys, LEVELS).value
    assert float(((value - exact) / error).square().mean().sqrt()) < 3.0
    assert bool((value.diff(dim=0) > 0).all())


def test_p_values_agree_with_critical_values(learned):
    points = torch.tensor([[0.0], [1.0], [4.0]])
    value, _ = learned.critical([0.9], points)
    p, error = learned.p_value(value[0], points)
    assert float((p - 0.1).abs().max()) < 0.002 and bool((error > 0).all())
    assert float(learned.p_value(torch.full((3,), 1e9), points)[0].min()) > 0.0


def test_leaves_calibrate_what_networks_got_wrong():
    """A network that knows nothing of theta: the tree and the calibrating half make it right in each leaf."""
    x = torch.linspace(0.0, 1.0, 8000)[torch.randperm(8000, generator=torch.Generator().manual_seed(4))]
    t = torch.rand(8000, generator=torch.Generator().manual_seed(3)) * (1.0 + (x > 0.5))
    partition = Partition.grown(x[:4000, None], t[:4000].clamp(max=1.0))
    leaf = partition.leaf(x[4000:, None])
    assert partition.leaves == 2
    assert bool((leaf[x[4000:] < 0.45][:, None] != leaf[x[4000:] > 0.55]).all())


@pytest.mark.parametrize(
    ("theta", "t", "said"),
    [
        (torch.rand(100, 1), torch.rand(100), "at least 2000 toys"),
        (torch.rand(3000, 2), torch.rand(3000), r"\(n, 1\)"),
    ],
)
def test_what_cannot_be_learned_from_is_refused(theta, t, said):
    with pytest.raises(InputError, match=said):
        learn_critical(["mu"], theta, t)


def scanned(name, over, counts):
    program = load_model(ROOT / "models" / f"{name}.py")[0].bind()
    return profile(program, Grid.over(program, over, counts))


def test_without_toys_the_gaussian_is_known():
    """Linear and Gaussian as it is, nothing is approximated of the bounded Gaussian: Feldman and Cousins' numbers."""
    found = scanned("bounded_gaussian", ["mu=0:4"], [5])
    made = Approximate.of(found, 1)
    every = torch.arange(5)
    value = made.inverse(torch.full((5,), 0.9), every)
    assert value.tolist() == pytest.approx([1.64, 2.47, 2.71, 2.71, 2.71], abs=0.12)
    assert float((made.forward(value, every) - 0.9).abs().max()) < 1e-6


def test_an_interrupted_scan_goes_on_to_the_same_values(tmp_path, monkeypatch):
    found = scanned("bounded_gaussian", ["mu=0:4"], [9])
    whole = learned_scan(found, LEVELS, 2048, seed=2)
    monkeypatch.setattr(Checkpoints, "due", lambda self: True)
    save, left = Checkpoints.save, iter(range(4))

    def stop(self, name, state):
        save(self, name, state)
        if next(left, None) is not None:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoints, "save", stop)
    for _ in range(4):
        with pytest.raises(KeyboardInterrupt):
            learned_scan(found, LEVELS, 2048, seed=2, store=Checkpoints(tmp_path))
    again = learned_scan(found, LEVELS, 2048, seed=2, store=Checkpoints(tmp_path))
    assert torch.equal(again.critical[0], whole.critical[0]) and torch.equal(again.p_value[0], whole.p_value[0])
    assert int(whole.thrown.sum()) == 2048 and float((whole.critical[0][1, -1] - 2.71).abs()) < 0.35


def test_too_few_toys_and_several_sets_of_nuisances_are_refused():
    found = scanned("bounded_gaussian", ["mu=0:4"], [5])
    with pytest.raises(InputError, match="at least 2000 toys in all, got 100"):
        learned_scan(found, LEVELS, 100)
    from nuppl.frequentist.nuisances import Nuisances

    with pytest.raises(InputError, match="'profile' or 'prior'"):
        learned_scan(found, LEVELS, 2048, nuisances=replace(Nuisances(), name="berger-boos"))
