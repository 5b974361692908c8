"""Judging results: can this posterior be trusted, and if not, why."""
