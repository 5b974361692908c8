"""One Pyro handler under every role of a program, and the sums over its lanes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
from pyro.distributions.util import scale_and_mask
from pyro.poutine.messenger import Messenger
from pyro.poutine.subsample_messenger import _Subsample
from torch import Tensor

from nuppl.errors import InputError
from nuppl.language.plates import PLATE_DIMS
from nuppl.language.sites import Declared

__all__ = ["Visit", "declared", "lane_sum", "log_prob"]


class Visit(Messenger):  # type: ignore[misc]
    """Call `visit(message)` at every sample site, after the plates and scopes of the program have done their work.

    `visit` gives the site its value by setting `msg["value"]`; without one the site is drawn.
    """

    def __init__(self, visit: Callable[[Any], None]) -> None:
        super().__init__()
        self.visit = visit
        self.seen: set[str] = set()

    def _pyro_sample(self, msg: Any) -> None:
        if msg["infer"].get("_deterministic"):
            return
        name = msg["name"]
        _refuse_foreign(msg)
        if name in self.seen:
            raise InputError(
                f"site {name!r} appears twice in the program: expected each name once; "
                "use another name, or nuppl.scope for a second copy of an experiment"
            )
        self.seen.add(name)
        self.visit(msg)
        msg["done"] = msg["value"] is not None

    def _pyro_param(self, msg: Any) -> None:
        raise InputError(
            f"pyro.param({msg['name']!r}) in a model: expected only sample sites; a network enters as a frozen module "
            "or as latent weights"
        )


def _refuse_foreign(msg: Any) -> None:
    if isinstance(msg["fn"], _Subsample):
        raise InputError(
            f"pyro.plate({msg['name']!r}) in a model: expected nuppl.plate({msg['name']!r}, coordinates, dim=-k), "
            "which leaves no site of its own; there is no subsampling"
        )
    if isinstance(msg["fn"], dist.Unit):
        raise InputError(
            f"pyro.factor({msg['name']!r}) in a model: expected a data site, which can be simulated too; "
            "write the term as nuppl.observe(name, distribution, data)"
        )


def declared(msg: Any) -> Declared:
    """What the model file said of a site; a plain Pyro site is a parameter, or data where it is observed."""
    known = msg["infer"].get("nuppl")
    if isinstance(known, Declared):
        return known
    return Declared("data" if msg["is_observed"] else "parameter")


def log_prob(msg: Any, value: Tensor) -> Tensor:
    """The site's log density at `value`, with shape (*batch), under the program's own masks and scales."""
    try:
        raw = _density(msg["fn"], value)
    except InputError as error:
        raise InputError(
            f"site {msg['name']!r}: {error}; engines that need a density cannot use it, "
            "only simulation and simulation-based engines can"
        ) from None
    return scale_and_mask(raw, msg["scale"], msg["mask"])  # type: ignore[no-any-return]


def _density(fn: Any, value: Tensor) -> Tensor:
    if type(fn) is dist.Poisson and not fn._validate_args:
        # Pyro's own would take the factorial of each count once per lane.
        found: Tensor = value.xlogy(fn.rate) - fn.rate - (value + 1.0).lgamma()
        return found
    return fn.log_prob(value)  # type: ignore[no-any-return]


def lane_sum(log_density: Tensor, name: str, batch: tuple[int, ...] = ()) -> Tensor:
    """Sum over the plates, keeping the lanes: shape (n, *plates) to (n) or (1).

    Raises:
        InputError: a log density larger than the lanes and the plates `batch` of the site.
    """
    shape = log_density.shape
    fits = all(size in (1, plate) for size, plate in zip(reversed(shape), reversed(batch), strict=False))
    if len(shape) > PLATE_DIMS + 1 or not fits:
        raise InputError(
            f"site {name!r}: its log density has shape {tuple(shape)}, expected no more than (lanes, "
            f"{', '.join(map(str, batch)) or f'{PLATE_DIMS} plate axes'}); was an internal axis left behind or reduced "
            "without keepdim=True, or a vector made an event with to_event instead of a plate?"
        )
    padded = log_density.reshape((1,) * (PLATE_DIMS + 1 - len(shape)) + shape)
    return padded.sum(tuple(range(-PLATE_DIMS, 0)))
