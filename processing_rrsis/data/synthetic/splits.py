"""Presets and splits of SyntheticRS: which scenes belong to which, and what identifies the generator."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import numpy as np
import PIL

from ..files import rows
from .absent import make_absent_scene
from .parking import make_parking_scene
from .queries import Scene
from .scenes import make_scene

GENERATOR_VERSION = "1.0.0"
SPLITS: tuple[str, ...] = ("train", "validation", "test", "test_compositional", "test_absent")
PRESETS: tuple[str, ...] = ("rrsisd", "refsegrs")


@cache
def generator_fingerprint() -> str:
    """Return a hash of everything that decides the bytes: this code and the libraries that draw.

    It is part of the cache directory, so that no stale data is read after a change.
    """
    digest = hashlib.sha256()
    files = sorted(Path(__file__).parent.glob("*.py"))
    if not files:  # every version would share one cache
        raise FileNotFoundError(
            f"expected the code of SyntheticRS as .py files in {Path(__file__).parent}, found none"
        )
    for file in [*files, Path(rows.__file__)]:
        digest.update(file.read_bytes())
    digest.update(f"numpy {np.__version__} pillow {PIL.__version__}".encode())
    return digest.hexdigest()[:16]


def make_split_scene(preset: str, seed: int, split: str, scene_index: int, count: int) -> Scene:
    """Make one scene of a split; it depends on the arguments alone.

    Args:
        preset: One of ``PRESETS``.
        seed: Seed of the benchmark.
        split: One of ``SPLITS``.
        scene_index: Number of the scene in its split.
        count: Expressions about it.

    Returns:
        Layout and references; rendering is left to the caller.

    Raises:
        ValueError: For an unknown preset or split.
    """
    if preset not in PRESETS or split not in SPLITS:
        raise ValueError(f"expected a preset of {PRESETS} and a split of {SPLITS}, got {preset!r} and {split!r}")
    key = (seed, PRESETS.index(preset), SPLITS.index(split))
    if preset == "refsegrs":
        return make_parking_scene(key, scene_index=scene_index, count=count, split=split)
    if split == "test_absent":
        return make_absent_scene(key, scene_index=scene_index, count=count)
    return make_scene(key, scene_index=scene_index, count=count, held_out=split == "test_compositional")
