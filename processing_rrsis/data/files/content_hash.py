"""A hash of what a split holds, so that two evaluations can be known to have scored the same data."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import datasets
import fsspec

HASHED_COLUMNS: tuple[str, ...] = ("image", "mask", "expression", "category")
BATCH_ROWS = 128


def content_hash(split: datasets.Dataset) -> str:
    """Hash the stored bytes of every image and mask and every text, in the order of the rows.

    It depends on nothing else: not on paths, caches, the `datasets` version or how the split was made. Files that were
    encoded again differ, even where their pixels are equal.

    Args:
        split: With the columns `image`, `mask` and `expression`; `category` is hashed where it is there.

    Returns:
        SHA-256, 64 hexadecimal digits.

    Raises:
        ValueError: If a column is missing.
    """
    missing = [name for name in HASHED_COLUMNS[:3] if name not in split.column_names]
    if missing:
        raise ValueError(f"expected the columns image, mask and expression, {missing} are missing; see load_benchmark")
    digest = hashlib.sha256()
    for row in _stored_rows(split):
        for name in HASHED_COLUMNS:
            value = _stored_bytes(row.get(name))
            digest.update(len(value).to_bytes(8, "little"))
            digest.update(value)
    return digest.hexdigest()


def _stored_rows(split: datasets.Dataset) -> Iterator[Mapping[str, Any]]:
    """Rows as they are stored, images undecoded."""
    columns = [name for name in HASHED_COLUMNS if name in split.column_names]
    for table in split.select_columns(columns).with_format("arrow").iter(batch_size=BATCH_ROWS):
        yield from table.to_pylist()


def _stored_bytes(value: Any) -> bytes:
    """The bytes of a text, or of an image that is embedded or stored as a path."""
    if value is None:
        return b""
    if isinstance(value, str):
        return value.encode()
    if value["bytes"] is not None:
        return value["bytes"]
    with fsspec.open(value["path"], "rb") as file:
        return file.read()
