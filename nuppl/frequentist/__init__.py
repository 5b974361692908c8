"""Test statistics on grids, and their critical values from pseudo-experiments."""
