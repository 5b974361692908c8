"""Toys of a program. Where a network stands in for data sites, the program itself throws them.

Latents that the network does not know were integrated over their priors by its simulations: of these each toy draws its
own, which is what the learned density describes.
"""

from __future__ import annotations

from nuppl.errors import InputError
from nuppl.language.program import Program
from nuppl.language.simulation import TILE, Toys, toys
from nuppl.learning.surrogate import Surrogate
from nuppl.typing import Values

__all__ = ["simulator", "throw"]


def simulator(program: Program) -> Program:
    """The program that data come from."""
    model = program.model
    if not isinstance(model, Surrogate):
        return program
    held = {**model.plan(program.options).learned.fixed, **program.fixed}
    return Program(model.original, program.options, held, program.data, program.outside)


def throw(program: Program, n: int, *, seed: int, at: Values, predictive: bool = False, tile: int = TILE) -> Toys:
    """Pseudo-experiments at true values.

    Arguments:
        program: whose latents they are; a network may stand in for its data.
        n: how many.
        seed: the root seed.
        at: {latent: (*site) or (n, *site)}.
        predictive: whether latents without a value are drawn from their priors, centres of pulls then staying as they
            are; for a network in the program, those that it does not know always are.
        tile: lanes per tile.

    Raises:
        InputError: a latent without a value, or a simulator that failed.
    """
    source = simulator(program)
    missing = [name for name in program.latents if name not in at]
    if missing and not predictive:
        raise InputError(f"toys: expected a true value for every latent, missing {', '.join(missing)}")
    drawn = toys(source, n, seed=seed, at=at, tile=tile, predictive=predictive or source is not program)
    for name, value in drawn.data.items():
        lost = int((~value.isfinite()).reshape(n, -1).any(1).sum())
        if lost:
            raise InputError(
                f"toys: the simulator of {name!r} failed in {lost} of {n}: expected one that gives finite data "
                "wherever it is asked; scan a smaller range, or mend it"
            )
    return Toys(drawn.data, {name: value for name, value in drawn.centers.items() if name in program.latents})
