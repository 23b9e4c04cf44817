"""Scenes: from a georeferenced raster of any size and sentences to masks and map layers."""

from .result import ExpressionResult, SceneObject, SceneResult
from .segment import segment_scene

__all__ = ["ExpressionResult", "SceneObject", "SceneResult", "segment_scene"]
