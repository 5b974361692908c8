"""The proof that a user's program keeps the contract under which every engine runs it.

A program is run once on many points. That is right only if it treats each point as it would alone, if all that is
random in it are its sites, and if every site is what it was declared to be. Each rule is tried, not assumed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from nuppl.errors import InputError
from nuppl.language import laws, purity
from nuppl.language.findings import CheckReport, Finding, format_report, format_table, row
from nuppl.language.model import Model
from nuppl.language.program import Program
from nuppl.language.watch import Watch, describe_error, watched

__all__ = ["CheckReport", "Finding", "check", "format_report", "format_table"]

_COUNTS = ("Poisson", "Binomial")


def check(
    model: Model, options: Mapping[str, Any] | None = None, fixed: Mapping[str, Any] | None = None
) -> CheckReport:
    """Run a model in every role and report what breaks the contract.

    Arguments:
        model: the model.
        options: values for the function's keyword arguments.
        fixed: sites held at a value.

    Returns:
        The table of sites and the findings; errors in the user's program become findings with file and line.

    >>> import pyro.distributions as dist
    >>> import nuppl
    >>> @nuppl.model
    ... def counting():
    ...     mu = nuppl.parameter("mu", dist.Uniform(0.0, 20.0), unit="events")
    ...     nuppl.observe("n", dist.Poisson(mu), 7)
    >>> print(format_report(check(counting)))
    model counting: keeps the contract
    <BLANKLINE>
    site  kind       distribution  shape   axes  unit    support
    mu    parameter  Uniform       scalar        events  0 to 20
    n     data       Poisson       scalar                observed
    """
    with purity.generators_restored():
        return _check(model, options, fixed)


def _check(model: Model, options: Mapping[str, Any] | None, fixed: Mapping[str, Any] | None) -> CheckReport:
    twin, watch = watched(model)
    try:
        program = twin.bind(options, fixed)
    except InputError as error:
        finding = Finding("program", watch.site, "error", describe_error(error))
        return CheckReport(model.name, tuple(watch.rows.values()), (finding,))
    findings = [*_declarations(program), *_proofs(program, watch)]
    rows = tuple(row(site) for site in program.sites.values())
    return CheckReport(model.name, rows, tuple(_with_table(finding, rows) for finding in findings))


def _with_table(finding: Finding, rows: tuple[Any, ...]) -> Finding:
    """Trouble with shapes is read off the table of sites."""
    if finding.rule not in ("batch", "shape"):
        return finding
    return Finding(finding.rule, finding.site, finding.severity, f"{finding.message}\n{format_table(rows)}")


def _declarations(program: Program) -> Iterator[Finding]:
    """What the table of sites alone tells."""
    for name, site in program.sites.items():
        if site.dtype != torch.float64:
            kind = str(site.dtype).removeprefix("torch.")
            yield Finding(
                "float32",
                name,
                "error",
                f"expected float64 in its {site.distribution}, got {kind}: a likelihood loses its digits; create "
                "constants with dtype=torch.float64 and do not cast with .float()",
            )
        if site.conditional and site.kind in ("parameter", "pull"):
            yield Finding(
                "random_effect",
                name,
                "error",
                f"its {site.distribution} depends on another latent, so it is a random effect: sampling works, but a "
                f"fit cannot know whether its density counts; declare nuppl.random_effect({name!r}, ...)",
            )
        if site.kind == "data":
            yield from _data(name, program)
    if not program.data_sites:
        yield Finding("data", None, "warning", "no data site: nothing can be learned; add nuppl.observe(...)")


def _data(name: str, program: Program) -> Iterator[Finding]:
    site = program.sites[name]
    if not site.has_density:
        yield Finding("simulator", name, "note", "a simulator without density: use the engines npe, nle, nre, ...")
    if site.data is None:
        yield Finding("data", name, "warning", "no data: it can be simulated, not fitted; give data to nuppl.observe")
    elif site.distribution in _COUNTS and not site.auxiliary and bool((site.data != site.data.round()).any()):
        yield Finding("data", name, "warning", "expected whole counts, got fractions: are these Asimov data?")


def _proofs(program: Program, watch: Watch) -> Iterator[Finding]:
    """The laws in order; each rests on those before it, so the first that is broken is the last that is tried."""
    if any(site.dtype != torch.float64 for site in program.sites.values()):
        return
    single: dict[str, torch.Tensor] = {}
    many: dict[str, torch.Tensor] = {}
    in_order: list[Callable[[], Iterator[Finding]]] = [
        lambda: laws.possible(program),
        lambda: laws.nominal(program, watch),
        lambda: laws.drawing(program, watch, laws.DRAWS, 1, single),
        lambda: purity.same_sites(program, single, watch),
        lambda: purity.randomness(program, single),
        lambda: laws.batching(program, single, watch),
        lambda: laws.drawing(program, watch, laws.MANY, laws.MANY, many),
        lambda: laws.finite(program, many, watch),
        lambda: laws.plain_pyro(program),
        lambda: laws.gradients(program, many),
        lambda: laws.influence(program, many),
    ]
    for law in in_order:
        findings = list(_guarded(law, watch))
        yield from findings
        if any(finding.severity == "error" for finding in findings):
            return


def _guarded(law: Callable[[], Iterator[Finding]], watch: Watch) -> Iterator[Finding]:
    try:
        yield from law()
    except Exception as error:
        yield Finding("program", watch.site, "error", describe_error(error))
