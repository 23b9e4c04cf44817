"""Writes samples as RefSegRS and RISBench are published: a folder of images, one of masks, a text file per split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..files.rows import SPLITS
from ..refsegrs_files import PHRASE_LAYOUTS, SPLIT_FILES, PhraseLayout, image_name, mask_name
from .folder import Row, WrittenBenchmark, encode_image, encode_mask, expression_of_row, read_mask, write_text

IMAGE_FORMATS: dict[str, tuple[str, str]] = {"refsegrs": ("TIFF", ".tif"), "risbench": ("PNG", ".png")}
"""Format in Pillow and ending of images and masks. RISBench's is our assumption: its lines carry whatever ending."""


@dataclass
class PhraseWriter:
    """Takes rows one by one: image and mask go to disk at once, the lines are kept and written at the end.

    Every sample has an image file of its own, as in RefSegRS, whose 4,420 samples show 285 scenes.

    Args:
        folder: Empty folder.
        name: A key of `PHRASE_LAYOUTS`.
    """

    folder: Path
    name: str
    _lines: dict[str, list[tuple[str, str]]] = field(default_factory=lambda: {split: [] for split in SPLITS})
    _samples: int = 0
    _last_image: tuple[str, bytes] = ("", b"")

    def __post_init__(self) -> None:
        for name in (self._layout.image_folder, self._layout.mask_folder):
            (self.folder / name).mkdir(parents=True)

    @property
    def _layout(self) -> PhraseLayout:
        return PHRASE_LAYOUTS[self.name]

    def add(self, split: str, row: Row) -> None:
        """Write one sample.

        Args:
            split: ``"train"``, ``"validation"`` or ``"test"``.
            row: See `writing.Row`; the category is not stored.

        Raises:
            ValueError: For an expression that is not one line.
        """
        expression = expression_of_row(row)
        self._samples += 1
        image_format, ending = IMAGE_FORMATS[self.name]
        first_word = str(self._samples) if self._layout.extension else f"{self._samples}{ending}"
        (self.folder / image_name(first_word, self._layout)).write_bytes(self._image_bytes(row, image_format))
        mask = encode_mask(read_mask(row["mask"]), image_format=image_format)
        (self.folder / mask_name(first_word, self._layout)).write_bytes(mask)
        self._lines[split].append((first_word, expression))

    def _image_bytes(self, row: Row, image_format: str) -> bytes:
        """Encode an image once for all samples of it that follow each other."""
        image_id = str(row["image_id"])
        if self._last_image[0] != image_id or not self._last_image[1]:
            self._last_image = (image_id, encode_image(row["image"], image_format=image_format))
        return self._last_image[1]

    def finish(self) -> WrittenBenchmark:
        """Write the text files."""
        write_phrases(self.folder, self._lines)
        return WrittenBenchmark(
            directory=self.folder,
            layout=self.name,
            counts={split: len(lines) for split, lines in self._lines.items()},
            images=self._samples,
        )


def write_phrases(folder: Path, lines: Mapping[str, Sequence[tuple[str, str]]]) -> None:
    """Write the text file of each split, one line ``<first word> <expression>`` per sample."""
    for split, pairs in lines.items():
        write_text(folder / SPLIT_FILES[split], "".join(f"{word} {expression}\n" for word, expression in pairs))
