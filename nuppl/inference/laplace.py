"""Laplace's approximation: draws of the Gaussian at the highest mode.

The weights p/q are computed beside the draws, as a statement of how good it is; the engine `importance` uses them.
"""

from __future__ import annotations

from nuppl.inference.registry import resolved
from nuppl.language.density import Whitened
from nuppl.language.precision import double_precision
from nuppl.language.program import Program
from nuppl.results.draws import Draws
from nuppl.sampling.modes import laplace_guide
from nuppl.sampling.settings import Settings
from nuppl.sampling.weights import everything, weighted_draws
from nuppl.typing import Progress, silent

__all__ = ["laplace"]


@double_precision()
def laplace(program: Program, settings: Settings, progress: Progress = silent) -> Draws:
    """Draws of the Gaussian approximation, with their importance weights as a certificate."""
    settings = resolved("laplace", settings)
    whitened = Whitened(program)
    guide = laplace_guide(whitened, settings.scratch, progress)
    recorder, said = weighted_draws(whitened, guide, settings.draws, everything, settings, progress)
    return recorder.finish({**said, "modes_missed": guide.missed}, "laplace")
