"""The files of RRSIS-D as published: where they lie, what they say, and their oddities.

``rrsisd/refs(unc).p`` is a pickle with one entry per reference, ``rrsisd/instances.json`` holds masks, boxes and
category names; the images lie in ``images/rrsisd/JPEGImages``.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from ..bounds_rrsis import parse_json
from ..expression_rrsis import check_text
from .files.archives import Archive, ArchiveError, checked_name
from .files.safe_pickle import load_plain_pickle

REFERENCES_FILE = "rrsisd/refs(unc).p"
INSTANCES_FILE = "rrsisd/instances.json"
IMAGE_FOLDER = "images/rrsisd/JPEGImages"
BOX_FOLDER = "images/rrsisd/ann_split"
SPLIT_NAMES: dict[str, str] = {"train": "train", "val": "validation", "test": "test"}
"""Names of the splits in the file and in `datasets`."""


@dataclass(frozen=True)
class Reference:
    """One expression about one object.

    Attributes:
        ref_id: Number of the reference.
        ann_id: Number of its `Annotation`.
        image_id: Number of its image.
        split: ``"train"``, ``"validation"`` or ``"test"``.
        file_name: Name of the image file, e.g. ``"00005.jpg"``.
        category: Name of the category as the files spell it, e.g. ``"golffield"``.
        expression: The sentence as written (``raw``).
        sent_id: Number of the sentence.
    """

    ref_id: int
    ann_id: int
    image_id: int
    split: str
    file_name: str
    category: str
    expression: str
    sent_id: int


@dataclass(frozen=True)
class Annotation:
    """One marked object.

    Attributes:
        ann_id: Number of the annotation.
        image_id: Number of its image.
        category: Name of the category as the files spell it; ``""`` where its number has no name.
        bbox_xyxy: Left, top, right and bottom in pixels, not COCO's left, top, width, height.
        segmentation: As stored; `decode_segmentation` reads it.
    """

    ann_id: int
    image_id: int
    category: str
    bbox_xyxy: tuple[float, float, float, float]
    segmentation: Any


def image_name(file_name: str) -> str:
    """Return the name of an image in the archive.

    Args:
        file_name: As a `Reference` has it.

    Raises:
        ArchiveError: If it is more than a file name.
    """
    if PurePosixPath(file_name).name != file_name:
        raise ArchiveError(f"{REFERENCES_FILE}: expected a plain file name such as '00005.jpg', got {file_name!r}")
    return f"{IMAGE_FOLDER}/{checked_name(file_name, REFERENCES_FILE)}"


def box_name(file_name: str) -> str:
    """Return the name of an image's XML with boxes in the archive; arguments and errors as `image_name`."""
    return f"{BOX_FOLDER}/{PurePosixPath(image_name(file_name)).stem}.xml"


def read_instances(archive: Archive) -> dict[str, Any]:
    """Read ``instances.json``; hand it to `read_references` and `read_annotations` to read it once only.

    Raises:
        FileNotFoundError: If the archive has none.
        ValueError: If it is no JSON object with lists of ``annotations`` and ``categories``.
    """
    name = archive.location(INSTANCES_FILE)
    instances = parse_json(archive.read(INSTANCES_FILE), source=name)
    if not isinstance(instances, dict) or not all(
        isinstance(instances.get(key), list) for key in ("annotations", "categories")
    ):
        raise ValueError(f"{name}: expected an object with the lists 'annotations' and 'categories'; fetch it again")
    return instances


def read_references(
    archive: Archive, instances: Mapping[str, Any] | None = None, *, unique: bool = True
) -> list[Reference]:
    """Read all references in the file's order.

    Args:
        archive: The opened download.
        instances: What `read_instances` returned; read from the archive by default.
        unique: Whether to refuse references of the same numbers (`repeated_references` finds them).

    Returns:
        One `Reference` per sentence; the published file has one sentence per entry.

    Raises:
        FileNotFoundError: If a file is missing.
        UnsafePickleError: If the pickle holds more than plain values.
        ValueError: If an entry lacks a field or has a value of another kind; the message names entry and field. If
            two references have the same numbers.
    """
    source = archive.location(REFERENCES_FILE)
    entries = load_plain_pickle(archive.read(REFERENCES_FILE), source=source)
    if not isinstance(entries, list):
        raise ValueError(f"{source}: expected a list of references, got {type(entries).__name__}")
    categories = _category_names(read_instances(archive) if instances is None else instances, archive)
    references: list[Reference] = []
    for number, entry in enumerate(entries):
        references.extend(_references_of(entry, categories, source=f"{source}, entry {number}"))
    repeated = repeated_references(references) if unique else []
    if repeated:
        raise ValueError(
            f"{source}: expected every reference once, got {len(repeated)} again, such as ref_id "
            f"{repeated[0].ref_id} with sent_id {repeated[0].sent_id}; fetch the file again"
        )
    return references


def repeated_references(references: Iterable[Reference]) -> list[Reference]:
    """Return the references whose numbers (``ref_id`` and ``sent_id``) an earlier one has."""
    seen: set[tuple[int, int]] = set()
    repeated = []
    for reference in references:
        key = (reference.ref_id, reference.sent_id)
        if key in seen:
            repeated.append(reference)
        seen.add(key)
    return repeated


def read_annotations(archive: Archive, instances: Mapping[str, Any] | None = None) -> dict[int, Annotation]:
    """Read all annotations by their numbers.

    Args:
        archive: The opened download.
        instances: What `read_instances` returned; read from the archive by default.

    Raises:
        FileNotFoundError: If the file is missing.
        ValueError: If an annotation lacks a field or has a value of another kind.
    """
    instances = read_instances(archive) if instances is None else instances
    categories = _category_names(instances, archive)
    annotations: dict[int, Annotation] = {}
    for number, entry in enumerate(instances["annotations"]):
        source = f"{archive.location(INSTANCES_FILE)}, annotation {number}"
        ann_id = _field(entry, "id", int, source)
        if ann_id in annotations:
            raise ValueError(f"{source}: the id {ann_id} occurs twice; fetch the file again")
        box = _field(entry, "bbox", list, source)
        if len(box) != 4 or not all(isinstance(value, int | float) for value in box):
            raise ValueError(f"{source}: expected 'bbox' as 4 numbers, got {reprlib.repr(box)}")
        category_id = entry.get("categories_id", entry.get("category_id"))  # the published file has the plural
        annotations[ann_id] = Annotation(
            ann_id=ann_id,
            image_id=_field(entry, "image_id", int, source),
            category=categories.get(category_id, "") if isinstance(category_id, int) else "",
            bbox_xyxy=(float(box[0]), float(box[1]), float(box[2]), float(box[3])),
            segmentation=entry.get("segmentation"),
        )
    return annotations


def _references_of(entry: Any, categories: Mapping[int, str], source: str) -> list[Reference]:
    """Return the references of one entry of the pickle."""
    split = _field(entry, "split", str, source)
    if split not in SPLIT_NAMES:
        raise ValueError(f"{source}: expected 'split' of {sorted(SPLIT_NAMES)}, got {split!r}")
    category_id = _field(entry, "category_id", int, source)
    if category_id not in categories:
        raise ValueError(f"{source}: 'category_id' {category_id} has no name in {INSTANCES_FILE}")
    sentences = _field(entry, "sentences", list, source)
    if not sentences:
        raise ValueError(f"{source}: expected at least one sentence, got none")
    references = []
    for sentence in sentences:
        key = "raw" if isinstance(sentence, dict) and "raw" in sentence else "sent"
        expression = _field(sentence, key, str, f"{source}, sentence").strip()
        if not expression:
            raise ValueError(f"{source}: expected an expression, got a blank one")
        check_text(expression, source=f"{source}, sentence")
        references.append(
            Reference(
                ref_id=_field(entry, "ref_id", int, source),
                ann_id=_field(entry, "ann_id", int, source),
                image_id=_field(entry, "image_id", int, source),
                split=SPLIT_NAMES[split],
                file_name=_field(entry, "file_name", str, source),
                category=categories[category_id],
                expression=expression,
                sent_id=_field(sentence, "sent_id", int, f"{source}, sentence"),
            )
        )
    return references


def _category_names(instances: Mapping[str, Any], archive: Archive) -> dict[int, str]:
    source = f"{archive.location(INSTANCES_FILE)}, 'categories'"
    return {_field(entry, "id", int, source): _field(entry, "name", str, source) for entry in instances["categories"]}


def _field(entry: Any, key: str, kind: type, source: str) -> Any:
    """Return a field of a dictionary after checking that it is there and of its kind; whole numbers may be text."""
    if not isinstance(entry, dict):
        raise ValueError(f"{source}: expected a dictionary, got {type(entry).__name__}")
    value = entry.get(key)
    if kind is int and isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
        return int(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        found = f"{type(value).__name__} {reprlib.repr(value)}" if key in entry else "no such field"
        raise ValueError(f"{source}: expected {key!r} as {kind.__name__}, got {found}; fetch the file again")
    return value
