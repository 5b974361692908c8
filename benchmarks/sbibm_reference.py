"""Observations and reference draws of the classical tasks, read from the wheel of sbibm, and its published figures.

`pip download --no-deps sbibm` gives the wheel; it is read where it lies and never installed. Lueckmann, Boelts,
Greenberg, Goncalves, Macke, Benchmarking Simulation-Based Inference, arXiv:2101.04653.
"""

import bz2
import csv
import io
import zipfile
from pathlib import Path

import torch

from nuppl.language.loading import load_models

__all__ = ["PUBLISHED", "TASKS", "observation", "reference", "task", "truth"]

TASKS = (
    "two_moons",
    "gaussian_linear",
    "gaussian_mixture",
    "bernoulli_glm",
    "gaussian_linear_uniform",
    "slcp",
    "sir",
    "lotka_volterra",
)

PUBLISHED = {
    "two_moons": {1_000: (0.725, 0.773, 0.822), 10_000: (0.606, 0.713, 0.761)},
    "slcp": {1_000: (0.975, 0.946, 0.972), 10_000: (0.901, 0.771, 0.947)},
    "gaussian_linear": {1_000: (0.694, 0.650, 0.672), 10_000: (0.552, 0.555, 0.560)},
    "gaussian_linear_uniform": {1_000: (0.696, 0.723, 0.788), 10_000: (0.553, 0.548, 0.706)},
    "gaussian_mixture": {1_000: (0.716, 0.740, 0.777), 10_000: (0.615, 0.723, 0.748)},
    "bernoulli_glm": {1_000: (0.863, 0.740, 0.899), 10_000: (0.678, 0.605, 0.812)},
    "sir": {1_000: (0.815, 0.761, 0.841), 10_000: (0.680, 0.748, 0.770)},
    "lotka_volterra": {1_000: (0.999, 0.994, 1.000), 10_000: (0.997, 0.956, 0.998)},
}
"""Mean C2ST over ten observations of NPE, NLE and NRE, by task and simulations."""


def task(name):
    """The model of a task."""
    return load_models(Path(__file__).parent / "sbibm" / f"{name}.py")[name]


def observation(wheel, name, number):
    """The flat data of observation 1 to 10, with shape (M,)."""
    return _read(wheel, name, number, "observation.csv")[0]


def truth(wheel, name, number):
    """The parameters that an observation was drawn with, with shape (D,)."""
    return _read(wheel, name, number, "true_parameters.csv")[0]


def reference(wheel, name, number):
    """Draws of the posterior of an observation, with shape (10000, D)."""
    return _read(wheel, name, number, "reference_posterior_samples.csv.bz2")


def _read(wheel, name, number, file):
    with zipfile.ZipFile(wheel) as archive:
        found = archive.read(f"sbibm/tasks/{name}/files/num_observation_{number}/{file}")
    text = (bz2.decompress(found) if file.endswith(".bz2") else found).decode()
    rows = list(csv.reader(io.StringIO(text)))[1:]
    return torch.tensor([[float(value) for value in row] for row in rows], dtype=torch.float64)
