"""Which statements of a program stay when a network takes the place of data sites, and which do not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nuppl.errors import InputError, unknown
from nuppl.language.density import Whitened
from nuppl.language.model import Model
from nuppl.language.program import Program
from nuppl.language.table import Site
from nuppl.learning.learned import Learned
from nuppl.learning.simulated import data_fields, whitened_layout
from nuppl.learning.surrogate_files import held_sites, restore_learned
from nuppl.neural.fields import Field

__all__ = ["Plan", "Recorded", "planned"]


class Recorded(NamedTuple):
    """A sample statement as the program made it."""

    name: str
    fn: Any
    frames: tuple[Any, ...]
    infer: dict[str, Any]
    value: Tensor | None


class Plan(NamedTuple):
    """What stands in for a program with certain options.

    Attributes:
        learned: the network.
        fields: of the data sites that it stands for.
        latents, data: the statements that stay, in order.
        places: where in the whitened latents that stay those lie that the network knows, with shape (d,).
        hidden: the latents that do not stay, with the value at which the program runs where it must.
        live: whether the program must run: data sites stay, or priors depend on latents.
        memory: what was read from data last.
    """

    learned: Learned
    fields: tuple[Field, ...]
    latents: dict[str, Recorded]
    data: dict[str, Recorded]
    places: Tensor
    hidden: dict[str, Tensor]
    live: bool
    memory: dict[str, Tensor]


def planned(model: Model, options: Mapping[str, Any], sites: tuple[str, ...], estimator: str | Path | Learned) -> Plan:
    """The plan for a model with certain options.

    Raises:
        InputError: a site that is not there, or a network of another model or of other sites.
    """
    program, learned = _opened(model, options, estimator)
    known = program.data_sites
    for name in sites:
        if name not in known:
            raise unknown("data site for a surrogate", name, known)
    if set(sites) != set(learned.sites):
        raise InputError(
            f"surrogate for {', '.join(sites)}: the network is a density of {', '.join(learned.sites)}; name all of "
            "these, and no others"
        )
    latents, data = _statements(program)
    stay = _staying(program, learned)
    layout, kept = whitened_layout(program), torch.tensor(whitened_layout(program).columns(stay), dtype=torch.long)
    if len(data) > len(sites) and len(learned.columns) < layout.dim:
        raise InputError(
            f"surrogate for {', '.join(sites)}: the network integrated latents on which other data sites may depend "
            f"({', '.join(name for name in data if name not in sites)}): expected one that stands for all data sites"
        )
    return Plan(
        learned.doubled(),
        tuple(field for field in data_fields(program) if field.name in sites),
        {name: latents[name] for name in stay},
        data,
        torch.searchsorted(kept, learned.columns),
        {n: s.nominal[None] for n, s in program.sites.items() if s.kind != "data" and n not in stay},
        len(data) > len(sites) or any(program.sites[name].conditional for name in stay),
        {},
    )


def _opened(model: Model, options: Mapping[str, Any], estimator: str | Path | Learned) -> tuple[Program, Learned]:
    if isinstance(estimator, Learned):
        program = Program(model, options, estimator.fixed, {})
        _check_in_memory(program, estimator)
        return program, estimator
    program = Program(model, options, held_sites(Path(estimator)), {})
    exact = all(site.has_density and site.data is not None for site in program.data_sites.values())
    return program, restore_learned(Path(estimator), None, program, Whitened(program) if exact else None)


def _check_in_memory(program: Program, learned: Learned) -> None:
    if tuple(program.latents) != learned.latents:
        raise InputError(
            f"surrogate of {program.model.name!r}: the network is of a model with the latents "
            f"{', '.join(learned.latents)}, this one has {', '.join(program.latents)}"
        )
    if learned.reading is None:
        shapes = {field.name: field.shape for field in learned.config.data}
        for name, site in program.data_sites.items():
            if shapes.get(name, site.shape) != site.shape:
                raise InputError(
                    f"surrogate for {name!r}: expected data of the shape that it was trained on, {shapes[name]}, got "
                    f"{site.shape}"
                )


def _staying(program: Program, learned: Learned) -> list[str]:
    """The latents of which the network knows an entry, and those on which the priors of these may depend."""
    layout, columns = whitened_layout(program), set(learned.columns.tolist())
    stay = [name for name in layout.blocks if columns & set(layout.columns([name]))]
    needing = [name for name in stay if program.sites[name].conditional]
    if not needing:
        return stay
    names = list(program.latents)
    before = names[: names.index(needing[-1])]
    return [name for name in names if name in stay or name in before]


def _statements(program: Program) -> tuple[dict[str, Recorded], dict[str, Recorded]]:
    """The statements of latents and of data, as the program makes them at its nominal point."""
    latents: dict[str, Recorded] = {}
    data: dict[str, Recorded] = {}

    def visit(msg: Any, site: Site) -> None:
        value = msg["value"] = (site.nominal if site.data is None else site.data)[None]
        kept = None if site.data is None else value[0].reshape(site.plain_shape)
        found = data if site.kind == "data" else latents
        found[site.name] = Recorded(site.name, msg["fn"], msg["cond_indep_stack"], dict(msg["infer"]), kept)

    with torch.no_grad():
        program.run(visit)
    return latents, data
