"""Model folders, cards, checks and pushes to the Hub; a model by folder or name."""
