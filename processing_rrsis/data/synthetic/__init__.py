"""SyntheticRS: scenes, what is asked about them, its words and its pictures."""

from .builder import SyntheticRS, SyntheticRSConfig

__all__ = ["SyntheticRS", "SyntheticRSConfig"]
