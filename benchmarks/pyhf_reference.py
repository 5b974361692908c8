"""Workspaces of HistFactory and what pyhf computes for them, as tests/experiments/workspaces/*.json hold them.

Source: pyhf 0.7.6 (Apache-2.0) with jax, in float64; log densities at random points, and best fits, which its MINUIT
starts and Newton steps on jax's derivatives end at gradients below 1e-9. In an environment of its own:

    pip install pyhf==0.7.6 jax iminuit && python benchmarks/pyhf_reference.py
"""

import json
import random
from pathlib import Path

import jax
import numpy as np
import pyhf

POINTS = 50
OUT = Path(__file__).parents[1] / "tests" / "experiments" / "workspaces"


def modifier(kind, name, data=None):
    return {"name": name, "type": kind, "data": data}


def norm(name, lo, hi):
    return modifier("normsys", name, {"lo": lo, "hi": hi})


def shape(name, nominal, lo, hi):
    low, high = ([round(n * (1 + each), 4) for n, each in zip(nominal, side, strict=True)] for side in (lo, hi))
    return modifier("histosys", name, {"lo_data": low, "hi_data": high})


def sample(name, data, *modifiers):
    return {"name": name, "data": data, "modifiers": list(modifiers)}


def small():
    """Every kind of modifier, two channels, a scale that moves rate and shape together, a bin without error."""
    signal, top, fake = [5.0, 12.0, 9.0], [60.0, 45.0, 30.0], [12.0, 0.0, 6.0]
    energy = shape("energy scale", top, [-0.05, 0.01, 0.07], [0.06, -0.02, -0.05]), norm("energy scale", 0.97, 1.02)
    signal_region = [
        sample(
            "signal", signal, modifier("normfactor", "mu"), modifier("lumi", "lumi"), norm("energy scale", 0.9, 1.15)
        ),
        sample("top", top, modifier("normfactor", "mu_top"), modifier("staterror", "mc_SR", [2.0, 1.5, 0.0]), *energy),
        sample("fake", fake, modifier("shapesys", "fakes", [3.0, 1.0, 2.0])),
    ]
    control = [120.0, 90.0]
    control_region = [
        sample(
            "top", control, modifier("normfactor", "mu_top"), modifier("lumi", "lumi"), norm("energy scale", 1.03, 0.96)
        ),
        sample("other", [30.0, 25.0], modifier("shapefactor", "free"), norm("theory", 0.8, 1.3)),
        sample("rare", [4.0, 3.0], norm("theory", 0.9, 1.05), modifier("staterror", "mc_CR", [1.0, 1.2])),
    ]
    return {
        "channels": [
            {"name": "SR", "samples": signal_region},
            {"name": "CR", "samples": control_region},
        ],
        "observations": [{"name": "SR", "data": [75, 63, 40]}, {"name": "CR", "data": [161, 112]}],
        "measurements": [
            {
                "name": "nominal",
                "config": {
                    "poi": "mu",
                    "parameters": [
                        {"name": "lumi", "auxdata": [1.0], "sigmas": [0.02], "bounds": [[0.5, 1.5]], "inits": [1.0]},
                        {"name": "free", "fixed": True},
                    ],
                },
            }
        ],
        "version": "1.0.0",
    }


def large():
    """Four channels, five samples, twelve shared systematics, per-bin errors of every kind."""
    draw = random.Random(7)

    def near(value, width):
        return round(value * (1 + draw.uniform(-width, width)), 3)

    bins = {"high": 6, "low": 5, "top_CR": 4, "z_CR": 3}
    yields = {"signal": 12.0, "top": 80.0, "z": 50.0, "multijet": 20.0, "rare": 4.0}
    channels, observations = [], []
    for channel, size in bins.items():
        total, samples = [0.0] * size, []
        for process, mean in yields.items():
            if process == "signal" and channel.endswith("CR"):
                continue
            factor = 3.0 if channel.startswith(process) else 1.0
            nominal = [near(factor * mean * (1.2 - 0.12 * b), 0.2) for b in range(size)]
            if process == "rare" and channel == "low":
                nominal[2] = 0.0
            modifiers = [norm(f"sys{k}", near(0.95, 0.05), near(1.06, 0.05)) for k in range(8)]
            tilt = [0.02 * (b - size / 2) for b in range(size)]
            for k in range(5, 12):
                sides = [[round(s * t * draw.uniform(0.3, 1.2), 4) for t in tilt] for s in (-1, 1)]
                modifiers.append(shape(f"sys{k}", nominal, *sides))
            if process != "multijet":
                modifiers.append(modifier("lumi", "lumi"))
                errors = [near(0.05 * n if process != "rare" else 0.6 * n, 0.3) for n in nominal]
                modifiers.append(modifier("staterror", f"staterror_{channel}", errors))
            if process in ("signal", "top", "z"):
                modifiers.append(modifier("normfactor", f"mu_{process}" if process != "signal" else "mu"))
            if process == "multijet" and channel in ("high", "top_CR"):
                modifiers.append(modifier("shapefactor", f"multijet {channel}"))
            if process == "multijet" and channel == "low":
                modifiers.append(modifier("shapesys", "multijet low", [near(0.3 * n, 0.2) for n in nominal]))
            if process == "rare":
                modifiers.append(modifier("shapesys", f"rare_{channel}", [near(0.4 * n, 0.2) for n in nominal]))
            samples.append(sample(process, nominal, *modifiers))
            total = [t + n for t, n in zip(total, nominal, strict=True)]
        channels.append({"name": channel, "samples": samples})
        observations.append({"name": channel, "data": [round(near(t, 0.08)) for t in total]})
    parameters = [
        {"name": "lumi", "auxdata": [1.0], "sigmas": [0.017], "bounds": [[0.915, 1.085]], "inits": [1.0]},
        {"name": "mu", "bounds": [[-5.0, 8.0]], "inits": [0.5]},
        {"name": "mu_z", "inits": [1.1], "bounds": [[0.0, 5.0]]},
        {"name": "sys3", "auxdata": [0.4], "inits": [0.2]},
        {"name": "sys4", "bounds": [[-0.2, 0.25]]},
        {"name": "sys11", "fixed": True, "inits": [0.3]},
    ]
    measurements = [{"name": "main", "config": {"poi": "mu", "parameters": parameters}}]
    return {"channels": channels, "observations": observations, "measurements": measurements, "version": "1.0.0"}


def points(config, seed):
    draw = random.Random(seed)
    found = []
    for _ in range(POINTS):
        point = []
        for name in config.par_order:
            known = config.param_set(name)
            spread = 0.05 if name == "lumi" else 2.4 if known.suggested_init[0] < 0.5 and known.constrained else 0.4
            for start, fixed in zip(known.suggested_init, known.suggested_fixed, strict=True):
                point.append(start if fixed else round(start + draw.uniform(-spread, spread), 4))
        found.append(point)
    return found


def minimum(model, data, mu=None):
    """Twice the negative log density and the point, after Newton steps with bounds."""
    config = model.config
    fit = pyhf.infer.mle.fit if mu is None else lambda *given, **kw: pyhf.infer.mle.fixed_poi_fit(mu, *given, **kw)
    point = np.array(fit(data, model, return_fitted_val=False), dtype=float)
    held = np.array(config.suggested_fixed())
    held[config.poi_index] |= mu is not None
    low, high = np.array(config.suggested_bounds(), dtype=float).T
    objective = jax.jit(lambda p: -2.0 * model.logpdf(p, jax.numpy.array(data))[0])
    slope, curvature = jax.jit(jax.grad(objective)), jax.jit(jax.hessian(objective))
    for _ in range(30):
        gradient = np.array(slope(point))
        close = 1e-3 * (high - low)
        pinned = (
            held
            | ((point - low < close) & (gradient > 0) & (point - low < 1e-3))
            | ((high - point < 1e-3) & (gradient < 0))
        )
        point = np.where(pinned & ~held, np.where(gradient > 0, low, high), point)
        free = ~pinned
        step = np.linalg.solve(np.array(curvature(point))[np.ix_(free, free)], np.array(slope(point))[free])
        point[free] = np.clip(point[free] - step, low[free], high[free])
        if abs(step).max() < 1e-13:
            break
    gradient = np.array(slope(point))
    print("largest slope", abs(gradient[free]).max(), "held", np.flatnonzero(pinned & ~held), "value", objective(point))
    return {"twice_nll": float(objective(point)), "point": [float(value) for value in point]}


def reference(spec, seed):
    model = pyhf.Workspace(spec).model()
    data = pyhf.Workspace(spec).data(model)
    thrown = points(model.config, seed)
    densities = [float(model.logpdf(jax.numpy.array(point), jax.numpy.array(data))[0]) for point in thrown]
    print(len(model.config.par_names), "parameters", min(densities), max(densities))
    assert np.isfinite(densities).all()
    return {
        "workspace": spec,
        "parameters": model.config.par_names,
        "fixed": model.config.suggested_fixed(),
        "points": thrown,
        "log_density": densities,
        "free": minimum(model, data),
        "at_mu_1": minimum(model, data, 1.0),
    }


if __name__ == "__main__":
    pyhf.set_backend("jax", pyhf.optimize.minuit_optimizer(tolerance=1e-3), precision="64b")
    for number, (name, spec) in enumerate({"small": small(), "large": large()}.items()):
        lines = (f"{json.dumps(key)}: {json.dumps(value)}" for key, value in reference(spec, number).items())
        (OUT / f"{name}.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
