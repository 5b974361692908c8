"""Densities as samplers see them, and the moves, guides and weights of which engines are made."""
