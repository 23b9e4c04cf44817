"""Rows on their way into a model: augmentation, words and collation."""
