"""A trained posterior on disk: guide.json says what it is of, guide.pt holds tensors only.

It serves any data of the model that it was trained on, and refuses others: sites, shapes and fixed values are compared,
and so are what priors and expected data give at a few points.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from nuppl.errors import InputError, RunFolderError
from nuppl.language.density import Whitened
from nuppl.language.program import Program
from nuppl.learning.amortised import Amortised
from nuppl.learning.reading import Anchor, Estimate, Reading, Regression
from nuppl.learning.simulated import data_fields, latent_values, whitened_layout
from nuppl.neural.estimator import Estimator
from nuppl.neural.fields import Field
from nuppl.neural.registry import Config, build
from nuppl.results.checkpoints import Checkpoints
from nuppl.results.files import whole
from nuppl.sampling.guides import standard_normals
from nuppl.sampling.linear import Linear
from nuppl.sampling.marginal import Marginal
from nuppl.sampling.settings import GUIDE, GUIDES

__all__ = [
    "keep_guide",
    "marginal_state",
    "open_network",
    "read_guide",
    "reading_state",
    "restore",
    "restored_marginal",
    "restored_reading",
    "write_network",
]

_POINTS = 3
"""Points at which two models are compared."""

_SAME = 1e-6
"""Relative difference that a change of machine explains."""

_ESTIMATE, _REGRESSION = ("columns", "jacobian", "deviation"), ("loc", "scale", "slope")
_MARGINAL = ("outer", "inner", "loc")
_LINEAR = ("right", "tight", "slopes", "moving", "loc", "width", "variance")
_ANCHOR = ("loc", "scale", "products", "mean", "log_scale", "lowest", "highest")


def keep_guide(folder: Path | None, amortised: Amortised, program: Program) -> None:
    """Write a trained posterior.

    Raises:
        RunFolderError: the folder cannot be written.
    """
    if folder is None:
        return
    reading, marginal = amortised.reading, amortised.marginal
    tensors = {
        "columns": amortised.columns,
        "reading": reading_state(reading),
        "anchor": _parts(amortised.anchor, _ANCHOR),
        **({} if amortised.observed is None else {"observed": amortised.observed}),
        **marginal_state(marginal),
    }
    write_network(folder, amortised, {}, tensors, program)


class Network(Protocol):
    """What every trained network has."""

    @property
    def config(self) -> Config: ...
    @property
    def members(self) -> Sequence[Estimator]: ...
    @property
    def history(self) -> list[list[dict[str, float]]]: ...
    @property
    def simulations(self) -> int: ...
    @property
    def failed(self) -> int: ...


def write_network(
    folder: Path, network: Network, described: Mapping[str, Any], tensors: Mapping[str, Any], program: Program
) -> None:
    """Write a trained network of any kind, as `open_network` reads it.

    Arguments:
        described: what belongs into guide.json beside that which every network has.
        tensors: what belongs into guide.pt beside weights.
    """
    said = {
        "config": network.config.as_json(),
        "members": len(network.members),
        "simulations": network.simulations,
        "failed": network.failed,
        "training": network.history,
        "program": _described(program),
        **described,
    }
    weights = [member.state_dict() for member in network.members]
    Checkpoints(folder).save("guide", {"members": weights, **tensors, "fingerprint": _fingerprint(program)})
    try:
        with whole(folder / GUIDE) as partial:
            partial.write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise RunFolderError(f"guide {str(folder / GUIDE)!r} could not be written: {error}") from error


def read_guide(folder: Path) -> dict[str, Any]:
    """What guide.json in a run says.

    Raises:
        InputError: no such run, or one without a trained guide.
    """
    try:
        found = json.loads((folder / GUIDE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict) or not {"config", "members", "program"} <= found.keys():
        raise InputError(
            f"guide {str(folder)!r}: expected one of {', '.join(GUIDES)}, or the folder of a run of npe, fmpe or npse, "
            f"or of a surrogate, with its {GUIDE}"
        )
    return found


def restore(folder: Path, name: str, program: Program, whitened: Whitened | None) -> Amortised:
    """A trained posterior for the data of a program.

    Arguments:
        folder: of the run that trained it.
        name: the estimator it must be.

    Raises:
        InputError: it is of another model or estimator, or for data of another shape; says what differs.
    """
    said, config, members, tensors = open_network(folder, (name,), program)
    return Amortised(
        config=config,
        members=members,
        columns=tensors["columns"],
        reading=restored_reading(tensors["reading"], data_fields(program), whitened),
        anchor=Anchor(**tensors["anchor"]),
        marginal=restored_marginal(tensors, whitened),
        history=said["training"],
        simulations=int(said["simulations"]),
        failed=int(said["failed"]),
        observed=tensors.get("observed"),
    )


def open_network(
    folder: Path, names: Sequence[str], program: Program
) -> tuple[dict[str, Any], Config, list[Estimator], dict[str, Any]]:
    """What guide.json says, the configuration, the members, frozen, and the tensors of a trained network.

    Arguments:
        names: the estimators of which it must be one.

    Raises:
        InputError: it is of another model or estimator, or for data of another shape; says what differs.
    """
    said = read_guide(folder)
    config = Config.from_json(said["config"])
    if config.estimator not in names:
        raise InputError(f"guide {str(folder)!r} is a trained {config.estimator}: expected one of {', '.join(names)}")
    tensors = Checkpoints(folder).load("guide")
    if tensors is None:
        raise InputError(f"guide {str(folder)!r}: expected guide.pt beside {GUIDE}, found none")
    _check_same(str(folder), said["program"], tensors["fingerprint"], program)
    members = [build(config) for _ in range(int(said["members"]))]
    for member, weights in zip(members, tensors["members"], strict=True):
        try:
            member.load_state_dict(weights)
        except RuntimeError as error:
            raise InputError(
                f"guide {str(folder)!r}: expected weights of a {config.estimator} as this version of nuppl builds it, "
                "got others; train anew"
            ) from error
        member.eval().requires_grad_(False)
    return said, config, members, tensors


def reading_state(reading: Reading | None) -> dict[str, Any]:
    """The tensors of a reading; none of none."""
    return _parts(reading, _ESTIMATE if isinstance(reading, Estimate) else _REGRESSION)


def marginal_state(marginal: Marginal | None) -> dict[str, Any]:
    """The tensors of a marginal; none of none."""
    return {"marginal": _parts(marginal, _MARGINAL), "linear": _parts(marginal and marginal.linear, _LINEAR)}


def _parts(owner: object, names: tuple[str, ...]) -> dict[str, Any]:
    return {} if owner is None else {name: getattr(owner, name) for name in names}


def restored_reading(
    kept: Mapping[str, Tensor], fields: tuple[Field, ...], whitened: Whitened | None
) -> Reading | None:
    """What `reading_state` kept.

    Arguments:
        fields: of the data that are read.
    """
    if "jacobian" in kept and whitened is not None:
        return Estimate(whitened, fields, **kept)
    return Regression(fields, **kept) if "slope" in kept else None


def restored_marginal(tensors: Mapping[str, Any], whitened: Whitened | None) -> Marginal | None:
    """What `marginal_state` kept, without data."""
    if not tensors["marginal"] or whitened is None:
        return None
    linear = Linear(**tensors["linear"])
    return Marginal(whitened=whitened, data=torch.zeros(0), linear=linear, **tensors["marginal"])


def _described(program: Program) -> dict[str, Any]:
    return {
        "model": program.model.name,
        "latents": {name: list(site.shape) for name, site in program.latents.items()},
        "fixed": {name: value.tolist() for name, value in program.fixed.items()},
        "options": json.loads(json.dumps(program.options, default=str)),
        "data": [field.as_json() for field in data_fields(program)],
    }


def _fingerprint(program: Program) -> Tensor:
    """What priors, and expected data where they are known, give at a few whitened points."""
    values = latent_values(program, standard_normals(_POINTS, whitened_layout(program).dim, 0, 0))
    numbers = [value.reshape(-1) for value in values.values()]
    try:
        moments = program.moments(values)
    except InputError:
        return torch.cat(numbers)
    numbers += [part.expand(_POINTS, *part.shape[1:]).reshape(-1) for pair in moments.values() for part in pair]
    return torch.cat(numbers)


def _check_same(folder: str, there: Mapping[str, Any], fingerprint: Tensor, program: Program) -> None:
    here = _described(program)
    for name, what in (("model", "it is"), ("latents", "its latents"), ("fixed", "fixed sites")):
        if there[name] != here[name]:
            raise InputError(
                f"guide {folder!r} is of another model: {what} {there[name]} then, {here[name]} now; train anew"
            )
    shapes = [[(field.name, field.shape) for field in map(Field.from_json, each["data"])] for each in (there, here)]
    if shapes[0] != shapes[1]:
        raise InputError(
            f"guide {folder!r}: expected data of the shape that it was trained on, {_shown(shapes[0])}, got "
            f"{_shown(shapes[1])}; train anew"
        )
    now = _fingerprint(program)
    if now.shape != fingerprint.shape or not torch.allclose(now, fingerprint, rtol=_SAME, atol=1e-12, equal_nan=True):
        raise InputError(
            f"guide {folder!r} is of another model: priors or expected data are not what they were (options were "
            f"{there['options']} and are {here['options']}); train anew"
        )
    if not all(site.has_density for site in program.data_sites.values()) and there["options"] != here["options"]:
        raise InputError(
            f"guide {folder!r}: expected the options it was trained with, {there['options']}, got {here['options']}"
        )


def _shown(shapes: list[tuple[str, tuple[int, ...]]]) -> str:
    return ", ".join(f"{name}{list(shape)}" for name, shape in shapes)
