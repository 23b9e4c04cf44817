"""Masks as files store them (COCO's run lengths, polygons) to pixels, and pixels to run lengths and boxes."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

MAX_MASK_PIXELS = 1 << 28
MAX_NUMBERS = 500_000
MAX_PART_PIXELS = 10_000_000_000
"""Of the outlines of one mask; those of a published one are a few hundred."""
_SIX_BITS = 48
"""COCO's text of run lengths has six bits a character, from ASCII 48 on."""


def decode_segmentation(
    segmentation: Any, size: tuple[int, int] | None = None, source: str = "segmentation"
) -> NDArray[np.uint8]:
    """Decode run lengths or polygons; several of either are united.

    Args:
        segmentation: ``{"size": [height, width], "counts": text, bytes or list}``, a polygon as ``[x, y, x, y, …]`` or
            ``[[x, y], …]`` in pixels, or a list of these.
        size: (height, width) of the image; polygons are drawn on it, run lengths bring their own.
        source: What the segmentation belongs to, for messages.

    Returns:
        uint8 (height, width), 0 and 255. Run lengths keep their own size, whatever `size` says.

    Raises:
        ValueError: For anything else, runs that don't fill the mask, points far outside, or sizes out of range.
    """
    parts = [segmentation] if isinstance(segmentation, Mapping) or _is_polygon(segmentation) else segmentation
    if not isinstance(parts, Sequence) or isinstance(parts, str | bytes) or not parts:
        raise ValueError(
            f"{source}: expected run lengths {{'size': [height, width], 'counts': …}}, a polygon [x, y, x, y, …] or a "
            f"list of these, got {_shorten(segmentation)}"
        )
    check_outlines([part for part in parts if not isinstance(part, Mapping)], source)
    _check_parts(parts, size, source)
    union: NDArray[np.uint8] | None = None
    for part in parts:
        if isinstance(part, Mapping):
            mask = _decode_runs(part, source)
        elif _is_polygon(part):
            mask = _draw_polygon(part, size, source)
        else:
            raise ValueError(f"{source}: expected run lengths or a polygon in the list, got {_shorten(part)}")
        if union is not None and union.shape != mask.shape:
            raise ValueError(f"{source}: expected parts of one size, got (height, width) {union.shape}, {mask.shape}")
        union = mask if union is None else np.maximum(union, mask, out=union)
    return union  # type: ignore[return-value]  # there is at least one part


def _check_parts(parts: Sequence[Any], size: tuple[int, int] | None, source: str) -> None:
    """Refuse parts that would take minutes: each is drawn into a mask of its own."""
    sizes: list[Any] = [part.get("size") if isinstance(part, Mapping) else size for part in parts]
    pixels = 0
    for one in sizes:  # what is no size is refused when it is decoded
        is_size = isinstance(one, Sequence) and len(one) == 2 and all(isinstance(side, int) for side in one)
        pixels += one[0] * one[1] if is_size else 0
    if len(parts) > 1 and pixels > MAX_PART_PIXELS:
        raise ValueError(
            f"{source}: expected parts of at most {MAX_PART_PIXELS:,} pixels together, got {len(parts):,} of "
            f"{pixels:,}; join them"
        )


def check_outlines(outlines: Sequence[Any], source: str) -> None:
    """Refuse outlines, as lists or texts, that would take a minute to draw.

    Raises:
        ValueError: They hold more than `MAX_NUMBERS` numbers, or lists in too many others.
    """
    try:
        number = sum(str(outline).count(",") for outline in outlines)
    except RecursionError:
        raise ValueError(f"{source}: expected outlines, got lists in too many lists") from None
    if number > MAX_NUMBERS:
        raise ValueError(
            f"{source}: expected outlines of at most {MAX_NUMBERS:,} numbers, got {number:,}; leave points out"
        )


def run_lengths(counts: Any, source: str = "segmentation") -> NDArray[np.int64]:
    """Return the run lengths of COCO's compressed text, or of a plain list.

    A character holds five bits of a number, lowest first, and a flag that more follow; the sign is the highest bit
    of the last five. From the fourth run on, a number is the difference to the run two before.

    Args:
        counts: Text, bytes or a list of numbers; the first run is background.
        source: For messages.

    Returns:
        Lengths in pixels, none negative.

    Raises:
        ValueError: If the text is damaged or a length is negative.
    """
    if isinstance(counts, str | bytes):
        data = counts.encode("latin-1", "replace") if isinstance(counts, str) else counts
        codes = np.frombuffer(data, dtype=np.uint8).astype(np.int64) - _SIX_BITS
        last = (codes & 0x20) == 0
        if not codes.size or codes.min() < 0 or codes.max() > 63 or not last[-1]:
            raise ValueError(f"{source}: expected COCO's compressed run lengths, got damaged text {_shorten(counts)}")
        starts = np.concatenate(([0], np.flatnonzero(last)[:-1] + 1))
        widths = np.diff(np.append(starts, codes.size))
        if widths.max() > 7:  # 35 bits: more than any image has pixels
            raise ValueError(f"{source}: run lengths out of range in {_shorten(counts)}")
        places = np.arange(codes.size) - np.repeat(starts, widths)
        values = np.add.reduceat((codes & 0x1F) << (5 * places), starts)
        values -= np.where(codes[last] & 0x10, 1 << (5 * widths), 0)
        values[1::2] = np.cumsum(values[1::2])
        values[2::2] = np.cumsum(values[2::2])
    else:
        values = _numbers(counts, source)
        if not np.array_equal(values, np.rint(values)):
            raise ValueError(f"{source}: expected whole run lengths, got {_shorten(counts)}")
        values = values.astype(np.int64)
    if values.size and values.min() < 0:
        raise ValueError(f"{source}: expected run lengths of 0 and more, got {int(values.min())}; the text is damaged")
    return values


def _decode_runs(runs: Mapping[str, Any], source: str) -> NDArray[np.uint8]:
    """Decode one mask; pycocotools doesn't notice runs that leave pixels out, and shows what memory held there."""
    if "size" not in runs or "counts" not in runs:
        raise ValueError(
            f"{source}: expected run lengths with 'size' and 'counts', got the keys {_shorten(list(runs))}"
        )
    size = _numbers(runs["size"], source)
    if (
        size.shape != (2,)
        or not np.array_equal(size, np.rint(size))
        or size.min() < 1
        or size.prod() > MAX_MASK_PIXELS
    ):
        raise ValueError(
            f"{source}: expected 'size' [height, width] of 1 to {MAX_MASK_PIXELS} pixels, got {_shorten(runs['size'])}"
        )
    height, width = int(size[0]), int(size[1])
    lengths = run_lengths(runs["counts"], source)
    if lengths.max(initial=0) > height * width or int(lengths.sum()) != height * width:
        raise ValueError(
            f"{source}: expected run lengths of {height}×{width} = {height * width} pixels, got {int(lengths.sum())}"
        )
    values = (np.arange(lengths.size, dtype=np.uint8) & 1) * np.uint8(255)
    return np.ascontiguousarray(np.repeat(values, lengths).reshape(width, height).T)


def _draw_polygon(points: Any, size: tuple[int, int] | None, source: str) -> NDArray[np.uint8]:
    """Draw one polygon as COCO does."""
    if size is None:
        raise ValueError(f"{source}: expected the image's size with a polygon, got none")
    if not all(isinstance(value, int | float) for value in points):
        pairs = [_numbers(pair, source) for pair in points]
        if any(pair.shape != (2,) for pair in pairs):
            raise ValueError(f"{source}: expected polygon points as [x, y], got {_shorten(points)}")
        flat = np.concatenate(pairs)
    else:
        flat = _numbers(points, source)
    if flat.size % 2 or flat.size < 6:
        raise ValueError(f"{source}: expected a polygon of at least 3 points x, y, got {flat.size} numbers")
    height, width = size
    reach = np.array([width, height])
    far = (flat.reshape(-1, 2) < -reach) | (flat.reshape(-1, 2) > 2 * reach)
    if far.any():
        raise ValueError(
            f"{source}: expected polygon points in pixels of the {width}×{height} image, got "
            f"{_shorten(flat.reshape(-1, 2)[far.any(axis=1)][0].tolist())}"
        )
    (encoded,) = coco_mask.frPyObjects([flat.tolist()], height, width)
    return np.ascontiguousarray(coco_mask.decode(encoded) * np.uint8(255))


def _is_polygon(value: Any) -> bool:
    """Tell a list of numbers or of [x, y] pairs from a list of polygons."""
    if not isinstance(value, Sequence) or isinstance(value, str | bytes) or not value:
        return False
    if isinstance(value[0], int | float) and not isinstance(value[0], bool):
        return True
    first = value[0]
    return (
        isinstance(first, Sequence)
        and not isinstance(first, str | bytes)
        and len(first) == 2
        and all(isinstance(number, int | float) for number in first)
    )


def _numbers(values: Any, source: str) -> NDArray[np.float64]:
    """Return a flat list as finite numbers."""
    if (
        not isinstance(values, Sequence)
        or isinstance(values, str | bytes)
        or not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    ):
        raise ValueError(f"{source}: expected a list of numbers, got {_shorten(values)}")
    try:
        numbers = np.array(values, dtype=np.float64)
    except OverflowError as error:
        raise ValueError(f"{source}: numbers out of range in {_shorten(values)}") from error
    if not np.isfinite(numbers).all():
        raise ValueError(f"{source}: expected finite numbers, got {_shorten(values)}")
    return numbers


def _shorten(value: Any) -> str:
    """Return a value's text, cut; safe for values that hold themselves."""
    return reprlib.repr(value)


def encode_rle(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Encode a mask as COCO's compressed run lengths.

    Args:
        mask: (H, W), True is foreground.

    Returns:
        ``{"size": [H, W], "counts": text}``, as JSON can hold it.
    """
    runs = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(side) for side in runs["size"]], "counts": runs["counts"].decode("ascii")}


def tight_box(mask: NDArray[Any]) -> list[int]:
    """Return the first and last column and row of the foreground, [x first, y first, x last, y last] in pixels.

    Four zeros where the mask is empty.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return [0, 0, 0, 0]
    return [int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])]
