"""One run of a program at its nominal point, written down as the table of sites and checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from nuppl.errors import InputError
from nuppl.language.arguments import arguments, innermost
from nuppl.language.distributions import Simulator
from nuppl.language.handlers import Visit, declared
from nuppl.language.plates import PLATE_DIMS, Frame
from nuppl.language.precision import program_settings
from nuppl.language.priors import refuse_discrete, refuse_improper
from nuppl.language.table import Axis, Site
from nuppl.language.transport import transport

__all__ = ["survey"]

_INF = torch.tensor(torch.inf, dtype=torch.float64)


def survey(
    function: Callable[[], Any], fixed: Mapping[str, Any], data: Mapping[str, Any], outside: bool = False
) -> dict[str, Site]:
    """Run a program once at its nominal point and write down its sites, in the order of sampling.

    Arguments:
        function: the program, without arguments.
        fixed: values of sites held constant.
        data: replacements of observed data.
        outside: whether fixed values may lie outside the prior's support.

    Raises:
        InputError: a site that breaks the contract, or data or values that do not fit.
    """
    sites: dict[str, Site] = {}
    axes: dict[str, Axis] = {}

    def visit(msg: Any) -> None:
        site = _describe(msg, fixed.get(msg["name"]), data.get(msg["name"]))
        if site.kind != "data" and not (site.fixed and outside):
            _check_bounds(site)
        _check_axes(site, axes)
        sites[site.name] = site
        value = site.nominal.detach().reshape(site.plain_shape)
        msg["value"] = value if site.kind == "data" or site.fixed else value.requires_grad_()

    with torch.enable_grad(), program_settings(), Visit(visit):
        function()
    return sites


def _check_axes(site: Site, known: dict[str, Axis]) -> None:
    for axis in site.axes:
        other = known.setdefault(axis.name, axis)
        if (other.size, other.coords) != (axis.size, axis.coords):
            raise InputError(
                f"site {site.name!r}: plate {axis.name!r} has {axis.size} entries{_entries(axis)} here and {other.size}"
                f"{_entries(other)} at an earlier site; expected one axis per name, so use another name"
            )


def _entries(axis: Axis) -> str:
    return "" if axis.coords is None else f" ({', '.join(map(str, axis.coords[:3]))}{', ...' * (axis.size > 3)})"


def _describe(msg: Any, fixed: Any, data: Any) -> Site:
    fn, said = msg["fn"], declared(msg)
    if "/" in msg["name"]:
        raise InputError(f"site {msg['name']!r}: expected a name without '/', which result files cannot hold")
    is_data = said.kind == "data"
    held = fixed is not None or (msg["is_observed"] and not is_data)
    if not is_data:
        refuse_discrete(msg["name"], said.kind, fn)
    axes, batch = _axes(msg)
    white = None if is_data else transport(fn)
    conditional = not is_data and _depends_on_latents(msg)
    if not (is_data or held or conditional):
        refuse_improper(msg["name"], said.kind, fn)
    lower, upper = _bounds(fn)
    site = Site(
        name=msg["name"],
        kind=said.kind,
        distribution=type(innermost(fn)).__name__,
        axes=axes,
        batch=batch,
        event=tuple(fn.event_shape),
        u_event=tuple(white.event_shape) if white else (),
        unit=said.unit,
        label=said.label or msg["name"].replace("_", r"\_"),
        nominal=torch.zeros(()),
        data=None,
        spread=torch.ones(()) if is_data else _spread(fn),
        lower=lower,
        upper=upper,
        prior={} if is_data or conditional else _made_from(fn),
        conditional=conditional,
        has_density=_has_density(fn),
        has_moments=_has_moments(fn),
        auxiliary=said.auxiliary,
        fixed=held,
        dtype=_dtype(fn),
    )
    given = msg["value"] if msg["is_observed"] else None
    if is_data:
        observed = _data(site, given if data is None else data, fn)
        nominal = observed if observed is not None else _stand_in(site, fn)
        return _with(site, nominal=nominal, data=observed)
    if fixed is None:
        fixed = given
    if fixed is not None:
        return _with(site, nominal=site.lanes(fixed)[0].clone())
    if said.nominal is not None:
        return _with(site, nominal=site.lanes(said.nominal)[0].clone())
    return _with(site, nominal=_center(fn).detach().expand(site.full_shape).clone())


def _center(fn: Any) -> Tensor:
    """The median; the mean of a distribution whose quantiles are not known, where that is finite."""
    white = transport(fn)
    if not white.exact:
        with suppress(NotImplementedError):
            mean = torch.as_tensor(fn.mean, dtype=torch.float64)
            if bool(mean.isfinite().all()):
                return mean
    return white.forward(torch.zeros((*fn.batch_shape, *white.event_shape), dtype=torch.float64))


def _with(site: Site, **changes: Any) -> Site:
    return Site(**{**site.__dict__, **changes})


def _axes(msg: Any) -> tuple[tuple[Axis, ...], tuple[int, ...]]:
    frames = sorted((f for f in msg["cond_indep_stack"] if f.dim is not None), key=lambda frame: frame.dim)
    plates = [
        Axis(f.name, f.size, f.dim, f.coords, f.unit) if isinstance(f, Frame) else Axis(f.name, f.size, f.dim, None)
        for f in frames
    ]
    shape = tuple(msg["fn"].batch_shape)
    named = {plate.dim for plate in plates}
    for dim in range(-len(shape), 0):
        if shape[dim] > 1 and dim not in named:
            raise InputError(
                f"site {msg['name']!r}: its distribution has an axis of size {shape[dim]} at dim {dim} that no plate "
                f"declares; put the site into `with nuppl.plate(NAME, {shape[dim]}, dim={dim}):`"
            )
    if len(shape) > PLATE_DIMS:
        raise InputError(f"site {msg['name']!r}: expected at most {PLATE_DIMS} plate axes, got shape {shape}")
    batch = (1,) * (PLATE_DIMS - len(shape)) + shape
    events = [Axis(f"{msg['name']}_dim_{i}", n, None, None) for i, n in enumerate(msg["fn"].event_shape)]
    return (*plates, *events), batch


def _bounds(fn: Any) -> tuple[Tensor, Tensor]:
    support = getattr(innermost(fn), "support", None)
    lower = getattr(support, "lower_bound", -_INF)
    upper = getattr(support, "upper_bound", _INF)
    # A bound that moves with another latent bounds nothing by itself: outside it the density is zero.
    lower, upper = (torch.as_tensor(bound, dtype=torch.float64) for bound in (lower, upper))
    lower, upper = (end if bound.requires_grad else bound for bound, end in ((lower, -_INF), (upper, _INF)))
    return lower, upper


def _spread(fn: Any) -> Tensor:
    try:
        spread = torch.as_tensor(fn.stddev, dtype=torch.float64).detach()
    except NotImplementedError:
        return torch.ones(())
    return torch.where(spread.isfinite() & (spread > 0), spread, 1.0)


def _made_from(fn: Any) -> dict[str, Tensor]:
    """The arguments, one number for each entry at most; those of a base that transforms move say nothing."""
    inner = innermost(fn)
    size = fn.batch_shape.numel() * fn.event_shape.numel()
    return {
        name: value.detach()
        for name, value, _ in arguments(fn)
        if name in inner.arg_constraints and value.numel() <= size
    }


def _has_density(fn: Any) -> bool:
    return not isinstance(innermost(fn), Simulator)


def _has_moments(fn: Any) -> bool:
    try:
        return fn.mean is not None and fn.variance is not None
    except NotImplementedError:
        return False


def _dtype(fn: Any) -> torch.dtype:
    """The coarsest floating type among the distribution's arguments."""
    inner = innermost(fn)
    while isinstance(inner, torch.distributions.TransformedDistribution):
        inner = inner.base_dist
    found = [getattr(inner, name, None) for name in inner.arg_constraints]
    types = [value.dtype for value in found if isinstance(value, Tensor) and value.is_floating_point()]
    return min(types, key=lambda dtype: dtype.itemsize, default=torch.float64)


def _depends_on_latents(msg: Any) -> bool:
    fn = msg["fn"]
    white = transport(fn)
    u = torch.zeros((*fn.batch_shape, *white.event_shape), dtype=torch.float64)
    value = white.forward(u)
    # A map to the support alone (a Gamma's) does not know the distribution's arguments; its density does.
    return bool(value.requires_grad or white.log_density(u, value).requires_grad)


def _data(site: Site, given: Any, fn: Any) -> Tensor | None:
    if given is None:
        return None
    data = torch.as_tensor(given, dtype=torch.float64).detach()
    trimmed = torch.Size(size for size in site.full_shape if size > 1)
    if torch.Size(size for size in data.shape if size > 1) != trimmed:
        names = ", ".join(f"{axis.name}: {axis.size}" for axis in site.axes)
        raise InputError(
            f"data of site {site.name!r}: expected shape {site.shape} ({names or 'a scalar'}), got {tuple(data.shape)}"
        )
    data = data.reshape(site.full_shape)
    bad = int((~data.isfinite()).sum())
    if bad:
        raise InputError(
            f"data of site {site.name!r}: expected finite numbers, got NaN or infinity in {bad} of {data.numel()}"
        )
    if site.has_density:
        _check_support(site, fn, data)
    return data


def _check_support(site: Site, fn: Any, data: Tensor) -> None:
    support = innermost(fn).support
    bounds = [getattr(support, name, None) for name in ("lower_bound", "upper_bound")]
    if any(isinstance(bound, Tensor) and bound.requires_grad for bound in bounds):
        return
    if support.is_discrete:
        # Asimov data are means, not integers: only the bounds are asked of them.
        lower, upper = (end if bound is None else bound for bound, end in zip(bounds, (-_INF, _INF), strict=True))
        inside = (data >= lower) & (data <= upper)
        limits = [f"at {word} {_shown(b)}" for word, b in zip(("least", "most"), bounds, strict=True) if b is not None]
        wanted = "counts of " + " and ".join(limits)
    else:
        inside = support.check(data)
        ends = "" if None in bounds else ", " + " to ".join(map(_shown, bounds))
        wanted = f"values in the support of {site.distribution}{ends}"
    if not bool(inside.all()):
        entry = tuple((~inside).nonzero()[0].tolist())
        raise InputError(
            f"data of site {site.name!r}: expected {wanted}, got {site.entry(entry)} = {_shown(data[entry])} "
            f"({int((~inside).sum())} of {inside.numel()} entries lie outside); check the data, or the distribution"
        )


def _shown(value: Any) -> str:
    ends = torch.as_tensor(value, dtype=torch.float64).flatten()
    low, high = float(ends.min()), float(ends.max())
    return f"{low:g}" if low == high else f"({low:g} to {high:g})"


def _stand_in(site: Site, fn: Any) -> Tensor:
    """A value for a data site without data, so that a program may use what it observes."""
    with suppress(NotImplementedError):
        mean = torch.as_tensor(fn.mean, dtype=torch.float64).detach()
        return mean.expand(fn.batch_shape + fn.event_shape).reshape(site.full_shape)
    return torch.zeros(site.full_shape, dtype=torch.float64)


def _check_bounds(site: Site) -> None:
    inside = (site.nominal >= site.lower) & (site.nominal <= site.upper)
    if not bool(inside.all()):
        raise InputError(
            f"value of {site.name!r}: expected between {float(site.lower.min()):g} and {float(site.upper.max()):g}"
            f"{' ' + site.unit if site.unit else ''}, got {float(site.nominal[~inside].flatten()[0]):g}"
        )
