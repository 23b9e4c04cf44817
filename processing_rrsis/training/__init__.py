"""Training: recipes, starting weights, order of samples, checkpoints, the loop and what it leaves."""
