"""What the writers of the published layouts share: a folder that appears whole, rows, pixels, marker."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...image_loading_rrsis import FORMATS
from ..files.marker import MARKER_FILE
from ..files.rows import SPLITS

PARTIAL_SUFFIX = ".partial"
"""A folder with this ending is a write that was interrupted."""
_WRITING_FILE = ".writing"
"""Lies in such a folder as long as it is written."""
_SIGNATURES: dict[str, tuple[bytes, ...]] = {
    "JPEG": (b"\xff\xd8\xff",),
    "TIFF": (b"II*\x00", b"MM\x00*"),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
}
_SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95},
    "TIFF": {"compression": "tiff_lzw"},
    "PNG": {"compress_level": 1},
}

Row = Mapping[str, Any]
"""A sample: ``image``, ``mask``, ``expression``, ``category``, ``image_id``, as the builders yield it."""


@dataclass(frozen=True)
class WrittenBenchmark:
    """What a writer wrote.

    Attributes:
        directory: The folder.
        layout: ``"rrsisd"``, ``"refsegrs"`` or ``"risbench"``.
        counts: References of ``train``, ``validation`` and ``test``.
        images: Image files.
        categories: Category names as spelled in the files; empty where the layout holds none.
    """

    directory: Path
    layout: str
    counts: dict[str, int]
    images: int
    categories: tuple[str, ...] = ()


@contextmanager
def fresh_directory(directory: str | Path, overwrite: bool = False) -> Iterator[Path]:
    """Yield a folder beside the wanted one and give it the wanted name when everything in it is written.

    A write that fails leaves nothing; one that is killed leaves ``DIRECTORY.partial`` and never half a benchmark
    under its own name.

    Args:
        directory: The wanted folder; it may exist if it is empty.
        overwrite: Whether to replace a folder that was written here before (it holds `MARKER_FILE`), and to throw
            away what an interrupted write left.

    Raises:
        FileExistsError: The folder holds files, or an interrupted write lies beside it, and `overwrite` is False; or
            the folder holds files that no writer of this package wrote.
        NotADirectoryError: There is a file of that name.
    """
    target = Path(directory).expanduser().absolute()
    partial = target.with_name(target.name + PARTIAL_SUFFIX)
    _check_target(target, overwrite=overwrite)
    _clear_partial(partial, overwrite=overwrite)
    partial.mkdir(parents=True)
    (partial / _WRITING_FILE).touch()
    try:
        yield partial
        (partial / _WRITING_FILE).unlink()
        if target.exists():
            shutil.rmtree(target)
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _clear_partial(partial: Path, overwrite: bool) -> None:
    """Throw away what an interrupted write left; a folder that only happens to have such a name stays."""
    if not partial.exists():
        return
    if not overwrite or not (partial / _WRITING_FILE).exists():
        raise FileExistsError(
            f"{partial}: an earlier write was interrupted or is still running; delete this folder"
            + ("" if overwrite else ", or overwrite")
        )
    shutil.rmtree(partial)


def _check_target(target: Path, overwrite: bool) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise NotADirectoryError(f"{target}: expected a folder or nothing there, found a file; choose another name")
    entries = sorted(path.name for path in target.iterdir())
    if not entries:
        return
    if not overwrite:
        raise FileExistsError(
            f"{target}: expected a new or empty folder, it holds {len(entries)} entries such as {entries[0]}; choose "
            "another one, or overwrite"
        )
    if MARKER_FILE not in entries:
        raise FileExistsError(
            f"{target}: expected a folder written by this package, it has no {MARKER_FILE}; it may be a download, so "
            "it is not overwritten: delete it yourself or choose another folder"
        )


def labelled_rows(rows_by_split: Mapping[str, Iterable[Row]]) -> Iterator[tuple[str, Row]]:
    """Yield (split, row) of all splits in the order train, validation, test.

    Raises:
        ValueError: For a split that the published layouts do not have.
    """
    unknown = set(rows_by_split) - set(SPLITS)
    if unknown:
        raise ValueError(
            f"rows_by_split: expected splits of {list(SPLITS)}, got also {sorted(unknown)}; the published "
            "layouts have no place for others"
        )
    for split in SPLITS:
        for row in rows_by_split.get(split, ()):
            yield split, row


def expression_of_row(row: Row) -> str:
    """Return the expression of a row without blanks around it.

    Raises:
        ValueError: For an expression that is empty or has several lines, which no text file of a line per reference
            can hold.
    """
    expression = str(row["expression"]).strip()
    if not expression or len(expression.splitlines()) != 1:
        raise ValueError(
            f"sample {row.get('sample_id', row['image_id'])!r}: expected an expression of one line, got {expression!r}"
        )
    return expression


def encode_image(image: Any, image_format: str) -> bytes:
    """Encode an image as 8-bit RGB; bytes that are a file of the format already stay as they are.

    Args:
        image: PIL image, uint8 array (H, W, 3), the bytes of an image file, or ``{"bytes": ...}``.
        image_format: ``"JPEG"``, ``"TIFF"`` or ``"PNG"``.

    Returns:
        The bytes of the file.
    """
    content = image.get("bytes") if isinstance(image, Mapping) else image
    if isinstance(content, bytes) and content.startswith(_SIGNATURES[image_format]):
        return content
    return _encode(_to_picture(content).convert("RGB"), image_format=image_format)


def encode_mask(mask: NDArray[np.bool_], image_format: str) -> bytes:
    """Encode a mask as an 8-bit file with the values 0 and 255.

    Args:
        mask: (H, W), True is foreground.
        image_format: ``"TIFF"`` or ``"PNG"``.
    """
    return _encode(Image.fromarray(mask.astype(np.uint8) * np.uint8(255)), image_format=image_format)


def read_mask(mask: Any) -> NDArray[np.bool_]:
    """Return a mask as (H, W) bool.

    Args:
        mask: PIL image, array (H, W), the bytes of an image file, or ``{"bytes": ...}``; every value but 0 is
            foreground.

    Raises:
        ValueError: For a mask of several bands.
    """
    content = mask.get("bytes") if isinstance(mask, Mapping) else mask
    values = content if isinstance(content, np.ndarray) else np.asarray(_to_picture(content))
    if values.ndim != 2:
        raise ValueError(f"mask: expected one band of shape (H, W), got {values.shape}")
    return values != 0


def _to_picture(content: Any) -> Image.Image:
    if isinstance(content, bytes):
        return Image.open(io.BytesIO(content), formats=FORMATS)
    if isinstance(content, np.ndarray):
        return Image.fromarray(content)
    if isinstance(content, Image.Image):
        return content
    raise TypeError(f"expected a PIL image, an array or the bytes of an image file, got {type(content).__name__}")


def _encode(picture: Image.Image, image_format: str) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format=image_format, **_SAVE_OPTIONS[image_format])
    return buffer.getvalue()


def write_marker(folder: Path, written: WrittenBenchmark, **origin: Any) -> None:
    """Write `MARKER_FILE`: what `check_download` compares a folder with that has no published counts.

    Args:
        folder: Where the files are.
        written: What was written.
        **origin: Where the rows come from, e.g. the seed.
    """
    content = {
        "layout": written.layout,
        "counts": written.counts,
        "images": written.images,
        "categories": list(written.categories),
        "origin": origin,
    }
    write_text(folder / MARKER_FILE, json.dumps(content, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file as UTF-8 with line feeds, whole or not at all."""
    temporary = path.with_name(path.name + ".writing")
    temporary.write_text(text, encoding="utf-8", newline="\n")
    os.replace(temporary, path)
