"""The classifier two-sample test beside scikit-learn's, on twenty pairs of draws of known make.

    python benchmarks/c2st.py                      ours beside the figures below
    python benchmarks/c2st.py --cases 0,6,11       some of them
    /path/with/scikit-learn/bin/python benchmarks/c2st.py --sklearn     the figures anew

scikit-learn's are those of the protocol of Lueckmann et al. (arXiv:2101.04653): KFold(5) and MLPClassifier with two
layers of ten times the dimension, at most 10,000 epochs, both with seed 1, on 10,000 draws each that are centred and
scaled as the reference is.
"""

import argparse
import time

import numpy as np

__all__ = ["CASES", "SKLEARN", "pair"]

N = 10_000

# Make, dimension, strength.
CASES = [
    *[("shift", dim, size) for dim, size in ((2, 0.1), (2, 0.5), (3, 1.0), (5, 0.3), (10, 0.2), (10, 0.8))],
    *[("width", dim, size) for dim, size in ((2, 1.1), (2, 1.5), (4, 0.7), (6, 1.3), (10, 1.15))],
    *[("modes", dim, size) for dim, size in ((2, 1.0), (2, 3.0), (5, 1.5))],
    *[("ring", dim, size) for dim, size in ((2, 0.1), (2, 0.4))],
    *[("turn", dim, size) for dim, size in ((3, 0.6), (5, 0.9))],
    *[("tails", dim, size) for dim, size in ((2, 3.0), (8, 5.0))],
]

# Of scikit-learn 1.9.1, by case.
SKLEARN = {
    0: 0.51540,
    1: 0.58665,
    2: 0.69360,
    3: 0.52595,
    4: 0.50930,
    5: 0.57995,
    6: 0.53470,
    7: 0.64410,
    8: 0.68545,
    9: 0.64490,
    10: 0.55305,
    11: 0.54815,
    12: 0.57390,
    14: 0.72210,
    15: 0.90670,
    18: 0.57470,
    16: 0.62120,
}


def pair(number):
    """The reference and the draws of a case, each float32 with shape (10000, D)."""
    make, dim, size = CASES[number]
    random = np.random.RandomState(1000 + number)
    reference, draws = random.standard_normal((2, N, dim))
    if make == "shift":
        draws[:, 0] += size
    elif make == "width":
        draws *= size
    elif make == "modes":
        reference[:, 0] += size * random.choice((-1.0, 1.0), N)
        draws[:, 0] += size * random.choice((-1.0, 1.0), N, p=(0.35, 0.65))
    elif make == "ring":
        reference, draws = (_ring(x, width) for x, width in ((reference, 0.1), (draws, 0.1 + size)))
    elif make == "turn":
        draws[:, 1] = size * draws[:, 0] + np.sqrt(1 - size**2) * draws[:, 1]
    elif make == "tails":
        draws /= np.sqrt(random.chisquare(size, (N, 1)) / size)
    return reference.astype(np.float32), draws.astype(np.float32)


def _ring(x, width):
    return x / np.linalg.norm(x, axis=1, keepdims=True) * (1 + width * x[:, :1])


def main():
    """Ours beside scikit-learn's, as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default=",".join(map(str, range(len(CASES)))))
    parser.add_argument("--sklearn", action="store_true", help="compute scikit-learn's figure")
    chosen = parser.parse_args()
    print("| case | dimension | strength | figure | kept | s |\n|---|---|---|---|---|---|")
    for number in map(int, chosen.cases.split(",")):
        start = time.process_time()
        value = (theirs if chosen.sklearn else ours)(*pair(number))
        make, dim, size = CASES[number]
        seconds = time.process_time() - start
        kept = f"{SKLEARN[number]:.4f}" if number in SKLEARN else ""
        print(f"| {make} | {dim} | {size} | {value:.4f} | {kept} | {seconds:.0f} |", flush=True)


def ours(reference, draws):
    """The accuracy that nuppl finds."""
    import torch

    from nuppl.neural.c2st import c2st

    torch.set_num_threads(1)
    return float(c2st(torch.from_numpy(reference), torch.from_numpy(draws)))


def theirs(reference, draws):
    """The accuracy that scikit-learn finds."""
    from sklearn.model_selection import KFold, cross_val_score
    from sklearn.neural_network import MLPClassifier

    loc, scale = reference.mean(0), reference.std(0, ddof=1)
    both = np.concatenate([(x - loc) / scale for x in (reference, draws)])
    width = 10 * reference.shape[1]
    network = MLPClassifier(hidden_layer_sizes=(width, width), max_iter=10_000, random_state=1)
    folds = KFold(5, shuffle=True, random_state=1)
    labels = np.repeat([0.0, 1.0], len(reference))
    return cross_val_score(network, both, labels, cv=folds, scoring="accuracy").mean()


if __name__ == "__main__":
    main()
