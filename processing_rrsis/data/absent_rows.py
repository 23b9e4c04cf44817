"""Rows about objects that are not in their image, with an empty mask, from which a network learns to mark nothing."""

from __future__ import annotations

import io
from typing import Any

import datasets
import numpy as np
from PIL import Image

from .files.rows import encode_png
from .load import load_benchmark

ABSENT_SPLIT = "test_absent"
OTHER_SCENES = 2**62
"""Added to the seed of SyntheticRS: scenes of training are not those of its own `test_absent`."""


def missing_rows(rows: Any, seed: int = 0) -> list[int | None]:
    """For each sample another one whose object is, as far as it is annotated, not in the image.

    Args:
        rows: Split with `expression`; `category` and `image_id` tell what is in an image.
        seed: Of the draw.

    Returns:
        A row for each sample; None where every other expression names a category of the image.
    """
    texts = list(rows["expression"])
    names = rows.column_names
    categories = list(rows["category"]) if "category" in names else texts
    images = list(rows["image_id"]) if "image_id" in names else list(range(len(texts)))
    inside: dict[Any, set[Any]] = {}
    for image, category in zip(images, categories, strict=True):
        inside.setdefault(image, set()).add(category)
    draw = np.random.default_rng(seed)
    others: dict[frozenset[Any], list[int]] = {}  # many images have the same categories
    found: list[int | None] = []
    for image in images:
        there = frozenset(inside[image])
        if there not in others:
            others[there] = [row for row, category in enumerate(categories) if category not in there]
        rest = others[there]
        found.append(rest[draw.integers(len(rest))] if rest else None)
    return found


def with_absent_rows(rows: Any, share: float, *, synthetic: dict[str, Any] | None = None, seed: int = 0) -> Any:
    """A training split, and behind its rows such about absent objects.

    Of SyntheticRS they are near misses in scenes of their own, as in its `test_absent`: every attribute but one fits
    some object. Of other data they are images of the split with an expression of another one, whose category the
    image lacks: as far as it is annotated, so that an object that nobody referred to is taken for absent.

    Args:
        rows: `datasets.Dataset` with the columns of a benchmark.
        share: Of the rows that are returned, in [0, 1).
        synthetic: `image_size_px` and `seed` of SyntheticRS where the rows are of it.
        seed: Of the draw.

    Raises:
        ValueError: If too few images lack a category.
    """
    count = round(len(rows) * share / (1 - share))
    if not count:
        return rows
    if synthetic is not None:
        sizes = {f"{split}_samples": 0 for split in ("train", "validation", "test", "test_compositional")}
        options = synthetic | sizes | {"test_absent_samples": count, "seed": synthetic["seed"] + OTHER_SCENES}
        more: Any = load_benchmark("synthetic", split=ABSENT_SPLIT, **options)
    else:
        more = _exchanged(rows, count, seed)
    return datasets.concatenate_datasets([rows, more.map(_renamed, features=rows.features)])


def _renamed(row: dict[str, Any]) -> dict[str, str]:
    return {"sample_id": f"absent-{row['sample_id']}"}


def _exchanged(rows: Any, count: int, seed: int) -> Any:
    """`count` images of a split with expressions of others and empty masks."""
    others = missing_rows(rows, seed)
    chosen = [row for row, other in enumerate(others) if other is not None]
    if len(chosen) < count:
        raise ValueError(
            f"--absent_share: expected {count:,} samples whose images lack a category of the split, {len(chosen):,} "
            "do; lower it or leave it out"
        )
    drawn = sorted(np.random.default_rng(seed).permutation(chosen)[:count].tolist())
    asked = rows.select([others[row] for row in drawn]).select_columns(["expression", "category"])[:]

    def exchange(row: dict[str, Any], number: int) -> dict[str, Any]:
        with Image.open(io.BytesIO(row["mask"]["bytes"])) as mask:
            empty = encode_png(np.zeros((mask.height, mask.width), dtype=np.uint8))
        texts = {name: asked[name][number] for name in asked}
        return texts | {"mask": {"bytes": empty, "path": None}}

    stored = rows.select(drawn).cast_column("mask", datasets.Image(decode=False))
    return stored.map(exchange, with_indices=True).cast_column("mask", rows.features["mask"])
