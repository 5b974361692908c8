"""Neutrino physics on torch tensors: knows nothing of probabilistic programs.

Everything is float64, broadcasts from the right and is differentiable; batch axes stand on the left.
"""
