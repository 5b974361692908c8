"""The example on which samplers are compared: it keeps the contract, and its data are what its docstring says."""

from pathlib import Path

import pytest
import torch

from nuppl.language.loading import load_model
from nuppl.language.simulation import simulate

FILE = str(Path(__file__).parents[2] / "examples" / "near_far.py")


@pytest.fixture(scope="module")
def model():
    return load_model(FILE)[0]


def test_the_data_are_the_draw_that_the_docstring_states(model):
    source = model.function.__globals__
    drawn = simulate(model.bind(fixed=source["TRUTH"]), 1, seed=1)["counts"][0]
    assert torch.equal(drawn, source["COUNTS"])


@pytest.mark.parametrize(("scale", "tolerance"), [(0.0, 1e-8), (0.005, 2e-4), (-0.005, 2e-4)])
def test_templates_equal_the_probability_at_every_node(model, scale, tolerance):
    """Summed over cores, with the response at that energy scale: to rounding at zero, as stated at one deviation."""
    source = model.function.__globals__
    mixing = source["oscillation"].ThreeFlavor(**source["TRUTH"])
    events, unoscillated = events_at(source, mixing, scale), events_at(source, None, 0.0)
    expected = events * (source["SIGNAL"] / unoscillated.sum(-1))[:, None]
    found = source["oscillated"](mixing, torch.full((2, 1), scale, dtype=torch.float64))
    assert found.shape == (2, 35)
    assert torch.allclose(found, expected, rtol=tolerance, atol=0.0)


def events_at(source, mixing, scale):
    """Events per target with shape (2, 35), without templates; without oscillation where `mixing` is None."""
    nodes = source["ibd"].segments(source["DEPOSITED"], torch.empty(0, dtype=torch.float64))
    baselines = (source["DISTANCES"] ** 2 + source["CORES"] ** 2).sqrt()[..., None]
    survival = torch.ones(*baselines.shape[:2], len(nodes.energy), dtype=torch.float64)
    if mixing is not None:
        survival = source["oscillation"].probability(mixing, nodes.energy, baselines, initial="e", final="e")
    shares = source["FISSIONS"].items()
    flux = sum(share * source["fluxes"].huber_mueller(name, nodes.energy) for name, share in shares)
    energy = 0.5 * (source["DEPOSITED"][1:] + source["DEPOSITED"][:-1])
    sigma = source["RESOLUTION"] * energy.sqrt()
    response = torch.special.ndtr((source["PROMPT"][:, None] - (1.0 + scale) * energy) / sigma).diff(dim=0)
    return (survival * baselines**-2).sum(-2) * flux @ nodes.kernel.T @ response.T
