"""Every name that a user or an author gives must be there: a misspelt one is refused with the nearest right one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from nuppl.errors import unknown

if TYPE_CHECKING:
    from nuppl.language.program import Program

__all__ = ["check_names"]


def check_names(program: Program, fixed: Mapping[str, Any], data: Mapping[str, Any]) -> None:
    """Raise InputError for a name that the program does not have.

    Arguments:
        program: surveyed; what its model declares (interest, reference, starts, panels) is looked at as well.
        fixed: values by latent.
        data: values by data site.
    """
    latent = [name for name, site in program.sites.items() if site.kind != "data"]
    observed = [name for name, site in program.sites.items() if site.kind == "data"]
    model = program.model
    given = (
        ("parameter", fixed, latent),
        ("data site", data, observed),
        ("interest", model.interest, latent),
        ("reference", model.reference, latent),
        ("start", [name for start in model.starts for name in start], latent),
        *_panels(program),
    )
    for kind, names, known in given:
        for name in names:
            if name not in known:
                raise unknown(kind, name, known)


def _panels(program: Program) -> Iterator[tuple[str, tuple[str, ...], list[str]]]:
    """The entries that a panel adds up are those of the first of two axes of some data site."""
    if any(program.options[name] is not default for name, default in program.model.options.items()):
        return  # an option may leave out entries that a panel names
    axes = [site.axes[0] for site in program.sites.values() if site.kind == "data" and len(site.axes) == 2]
    known = list(dict.fromkeys(str(entry) for axis in axes for entry in axis.coords or range(axis.size)))
    for title, members in program.model.panels.items():
        yield f"entry of panel {title!r}", members, known
