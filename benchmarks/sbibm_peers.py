"""Training time and C2ST beside sbi on the same simulations of a classical task: seconds of one processor.

    python benchmarks/sbibm_peers.py make two_moons --references WHEEL --folder peers/
    /path/to/sbi/bin/python benchmarks/sbibm_peers.py sbi two_moons --folder peers/
    python benchmarks/sbibm_peers.py nuppl two_moons --references WHEEL --folder peers/

`make` writes simulations and observations 1 to 3; `sbi` (0.27, in an environment of its own) trains npe, nle and fmpe
with its defaults on them and draws; `nuppl` trains ours on the same ones and prints both. All run on one thread.
"""

import argparse
import json
import time
from pathlib import Path

import torch

ESTIMATORS = ("npe", "fmpe", "nle")
OBSERVATIONS, DRAWS = 3, 10_000


def main():
    """One of the three steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("make", "sbi", "nuppl"))
    parser.add_argument("task")
    parser.add_argument("--references")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--simulations", type=int, default=10_000)
    parser.add_argument("--estimators", default=",".join(ESTIMATORS))
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    {"make": make, "sbi": theirs, "nuppl": ours}[chosen.step](chosen)


def make(chosen):
    """The simulations that both learn from, and the observations."""
    from sbibm_reference import observation, task

    from nuppl.language.precision import double_precision
    from nuppl.learning.simulated import simulated

    program = task(chosen.task).bind()
    with double_precision():
        found = simulated(program, chosen.simulations, 0)
    seen = torch.stack([observation(chosen.references, chosen.task, number + 1) for number in range(OBSERVATIONS)])
    torch.save({"u": found.u, "x": found.data, "observations": seen}, chosen.folder / f"{chosen.task}.pt")


def theirs(chosen):
    """sbi with its defaults, in the same whitened parameters, whose prior is the standard normal."""
    from sbi.inference import FMPE, NLE, NPE
    from sbi.neural_nets import posterior_nn

    kept = torch.load(chosen.folder / f"{chosen.task}.pt")
    u, x, seen = (kept[name].float() for name in ("u", "x", "observations"))
    prior = torch.distributions.MultivariateNormal(torch.zeros(u.shape[1]), torch.eye(u.shape[1]))
    makers = {
        "npe": lambda: NPE(prior, density_estimator=posterior_nn("zuko_nsf")),
        "fmpe": lambda: FMPE(prior),
        "nle": lambda: NLE(prior),
    }
    for name in chosen.estimators.split(","):
        torch.manual_seed(1)
        inference, start = makers[name](), time.process_time()
        inference.append_simulations(u, x).train()
        seconds = time.process_time() - start
        posterior = inference.build_posterior()
        draws = torch.stack([posterior.sample((DRAWS,), x=row, show_progress_bars=False) for row in seen])
        _keep(chosen, f"sbi-{name}", seconds, draws)


def ours(chosen):
    """nuppl on the same simulations; prints both, as Markdown."""
    from sbibm_posterior import learn, parameters
    from sbibm_reference import reference, task

    from nuppl.learning.simulated import Simulated
    from nuppl.neural.c2st import c2st

    model, kept = task(chosen.task), torch.load(chosen.folder / f"{chosen.task}.pt")
    shape = model.bind().data_sites["x"].shape
    bound = [model.bind(data={"x": row.reshape(shape)}) for row in kept["observations"]]
    truth = torch.stack([reference(chosen.references, chosen.task, number + 1) for number in range(OBSERVATIONS)])
    for name in chosen.estimators.split(","):
        learned = learn(model.bind(), name, Simulated(kept["u"], kept["x"], 0))
        draws = torch.stack([learned.u(program, 1) for program in bound])
        _keep(chosen, f"nuppl-{name}", learned.said["processor_seconds"], draws)
    print("| task | who | training, s of one processor | C2ST, observations 1 to 3 |\n|---|---|---|---|")
    for path in sorted(chosen.folder.glob(f"{chosen.task}-*.json")):
        draws = torch.load(path.with_suffix(".pt"))
        found = torch.stack([parameters(program, u.double()) for program, u in zip(bound, draws, strict=True)])
        said = ", ".join(f"{float(value):.3f}" for value in c2st(truth, found))
        print(f"| {chosen.task} | {path.stem.split('-', 1)[1]} | {json.loads(path.read_text()):.0f} | {said} |")


def _keep(chosen, name, seconds, draws):
    path = chosen.folder / f"{chosen.task}-{name}.json"
    torch.save(draws, path.with_suffix(".pt"))
    path.write_text(json.dumps(seconds))
    print(path.stem, f"{seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
