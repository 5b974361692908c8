"""Vacuum oscillation against nuSQuIDS and NuOscProbExact, two codes written independently of ours and of each other.

Both take the Hamiltonian or the angles in natural units; their own constant is pinned to `units.OSCILLATION_PHASE`.
"""

import math
from typing import Any

import numpy as np
import pytest
import torch

from nuppl import units
from nuppl.physics.oscillation import FourFlavor, ThreeFlavor, probability

REASON = "the optional extra 'peers' is not installed"
ACTIVE = {"sin2_theta13": 0.0217, "sin2_theta12": 0.307, "sin2_theta23": 0.56, "delta_cp": 1.2, "dm2_21": 7.5e-5}
STERILE = {"sin2_theta14": 0.1, "sin2_theta24": 0.06, "sin2_theta34": 0.12, "delta_14": 0.7, "delta_24": 2.1}
LENGTH_OVER_ENERGY = (0.0, 3.0, 410.0, 533.0, 12_742.0)  # km/GeV
# The last has a phase of 2e4 rad in 3+1, where NuOscProbExact is 2e-9 away from nuSQuIDS and from us, who agree to
# 1e-12; test_oscillation.py settles such a point with fifty digits.
STIFF = 4


def parameters(flavors: int, dm2_31: float) -> dict[str, float]:
    sterile = STERILE | {"dm2_41": 1.3} if flavors == 4 else {}
    return ACTIVE | {"dm2_31": dm2_31} | sterile


def ours(values: dict[str, float], antineutrino: bool) -> np.ndarray:
    mixing = FourFlavor(**values) if "dm2_41" in values else ThreeFlavor(**values)
    ratio = torch.tensor(LENGTH_OVER_ENERGY, dtype=torch.float64)
    return probability(mixing, 2.0, 2.0 * ratio, antineutrino=antineutrino).numpy()


def nu_squids(values: dict[str, float], antineutrino: bool) -> np.ndarray:
    """nuSQuIDS (Arguelles, Salvado, Weaver, arXiv:2112.13804) in single-energy mode, in vacuum."""
    squids = pytest.importorskip("nuSQuIDS", reason=REASON)
    flavors = 4 if "dm2_41" in values else 3
    helicity = squids.NeutrinoType.antineutrino if antineutrino else squids.NeutrinoType.neutrino
    solver = squids.nuSQUIDS(flavors, helicity)
    for name, value in values.items():
        kind, states = name.split("theta") if "theta" in name else name.split("_")[:2]
        i, j = (0, 2) if name == "delta_cp" else sorted(int(state) - 1 for state in states)
        if kind == "sin2_":
            solver.Set_MixingAngle(i, j, math.asin(math.sqrt(value)))
        elif kind == "dm2":
            solver.Set_SquareMassDifference(j, value)
        else:
            solver.Set_CPPhase(i, j, value)
    solver.Set_E(2.0 * squids.Const().GeV)
    solver.Set_Body(squids.Vacuum())
    # its kilometre in 1/eV is scaled to our constant
    kilometre = 4.0 * units.OSCILLATION_PHASE * squids.Const().GeV
    lengths = [2.0 * ratio * kilometre for ratio in LENGTH_OVER_ENERGY]
    return np.array([[squids_row(solver, squids, length, row) for row in range(flavors)] for length in lengths])


def squids_row(solver: Any, squids: Any, length: float, initial: int) -> list[float]:
    flavors = solver.GetNumNeu()
    solver.Set_Track(squids.Vacuum.Track(length))
    solver.Set_initial_state(np.eye(flavors)[initial], squids.Basis.flavor)
    solver.EvolveState()  # exact in vacuum: the state rotates in the interaction picture
    return [solver.EvalFlavor(final) for final in range(flavors)]


def nu_osc_prob_exact(values: dict[str, float], antineutrino: bool) -> np.ndarray:
    """NuOscProbExact (Bustamante, arXiv:1904.12391): SU(3) and SU(4) expansions of exp(-i H L)."""
    sines = {name[-2:]: math.sqrt(value) for name, value in values.items() if "theta" in name}
    delta_cp = values["delta_cp"]
    if "dm2_41" not in values:
        hamiltonians = pytest.importorskip("hamiltonians3nu", reason=REASON)
        probabilities = pytest.importorskip("oscprob3nu", reason=REASON).probabilities_3nu
        matrix = hamiltonians.hamiltonian_3nu_vacuum_energy_independent(
            sines["12"], sines["23"], sines["13"], delta_cp, values["dm2_21"], values["dm2_31"]
        )
    else:
        hamiltonians = pytest.importorskip("hamiltonians4nu", reason=REASON)
        probabilities = pytest.importorskip("oscprob4nu", reason=REASON).probabilities_4nu
        matrix = hamiltonians.hamiltonian_4nu_vacuum_energy_independent(
            *(sines[name] for name in ("12", "23", "13", "14", "24", "34")),
            *(values[name] for name in ("delta_cp", "dm2_21", "dm2_31", "dm2_41", "delta_14", "delta_24")),
        )
    matrix = np.conj(matrix) if antineutrino else np.asarray(matrix)
    flavors = len(matrix)
    lengths = [4.0 * units.OSCILLATION_PHASE * ratio for ratio in LENGTH_OVER_ENERGY]
    return np.array([np.reshape(probabilities(matrix, length), (flavors, flavors)) for length in lengths])


@pytest.mark.parametrize("peer", [nu_squids, nu_osc_prob_exact])
@pytest.mark.parametrize("flavors", [3, 4])
@pytest.mark.parametrize("dm2_31", [2.5e-3, -2.4e-3])
@pytest.mark.parametrize("antineutrino", [False, True])
def test_all_channels_agree(peer: Any, flavors: int, dm2_31: float, antineutrino: bool) -> None:
    values = parameters(flavors, dm2_31)
    expected = peer(values, antineutrino)
    assert expected.shape == (len(LENGTH_OVER_ENERGY), flavors, flavors)
    points = slice(STIFF if peer is nu_osc_prob_exact and flavors == 4 else None)
    np.testing.assert_allclose(ours(values, antineutrino)[points], expected[points], rtol=0, atol=1e-9)
