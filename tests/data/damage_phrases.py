"""Damage to a folder in the layout of RefSegRS or RISBench; see `damage`."""

from __future__ import annotations

import filecmp
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from processing_rrsis.data.files.archives import open_archive
from processing_rrsis.data.files.rows import SPLITS
from processing_rrsis.data.refsegrs_files import PHRASE_LAYOUTS, image_name, mask_name, read_phrases
from processing_rrsis.data.writing.folder import encode_mask, read_mask
from processing_rrsis.data.writing.phrases import IMAGE_FORMATS, write_phrases

from .damage import Damage, replace_by_web_page, take, truncate_file

FREE_ID = "999999"
ODD_FOREGROUND, ODD_BACKGROUND = 200, 30
"""Values on both sides of 50, above which a pixel is foreground."""


@dataclass
class _Line:
    """A line of a text file that can be changed."""

    split: str
    image_id: str
    expression: str


class PhraseFolder:
    """Lines and files of a folder; a line that was hit is in no pool any more.

    Args:
        folder: Written by `phrases.PhraseWriter`.
        layout: ``"refsegrs"`` or ``"risbench"``.
    """

    def __init__(self, folder: Path, layout: str) -> None:
        self.folder = folder
        self._layout = PHRASE_LAYOUTS[layout]
        self._format, self._ending = IMAGE_FORMATS[layout]
        archive = open_archive(folder)
        self._lines = [
            _Line(split=split, image_id=line.image_id, expression=line.expression)
            for split in SPLITS
            for line in read_phrases(archive, split)
        ]
        self._whole = list(self._lines)

    def apply(self, kind: str, draw: random.Random) -> Damage:
        """Do one kind of damage."""
        if kind == "extra-file":
            name = image_name(FREE_ID if self._layout.extension else FREE_ID + self._ending, self._layout)
            Image.new("RGB", (8, 8), color=(7, 77, 7)).save(self.folder / name)
            return Damage(kind=kind, names=(name,), detail="a file that no line names")
        if kind in ("leak", "leak-content", "duplicate-expression"):
            return self._join_images(kind, draw=draw)
        line = take(self._whole, kind=kind, draw=draw)
        if kind == "wrong-count":
            return self._delete(line)
        if kind in ("missing-image", "truncated-image", "unreadable-image"):
            return self._damage_file(kind, image_name(line.image_id, self._layout))
        if kind in ("missing-mask", "unreadable-mask"):
            return self._damage_file(kind, mask_name(line.image_id, self._layout))
        return self._damage_mask(kind, mask_name(line.image_id, self._layout))

    def save(self) -> None:
        """Write the text files again."""
        write_phrases(
            self.folder,
            {
                split: [(line.image_id, line.expression) for line in self._lines if line.split == split]
                for split in SPLITS
            },
        )

    def _damage_file(self, kind: str, name: str) -> Damage:
        path = self.folder / name
        if kind.startswith("missing"):
            path.unlink()
            detail = "deleted"
        else:
            detail = truncate_file(path) if kind == "truncated-image" else replace_by_web_page(path)
        return Damage(kind=kind, names=(name,), detail=detail)

    def _damage_mask(self, kind: str, name: str) -> Damage:
        path = self.folder / name
        mask = read_mask(path.read_bytes())
        if kind == "mask-size":
            path.write_bytes(encode_mask(np.pad(mask, ((0, 0), (0, 1))), image_format=self._format))
            detail = f"{mask.shape[1] + 1} columns, image {mask.shape[1]}"
        elif kind == "empty-mask":
            path.write_bytes(encode_mask(np.zeros_like(mask), image_format=self._format))
            detail = "no foreground"
        else:
            values = np.where(mask, ODD_FOREGROUND, ODD_BACKGROUND).astype(np.uint8)
            Image.fromarray(values).save(path)
            detail = f"{ODD_FOREGROUND} on the object, {ODD_BACKGROUND} elsewhere"
        return Damage(kind=kind, names=(name,), detail=detail)

    def _delete(self, line: _Line) -> Damage:
        self._lines.remove(line)
        self._delete_files(line.image_id)
        return Damage(kind="wrong-count", names=(line.split,), detail=f"line and files of {line.image_id} deleted")

    def _delete_files(self, image_id: str) -> None:
        for name in (image_name(image_id, self._layout), mask_name(image_id, self._layout)):
            (self.folder / name).unlink()

    def _said_of(self, line: _Line) -> set[str]:
        """Return the expressions of all samples that show the same picture."""
        paths = {other.image_id: self.folder / image_name(other.image_id, self._layout) for other in self._lines}
        own, size = paths[line.image_id], paths[line.image_id].stat().st_size
        twins = {
            image_id
            for image_id, path in paths.items()
            if path.is_file() and path.stat().st_size == size and filecmp.cmp(own, path, shallow=False)
        }
        return {other.expression for other in self._lines if other.image_id in twins}

    def _join_images(self, kind: str, draw: random.Random) -> Damage:
        """Give one line the image of another: its files, or its image's content."""
        first = take(self._whole, kind=kind, draw=draw, fits=lambda line: line.split == SPLITS[0])
        said = self._said_of(first)

        def fits(line: _Line) -> bool:
            if kind == "duplicate-expression":
                return line.split == first.split
            return line.split != first.split and line.expression not in said

        moved = take(self._whole, kind=kind, draw=draw, fits=fits)
        source = image_name(first.image_id, self._layout)
        if kind == "leak-content":
            target = image_name(moved.image_id, self._layout)
            (self.folder / target).write_bytes((self.folder / source).read_bytes())
            return Damage(kind=kind, names=(target,), detail=f"now a copy of {source}")
        left = moved.image_id
        moved.image_id = first.image_id
        if kind == "duplicate-expression":
            moved.expression = first.expression
        self._delete_files(left)
        return Damage(kind=kind, names=(source,), detail=f"the line of {left} now names {first.image_id}")
