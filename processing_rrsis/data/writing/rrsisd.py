"""Writes samples as RRSIS-D is published: JPEGs, DIOR's XML, a pickled list of references, COCO-like annotations."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from PIL import Image

from ...image_loading_rrsis import FORMATS
from ..files.masks import encode_rle, tight_box
from ..rrsisd_files import BOX_FOLDER, IMAGE_FOLDER, INSTANCES_FILE, REFERENCES_FILE, SPLIT_NAMES, box_name, image_name
from .folder import Row, WrittenBenchmark, encode_image, expression_of_row, read_mask, write_text

FILE_SPLITS: dict[str, str] = {split: name for name, split in SPLIT_NAMES.items()}
"""Split → its name in the file of references."""
PICKLE_PROTOCOL = 2
"""The one that every Python since 2.3 reads."""

FILE_CATEGORIES: tuple[str, ...] = (
    "Expressway-Service-area",
    "Expressway-toll-station",
    "airplane",
    "airport",
    "baseballfield",
    "basketballcourt",
    "bridge",
    "chimney",
    "dam",
    "golffield",
    "groundtrackfield",
    "harbor",
    "overpass",
    "ship",
    "stadium",
    "storagetank",
    "tenniscourt",
    "trainstation",
    "vehicle",
    "windmill",
)
"""The 20 categories as spelled in the published files."""


def category_in_files(category: str) -> str:
    """Return the files' spelling of a category: "storage tank" is ``storagetank``; others lose their blanks."""
    joined = "".join(category.split())
    spellings = {name.replace("-", "").lower(): name for name in FILE_CATEGORIES}
    return spellings.get(joined.replace("-", "").lower(), joined)


@dataclass
class _ImageEntry:
    """An image that was written, and the objects of its XML file."""

    number: int
    width: int
    height: int
    objects: list[tuple[str, list[int]]] = field(default_factory=list)

    @property
    def file_name(self) -> str:
        return f"{self.number:05d}.jpg"


@dataclass
class RRSISDWriter:
    """Takes rows one by one; images go to disk at once, the lists are kept and written at the end.

    Args:
        folder: Empty folder.
        categories: Names that get the first category numbers, counted from 1; further ones are appended as they come.
    """

    folder: Path
    categories: Sequence[str] = FILE_CATEGORIES
    _images: dict[str, _ImageEntry] = field(default_factory=dict)
    _references: list[dict[str, Any]] = field(default_factory=list)
    _annotations: list[dict[str, Any]] = field(default_factory=list)
    _category_ids: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._category_ids = {name: number for number, name in enumerate(self.categories, start=1)}
        for name in (IMAGE_FOLDER, BOX_FOLDER, str(Path(REFERENCES_FILE).parent)):
            (self.folder / name).mkdir(parents=True)

    def add(self, split: str, row: Row) -> None:
        """Write one sample; rows of the same ``image_id`` share an image.

        Args:
            split: ``"train"``, ``"validation"`` or ``"test"``.
            row: See `writing.Row`.

        Raises:
            ValueError: For a mask of another size than its image, or an expression that is not one line.
        """
        expression = expression_of_row(row)
        image = self._image_of(row)
        mask = read_mask(row["mask"])
        if mask.shape != (image.height, image.width):
            raise ValueError(
                f"sample {row.get('sample_id', row['image_id'])!r}: expected a mask of {image.height} x {image.width} "
                f"(height x width, as its image), got {mask.shape[0]} x {mask.shape[1]}"
            )
        category = category_in_files(str(row["category"]))
        category_id = self._category_ids.setdefault(category, len(self._category_ids) + 1)
        box = tight_box(mask)
        number = len(self._references) + 1
        image.objects.append((category, box))
        self._annotations.append(
            {
                "id": number,
                "image_id": image.number,
                "categories_id": category_id,
                "bbox": box,
                "area": int(mask.sum()),
                "segmentation": [encode_rle(mask)],
            }
        )
        sentence = {"tokens": expression.split(), "raw": expression, "sent": expression, "sent_id": number}
        self._references.append(
            {
                "image_id": image.number,
                "split": FILE_SPLITS[split],
                "sentences": [sentence],
                "file_name": image.file_name,
                "category_id": category_id,
                "ann_id": number,
                "sent_ids": [number],
                "ref_id": number,
            }
        )

    def _image_of(self, row: Row) -> _ImageEntry:
        """Return the entry of the row's image, which is written where it is a new one."""
        image_id = str(row["image_id"])
        if image_id not in self._images:
            path = self.folder / image_name(f"{len(self._images) + 1:05d}.jpg")
            path.write_bytes(encode_image(row["image"], image_format="JPEG"))
            with Image.open(path, formats=FORMATS) as picture:
                width, height = picture.size
            self._images[image_id] = _ImageEntry(number=len(self._images) + 1, width=width, height=height)
        return self._images[image_id]

    def finish(self) -> WrittenBenchmark:
        """Write XML, annotations and, last, the references."""
        for image in self._images.values():
            write_xml(self.folder, image.file_name, size=(image.width, image.height), objects=image.objects)
        write_instances(
            self.folder,
            {
                "info": {"description": "written by rrsis in the layout of RRSIS-D"},
                "images": [
                    {"id": image.number, "file_name": image.file_name, "width": image.width, "height": image.height}
                    for image in self._images.values()
                ],
                "annotations": self._annotations,
                "categories": [
                    {"id": number, "name": name, "supercategory": name} for name, number in self._category_ids.items()
                ],
            },
        )
        write_references(self.folder, self._references)
        splits = [reference["split"] for reference in self._references]
        return WrittenBenchmark(
            directory=self.folder,
            layout="rrsisd",
            counts={split: splits.count(name) for split, name in FILE_SPLITS.items()},
            images=len(self._images),
            categories=tuple(self._category_ids),
        )


def write_xml(
    folder: Path, file_name: str, *, size: tuple[int, int], objects: Iterable[tuple[str, Sequence[int]]]
) -> None:
    """Write the Pascal VOC file of an image as in DIOR.

    Args:
        folder: The benchmark's folder.
        file_name: Name of the image file.
        size: Width and height in pixels.
        objects: Category and box [x first, y first, x last, y last] of every object.
    """
    root = ElementTree.Element("annotation")
    ElementTree.SubElement(root, "filename").text = file_name
    ElementTree.SubElement(ElementTree.SubElement(root, "source"), "database").text = "SyntheticRS"
    sides = ElementTree.SubElement(root, "size")
    for name, value in (("width", size[0]), ("height", size[1]), ("depth", 3)):
        ElementTree.SubElement(sides, name).text = str(value)
    ElementTree.SubElement(root, "segmented").text = "0"
    for category, box in objects:
        item = ElementTree.SubElement(root, "object")
        ElementTree.SubElement(item, "name").text = category
        ElementTree.SubElement(item, "pose").text = "Unspecified"
        corners = ElementTree.SubElement(item, "bndbox")
        for name, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True):
            ElementTree.SubElement(corners, name).text = str(value)
    ElementTree.indent(root, space="\t")
    text = ElementTree.tostring(root, encoding="unicode") + "\n"
    (folder / box_name(file_name)).write_text(text, encoding="utf-8")


def write_instances(folder: Path, content: dict[str, Any]) -> None:
    """Write ``instances.json``, whole or not at all."""
    write_text(folder / INSTANCES_FILE, json.dumps(content))


def write_references(folder: Path, references: Sequence[dict[str, Any]]) -> None:
    """Write ``refs(unc).p``: a pickle of lists, dicts, strings and integers, whole or not at all."""
    path = folder / REFERENCES_FILE
    temporary = path.with_name(path.name + ".writing")
    temporary.write_bytes(pickle.dumps(list(references), protocol=PICKLE_PROTOCOL))
    os.replace(temporary, path)
