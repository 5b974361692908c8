"""What no command can work with: each gives one clear message, exit code 2 and no traceback, from every command."""

from __future__ import annotations

import subprocess

import pytest

from nuppl.cli.main import main
from nuppl.inference.registry import ENGINES

MODELS = """
import pyro.distributions as dist
import torch

import nuppl

COUNTS = torch.tensor([3.0, 5.0, 4.0])


def bins(distribution):
    with nuppl.plate("bin", ["a", "b", "c"], dim=-1):
        nuppl.observe("counts", distribution, COUNTS)


def rate():
    return nuppl.parameter("rate", dist.Uniform(1.0, 9.0))


@nuppl.model
def right():
    bins(dist.Poisson(rate()))


@nuppl.model
def right_ends():
    bins(dist.Uniform(0.0, 5.0 + rate()))


@nuppl.model
def not_a_number():
    bins(dist.Poisson(rate() - torch.tensor([0.0, 20.0, 0.0])))


@nuppl.model
def impossible():
    bins(dist.Poisson(rate() * torch.tensor([1.0, 0.0, 1.0])))


@nuppl.model
def outside():
    bins(dist.Uniform(3.5, 5.0 + rate()))


@nuppl.model
def improper():
    bins(dist.Poisson(nuppl.parameter("rate", dist.Uniform(0.0, torch.inf))))


@nuppl.model
def discrete():
    bins(dist.Poisson(1.0 + nuppl.parameter("rate", dist.Poisson(4.0))))
"""

BAD = {
    "not_a_number": ("'counts'", "NaN at all", "counts[b] = 5", "rate = -15 (expected at least 0)", "clamp"),
    "impossible": ("'counts'", "zero at all", "counts[b] = 5", "Poisson has rate = 0", "check the data"),
    "outside": ("'counts'", "counts[a] = 3", "the support of its Uniform, 3.5 to 10"),
    "improper": ("'rate'", "expected a proper prior", "Uniform with low = 0 and high = inf", "finite bounds"),
    "discrete": ("'rate'", "expected a continuous prior", "discrete Poisson", "sum it out"),
}
QUICK = ("--draws", "20", "--proposals", "100", "--warmup", "20", "--chains", "2")
QUICK += ("--simulations", "400", "--epochs", "2")
COMMANDS = [("check",), ("fit",), *(("infer", *QUICK, "--engine", name) for name in ENGINES)]


@pytest.fixture
def here(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models.py").write_text(MODELS)

    def run(command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        with pytest.raises(SystemExit) as left:
            main([command, *arguments])
        streams = capsys.readouterr()
        return subprocess.CompletedProcess([command], int(left.value.code), streams.out, streams.err)

    return run


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: f"{command[0]} {command[-1]}".strip("-"))
def test_a_model_that_cannot_work_is_refused_alike(command, name, here, tmp_path):
    done = here(*command, f"models.py:{name}")
    # check reports on stdout, as what it was asked for.
    said = done.stdout if command[0] == "check" else done.stderr
    assert done.returncode == 2 and "Traceback" not in done.stderr, done
    for word in BAD[name]:
        assert word in said, said
    if command[0] != "check":
        assert [line for line in said.splitlines() if line.startswith("error:")] == [said.splitlines()[-1]]
    assert not list(tmp_path.glob("runs/*")), "nothing is left behind"


@pytest.mark.parametrize("name", ["right", "right_ends"])
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: f"{command[0]} {command[-1]}".strip("-"))
def test_its_right_twin_works(command, name, here):
    done = here(*command, f"models.py:{name}")
    # With so few draws the verdict may say no (4), and a fit may end at a bound; neither is a refusal.
    assert done.returncode in (0, 4) and "error:" not in done.stderr, done.stderr
