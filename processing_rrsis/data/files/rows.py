"""Rows of every benchmark: columns, splits, the PNG of an image or mask, and shards."""

from __future__ import annotations

import io
import itertools

import datasets
import numpy as np
from numpy.typing import NDArray
from PIL import Image

SPLITS: tuple[str, ...] = ("train", "validation", "test")
SHARDS_PER_SPLIT = 16


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """Encode (H, W, 3) or (H, W) uint8 pixels as PNG, fast rather than small."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def row_features(*more_texts: str) -> datasets.Features:
    """Return the columns that every benchmark has, and further columns of text."""
    texts = ("expression", "category", "image_id", "sample_id", *more_texts)
    images = {"image": datasets.Image(), "mask": datasets.Image(mode="L")}
    return datasets.Features({**images, **{name: datasets.Value("string") for name in texts}})


def shard_ranges(count: int) -> list[tuple[int, int]]:
    """Cut so many items into `SHARDS_PER_SPLIT` ranges (start, stop), fewer where there are fewer items."""
    borders = [count * part // SHARDS_PER_SPLIT for part in range(SHARDS_PER_SPLIT + 1)]
    return [(start, stop) for start, stop in itertools.pairwise(borders) if start < stop]
