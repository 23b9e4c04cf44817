"""Recipes: the numbers of a run, each with its source, and presets of ablations."""
