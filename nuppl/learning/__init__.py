"""Posteriors and likelihoods that networks learn from a program's own simulations."""
