"""Networks trained on simulations: guides p(theta | x), likelihoods p(x | theta) and ratios. `registry` lists them.

Knows torch and zuko, and nothing of probabilistic programs: parameters and data are flat tensors with named fields.
float32 inside a network, float64 at its border; no estimator touches the global random state.
"""
