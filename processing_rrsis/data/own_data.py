"""One's own images, masks and expressions as a `datasets` builder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from os import PathLike
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from numpy.typing import NDArray

from .archives import Archive
from .file_benchmark import FileBenchmark, Oddities, Sample
from .mask_forms import decode_segmentation
from .own_table import SPLIT_ALIASES, TableRow, read_table
from .picture_files import Picture, read_mask


class TableFiles(Archive):
    """The files that a table names, by the paths it names them with: relative to the table, or absolute."""

    def __init__(self, source: Path) -> None:
        super().__init__(source)
        self.rows: list[TableRow] = read_table(source)

    def exists(self, name: str) -> bool:
        """Tell whether there is a file; the paths are the user's own and may lead anywhere."""
        return self._has(name)

    def read(self, name: str) -> bytes:
        """Return the content of a file.

        Raises:
            FileNotFoundError: If there is no such file.
        """
        return self._read(name)

    def location(self, name: str) -> str:
        """Return the path that a name leads to."""
        return str(self._path(name))

    def fingerprint(self, prefixes: Iterable[str] = ("",)) -> str:
        """Return a hash of the table's content, and of sizes and times of change of the files it names."""
        table = hashlib.sha256(self.source.read_bytes()).hexdigest()
        return hashlib.sha256(f"{table} {super().fingerprint(prefixes)}".encode()).hexdigest()[:16]

    def _path(self, name: str) -> Path:
        return self.source.parent / Path(name).expanduser()

    def _walk(self) -> Iterator[tuple[str, str]]:
        masks = (row.mask for row in self.rows if isinstance(row.mask, str))
        for name in dict.fromkeys([*(row.image for row in self.rows), *masks]):
            if self._has(name):
                status = self._path(name).stat()
                yield name, f"{status.st_size} {status.st_mtime_ns}"

    def _has(self, path: str) -> bool:
        return self._path(path).is_file()

    def _read(self, path: str) -> bytes:
        return self._path(path).read_bytes()


class OwnData(FileBenchmark):
    """Own images with masks and expressions, listed in a CSV or JSONL file.

    Source: the user's. Licence: the user's.
    Format: columns ``image, mask, expression``, optionally ``category`` and ``split`` (train, validation, test; all
    rows are ``train`` without it). Paths are relative to the table. ``image``: anything that
    `image_loading_rrsis.load_image` opens. ``mask``, of the image upright as its EXIF says:

    - an image file with the values 0 and 255, or 0 and 1;
    - run lengths: ``{"size": [height, width], "counts": …}``, compressed as in COCO or a list;
    - a polygon ``[[x, y], …]`` or COCO's ``[x, y, x, y, …]`` in pixels, or a list of several, which are united.

    In a CSV, run lengths and polygons are JSON in a quoted cell. A mask of another size than its image is resized
    (nearest), which a warning counts. Images are embedded as they are; a TIFF that Pillow can't open as 8-bit PNG.
    Columns: ``image``, ``mask``, ``expression``, ``category`` (``""`` without one), ``image_id``, ``sample_id``
    (image and line).

    Example:
        >>> OwnData(data_dir="mine.csv").read_samples()["train"][0].expression  # doctest: +SKIP
        'the red roof'
    """

    NAME = "own data"
    LICENSE = "the user's own"
    DOWNLOAD = "here the path of a .csv or .jsonl file with the columns image, mask, expression"

    archive: TableFiles

    def open(self, data_dir: str | PathLike[str]) -> Archive:
        """Read the table."""
        return TableFiles(Path(data_dir).expanduser().absolute())

    def read_samples(self) -> dict[str, list[Sample]]:
        """Return the rows of the table by split."""
        samples: dict[str, list[Sample]] = {split: [] for split in dict.fromkeys(SPLIT_ALIASES.values())}
        for row in self.archive.rows:
            is_file = isinstance(row.mask, str)
            image_id = Path(row.image).stem
            samples[row.split].append(
                Sample(
                    sample_id=f"{image_id}_{row.line_number}",
                    image_id=image_id,
                    expression=row.expression,
                    category=row.category,
                    image_name=row.image,
                    mask_name=str(row.mask) if is_file else "",
                    mask=None if is_file else (row.line_number, row.mask),
                )
            )
        return samples

    def read_mask(self, sample: Sample, picture: Picture, oddities: Oddities) -> NDArray[np.uint8]:
        """Return a mask file's pixels, or draw run lengths and polygons."""
        if sample.mask_name:
            name = self.archive.location(sample.mask_name)
            return read_mask(self.archive.read(sample.mask_name), name=name)
        line_number, form = sample.mask
        return decode_segmentation(
            form, size=picture.size, source=f"{self.archive.source}, line {line_number}, 'mask'"
        )


def load_own_data(
    path: str | PathLike[str],
    split: str | None = None,
    *,
    num_proc: int | None = None,
    streaming: bool = False,
    **kwargs: Any,
) -> datasets.Dataset | datasets.DatasetDict | datasets.IterableDataset | datasets.IterableDatasetDict:
    """Read one's own data in one call.

    Args:
        path: The .csv or .jsonl file that `OwnData` describes.
        split: Split to return; all of them by default.
        num_proc: Processes that build.
        streaming: Whether rows are made while they are read, with nothing stored.
        **kwargs: Handed to `OwnData`, e.g. ``allow_missing``, ``cache_dir``.

    Returns:
        The split, or all splits by name.

    Raises:
        FileNotFoundError: If the table or files it names are missing.
        ValueError: If a line or a file can't be read; the message names it.
    """
    builder = OwnData(data_dir=path, **kwargs)
    if streaming:
        return builder.as_streaming_dataset(split=split)
    builder.download_and_prepare(num_proc=num_proc)
    return builder.as_dataset(split=split)
