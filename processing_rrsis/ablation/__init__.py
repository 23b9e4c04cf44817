"""Runs and reports of the papers' ablations."""
